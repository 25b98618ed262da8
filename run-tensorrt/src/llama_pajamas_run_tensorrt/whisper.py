"""Whisper's network in two engines; what the decoder remembers stays on the GPU."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_core.whisper.cache import Places
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_tensorrt._session import DeviceArray, Feed, Session
from llama_pajamas_run_tensorrt._whisper_step import Step


@dataclass(slots=True)
class Transcript:
    """What the decoder has read of one batch.

    Attributes:
        audio: what the encoder gave.
        rows: of the batch.
        whole: whether the audio has all positions that the engines take.
        past: tokens in the cache.
    """

    audio: Mapping[str, DeviceArray]
    rows: int
    whole: bool
    past: int = 0


class TensorRTWhisper:
    """A loaded model, as :class:`~llama_pajamas_run_core.whisper.model.WhisperModel` describes it.

    The cache is in the GPU's memory twice: each step reads one and writes the other. So the work of a step is always
    one of two, of the same shapes and addresses, and is started as a CUDA graph.

    Args:
        encoder: the encoder's engine. Both are closed with the model, also when it cannot be made.
        decoder: the decoder's.
        sizes: the model's dimensions.

    Raises:
        LoadError: the engines are not those of such a model.
        OutOfMemory: the cache does not fit.
    """

    def __init__(self, encoder: Session, decoder: Session, sizes: Dimensions) -> None:
        self.sizes = sizes
        self._encoder, self._decoder = encoder, decoder
        with ExitStack() as undo:
            undo.callback(self.close)
            self._check()
            self._encoding, self._decoding = encoder.take_lane(), decoder.take_lane()
            self._which, self._steps = 0, dict[int, Step]()
            with decoder.device.current():
                self._audio = self._empty(self._cross)
                self._caches = (self._empty(self._names), self._empty(self._names))
                self._decoding.synchronize()
            undo.pop_all()

    @property
    def windows(self) -> int:
        """How many windows of audio it computes together at most."""
        return min(self._encoder.input("mel").largest[0], self._decoder.input("tokens").largest[0])

    @property
    def host_memory(self) -> int:
        """Bytes of pinned host memory that both engines use."""
        return self._encoder.host_memory + self._decoder.host_memory

    @property
    def details(self) -> Mapping[str, Any]:
        """The decoder's facts for people, with the memory of both engines."""
        about = {name: value for name, value in self._decoder.details.items() if name not in ("inputs", "lanes")}
        return {**about, "memory": self._encoder.memory + self._decoder.memory}

    @property
    def flexible(self) -> bool:
        """Whether the engines were built for fewer frames than those of 30 seconds as well."""
        limits = self._encoder.input("mel").limits
        return bool(limits) and limits[0][0][2] < limits[0][2][2]

    def encode(self, mel: npt.NDArray[np.float32]) -> Mapping[str, DeviceArray]:
        """Encode spectrograms [n, n_mels, frames]; the result stays on the GPU until the next call."""
        with self._encoder.device.current():
            made = self._encoding.run({"mel": mel}, into=self._audio)
            self._encoding.synchronize()  # the decoder's lane does not wait for this one
        return {name: made[name] for name in self._cross}

    def start(self, audio: Mapping[str, DeviceArray]) -> Transcript:
        """An empty transcript. What the cache still holds is hidden by the mask until it is overwritten."""
        whole = all(array.shape[1:] == self._audio[name].shape[1:] for name, array in audio.items())
        return Transcript(audio, next(iter(audio.values())).shape[0], whole)

    def step(self, transcript: Transcript, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Take up tokens [n, k]; the logits behind the last of them."""
        step = self._single(transcript) if tokens.shape[1] == 1 else None
        if step is None:
            made = self._read(transcript, tokens)
        else:
            with self._decoder.device.current():
                made = step.run(tokens, Places.of(transcript.past, 1, self._room), self._which)
            self._which = 1 - self._which
        transcript.past += tokens.shape[1]
        return made

    def align(self, audio: Mapping[str, DeviceArray], tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """How much each token attends to the audio, [n, heads, k, positions]."""
        return self._read(self.start(audio), tokens, output="scores")

    def close(self) -> None:
        """Free the engines and the cache."""
        self._decoder.close()
        self._encoder.close()

    def _read(
        self, transcript: Transcript, tokens: npt.NDArray[np.int32], output: str = "logits"
    ) -> npt.NDArray[np.float32]:
        places = Places.of(transcript.past, tokens.shape[1], self._room)
        caches = self._caches[self._which], self._caches[1 - self._which]
        old, new = ({name: array.view((transcript.rows, *array.shape[1:])) for name, array in cache.items()}
                    for cache in caches)  # fmt: skip
        feeds: dict[str, Feed] = {
            "tokens": np.ascontiguousarray(tokens),
            "positions": places.positions,
            "write": places.write,
            "mask": places.mask,
            **transcript.audio,
            **old,
        }
        with self._decoder.device.current():
            made = self._decoding.run(feeds, into={f"new_{name}": array for name, array in new.items()})
            self._which = 1 - self._which
            result = self._decoding.download(made[output])
        return result.astype(np.float32, copy=False)

    def _check(self) -> None:
        sizes, decoder = self.sizes, self._decoder
        layers = range(sizes.n_text_layer)
        self._cross = [f"cross_{part}_{layer}" for layer in layers for part in ("key", "value")]
        self._names = [f"{part}_{layer}" for layer in layers for part in ("key", "value")]
        wanted = {"tokens", "positions", "write", "mask", *self._cross, *self._names}
        given = {one.name for one in decoder.inputs}
        made = {one.name for one in self._encoder.outputs}
        if given != wanted or not made.issuperset(self._cross) or self._encoder.inputs[0].name != "mel":
            raise LoadError(
                f"{decoder.path.parent} does not hold the engines that its config.json describes.",
                hint="Export the checkpoint to ONNX with llama-pajamas, and that folder to TensorRT.",
            )
        self._room = decoder.input("mask").largest[1]
        if self._room < sizes.n_text_ctx or decoder.input("tokens").largest[1] < sizes.n_text_ctx:
            raise LoadError(
                f"{decoder.path} was built for {self._room} tokens, the model has {sizes.n_text_ctx}.",
                hint="Export the folder with both graphs to TensorRT: that tells the sizes.",
            )

    def _empty(self, names: Sequence[str]) -> dict[str, DeviceArray]:
        inputs = [self._decoder.input(name) for name in names]
        return {one.name: self._decoding.zeros((self.windows, *one.largest[1:]), one.dtype) for one in inputs}

    def _single(self, transcript: Transcript) -> Step | None:
        """What takes one token for so many rows with a single start; None where that cannot be, or is not worth it."""
        rows = transcript.rows
        if not transcript.whole or (rows not in self._steps and not self._record(rows)):
            return None
        return self._steps[rows]

    def _record(self, rows: int) -> bool:
        if rows not in (1, self.windows) or self._decoder.graphs_state != "on":
            return False
        with self._decoder.device.current():
            step = Step(self._decoding, rows, self._audio, self._caches)
        if step.recorded:
            self._steps[rows] = step
        return step.recorded


def open_whisper(encoder: Path, decoder: Path, sizes: Dimensions, **session: Any) -> TensorRTWhisper:
    """Load both engines of a model. On failure nothing is left behind.

    Args:
        encoder: the encoder's engine.
        decoder: the decoder's.
        sizes: the model's dimensions.
        session: further arguments of both sessions.

    Raises:
        BadInput, LoadError, OutOfMemory: as :class:`~llama_pajamas_run_tensorrt._session.Session` and
            :class:`TensorRTWhisper` raise them.
    """
    listening = Session(encoder, **session)
    try:
        deciding = Session(decoder, **session)
    except BaseException:
        listening.close()
        raise
    return TensorRTWhisper(listening, deciding, sizes)
