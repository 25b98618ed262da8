"""What a speech model's engines hear, beside what its graphs hear in FP32."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.backends.whisper import WhisperSTTBackend
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.text.word_errors import word_error_rate, words_of
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.whisper.cache import Places
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_tensorrt.export.gate import Change, limit_of
from llama_pajamas_run_tensorrt.export.reference import Reference
from llama_pajamas_run_tensorrt.whisper import TensorRTWhisper, open_whisper

Arrays = Mapping[str, npt.NDArray[Any]]


def measure_spoken(
    graphs: Path,
    engines: tuple[Path, Path],
    sizes: Dimensions,
    recordings: Sequence[Audio],
    *,
    device: int,
    precision: str,
    limit: float | None = None,
) -> Change:
    """Transcribe recordings with graphs and engines: the word error rate of the engines, FP32's words being the truth.

    Args:
        graphs: the folder of encoder.onnx and decoder.onnx.
        engines: the engines of both.
        sizes: the model's dimensions.
        recordings: of speech.
        device: CUDA's index of the GPU.
        precision: the engines', for the limit.
        limit: the most words in a hundred that may change; None for the precision's own limit.

    Raises:
        BadInput: FP32 hears no words.
    """
    with _Plain(graphs, sizes=sizes) as plain:
        wanted = [plain.transcribe(audio).text for audio in recordings]
    if not any(map(words_of, wanted)):
        raise BadInput("The model hears no words in the recordings.", param="speech")
    with _Engines(graphs, sizes=sizes, engines=engines, device=device) as measured:
        made = [measured.transcribe(audio).text for audio in recordings]
    rate = word_error_rate(zip(wanted, made, strict=True))
    return Change("WER", 1.0 - rate, 0.0, len(recordings), limit_of("WER", precision, limit))


class _Plain(WhisperSTTBackend):
    """The graphs on the CPU."""

    runtime: ClassVar[str] = "onnx"
    _options: ClassVar[tuple[str, ...]] = ("sizes",)

    def _open(self, path: Path, **options: Any) -> "ReferenceWhisper":
        return ReferenceWhisper(path, options["sizes"])


class _Engines(WhisperSTTBackend):
    """Two engines, whatever they are called."""

    runtime: ClassVar[str] = "tensorrt"
    _options: ClassVar[tuple[str, ...]] = ("sizes", "engines", "device")

    def _open(self, path: Path, **options: Any) -> TensorRTWhisper:
        encoder, decoder = options["engines"]
        return open_whisper(encoder, decoder, options["sizes"], device=options["device"])


@dataclass(slots=True)
class _Transcript:
    """What the decoder has read of one batch: the encoded audio, keys and values, and how many tokens they hold."""

    audio: Arrays
    cache: Arrays
    past: int = 0


class ReferenceWhisper:
    """The graphs that ``llama-pajamas export onnx`` writes, as
    :class:`~llama_pajamas_run_core.whisper.model.WhisperModel` describes them, computed by :class:`Reference`.

    Args:
        folder: of encoder.onnx and decoder.onnx.
        sizes: the model's dimensions.
    """

    windows: Final = 1
    flexible: Final = False

    def __init__(self, folder: Path, sizes: Dimensions) -> None:
        self.sizes = sizes
        self._encoder, self._decoder = (Reference(folder / f"{name}.onnx") for name in ("encoder", "decoder"))

    def encode(self, mel: npt.NDArray[np.float32]) -> Arrays:
        """Encode spectrograms [n, n_mels, frames]."""
        return {name: array for name, array in self._encoder.run({"mel": mel}).items() if name.startswith("cross_")}

    def start(self, audio: Arrays) -> _Transcript:
        """An empty transcript."""
        sizes, rows = self.sizes, len(next(iter(audio.values())))
        width = sizes.n_text_state // sizes.n_text_head
        shapes = {"key": (width, sizes.n_text_ctx), "value": (sizes.n_text_ctx, width)}
        return _Transcript(audio, {
            f"{part}_{layer}": np.zeros((rows, sizes.n_text_head, *shape), np.float32)
            for layer in range(sizes.n_text_layer) for part, shape in shapes.items()
        })  # fmt: skip

    def step(self, transcript: _Transcript, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Take up tokens [n, k]; the logits behind the last of them."""
        made = self._read(transcript, tokens)
        transcript.cache = {name: made[f"new_{name}"] for name in transcript.cache}
        transcript.past += tokens.shape[1]
        return made["logits"]

    def align(self, audio: Arrays, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """How much each token attends to the audio, [n, heads, k, positions]."""
        return self._read(self.start(audio), tokens)["scores"]

    def close(self) -> None:
        """Free the graphs."""
        del self._encoder, self._decoder

    def _read(self, transcript: _Transcript, tokens: npt.NDArray[np.int32]) -> dict[str, npt.NDArray[Any]]:
        places = Places.of(transcript.past, tokens.shape[1], self.sizes.n_text_ctx)
        told = {"positions": places.positions, "write": places.write, "mask": places.mask}
        return self._decoder.run({"tokens": tokens, **told, **transcript.audio, **transcript.cache})
