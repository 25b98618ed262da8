"""Whisper's network in the two graphs that ``export/whisper.py`` writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_core.whisper.cache import Places
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_onnx._session import Kept, Session

#: The cache's room grows by this many tokens; on a GPU it is whole from the beginning.
_STEP: Final = 64

Value = npt.NDArray[Any] | Kept


@dataclass(slots=True)
class Transcript:
    """What the decoder has read of one batch.

    Attributes:
        audio: what the encoder gave.
        count: rows of the batch.
        room: how many tokens the cache has room for.
        cache: keys and values by the names of the decoder's inputs.
        past: tokens in the cache.
    """

    audio: Mapping[str, Value]
    count: int
    room: int
    cache: dict[str, Value]
    past: int = 0


class ONNXWhisper:
    """A loaded model, as :class:`~llama_pajamas_run_core.whisper.model.WhisperModel` describes it.

    Args:
        encoder: the graph of the encoder.
        decoder: the graph of the decoder.
        sizes: the model's dimensions.
        windows: how many windows of audio are computed together at most.

    Raises:
        LoadError: the graphs do not take what they should.
    """

    def __init__(self, encoder: Session, decoder: Session, sizes: Dimensions, *, windows: int) -> None:
        self.sizes, self.windows = sizes, windows
        self._encoder, self._decoder = encoder, decoder
        layers = range(sizes.n_text_layer)
        self._cross = [f"cross_{part}_{layer}" for layer in layers for part in ("key", "value")]
        self._cache = [f"{part}_{layer}" for layer in layers for part in ("key", "value")]
        wanted = {"tokens", "positions", "write", "mask", *self._cross, *self._cache}
        if wanted != {one.name for one in decoder.inputs} or {one.name for one in encoder.inputs} != {"mel"}:
            raise LoadError(
                f"{decoder.path.parent} does not hold the graphs that its config.json describes.",
                hint="Export it again: llama-pajamas export onnx CHECKPOINT FOLDER.",
            )
        self.flexible = encoder.inputs[0].size(2) is None
        self._whole = decoder.device != "cpu"

    def encode(self, mel: npt.NDArray[np.float32]) -> Mapping[str, Kept]:
        """Encode spectrograms [n, n_mels, frames]."""
        return self._encoder.run_kept({"mel": mel}, self._cross)

    def start(self, audio: Mapping[str, Kept]) -> Transcript:
        """An empty transcript."""
        count = audio[self._cross[0]].raw.shape()[0]
        room = self.sizes.n_text_ctx if self._whole else 0
        return Transcript(audio, count, room, self._empty(count, room))

    def step(self, transcript: Transcript, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Take up tokens [n, k]; the logits behind the last of them."""
        made = self._read(transcript, tokens, "logits", *(f"new_{name}" for name in self._cache))
        transcript.cache = {name: made[f"new_{name}"] for name in self._cache}
        transcript.past += tokens.shape[1]
        return made["logits"].array()

    def align(self, audio: Mapping[str, Kept], tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """How much each token attends to the audio, [n, heads, k, positions]."""
        return self._read(self.start(audio), tokens, "scores")["scores"].array()

    def close(self) -> None:
        """Free the model."""
        del self._encoder, self._decoder

    def _read(self, transcript: Transcript, tokens: npt.NDArray[np.int32], *outputs: str) -> dict[str, Kept]:
        past, count = transcript.past, tokens.shape[1]
        if past + count > transcript.room:
            self._grow(transcript, past + count)
        places = Places.of(past, count, transcript.room)
        told = {"positions": places.positions, "write": places.write, "mask": places.mask}
        feeds: dict[str, Value] = {"tokens": np.ascontiguousarray(tokens), **told}
        return self._decoder.run_kept(feeds | dict(transcript.audio) | transcript.cache, outputs)

    def _empty(self, count: int, room: int) -> dict[str, Value]:
        heads = self.sizes.n_text_head
        width = self.sizes.n_text_state // heads
        shapes = {"key": (count, heads, width, room), "value": (count, heads, room, width)}
        return {name: np.zeros(shapes[name.partition("_")[0]], np.float32) for name in self._cache}

    def _grow(self, transcript: Transcript, needed: int) -> None:
        room = min(-(-needed // _STEP) * _STEP, self.sizes.n_text_ctx)
        larger = self._empty(transcript.count, room)
        for name, array in larger.items():
            old = transcript.cache[name]
            old = old.array() if isinstance(old, Kept) else old
            if name.startswith("key"):
                array[..., : transcript.room] = old  # type: ignore[index]
            else:
                array[..., : transcript.room, :] = old  # type: ignore[index]
        transcript.cache, transcript.room = larger, room
