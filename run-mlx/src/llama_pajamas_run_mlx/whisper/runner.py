"""Whisper's network as run-core's decoding asks for it."""

from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.whisper.sizes import alignment_heads
from llama_pajamas_run_mlx._session import mapped
from llama_pajamas_run_mlx.whisper.load import load_whisper
from llama_pajamas_run_mlx.whisper.model import LayerCache


@dataclass(slots=True)
class Transcript:
    """What the decoder has read of one batch.

    Attributes:
        audio: [n, positions, d], what it listens to.
        cache: keys and values by layer, or None before the first token.
    """

    audio: mx.array
    cache: list[LayerCache] | None = None


class MLXWhisper:
    """A loaded model, as :class:`~llama_pajamas_run_core.whisper.model.WhisperModel` describes it.

    Args:
        path: the folder.
        dtype: what to compute in.
        windows: how many windows of audio are computed together at most.

    Raises:
        LoadError: the folder is missing, damaged, or no MLX Whisper model.
    """

    flexible = True

    def __init__(self, path: Path, *, dtype: str, windows: int) -> None:
        self._model, self.sizes, self.quantization = load_whisper(path, dtype)
        self._heads = alignment_heads(np.array(self._model.alignment_heads).tolist(), self.sizes)
        self.windows = windows

    def encode(self, mel: npt.NDArray[np.float32]) -> mx.array:
        """Encode spectrograms [n, n_mels, frames]."""
        with mapped():
            dtype = self._model.decoder.positional_embedding.dtype
            return self._model.encoder(mx.array(mel.swapaxes(1, 2)).astype(dtype))

    def start(self, audio: mx.array) -> Transcript:
        """An empty transcript."""
        return Transcript(audio)

    def step(self, transcript: Transcript, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Take up tokens [n, k]; the logits behind the last of them."""
        with mapped():
            logits, transcript.cache, _ = self._model.decoder(mx.array(tokens), transcript.audio, transcript.cache)
            return np.array(logits)

    def align(self, audio: mx.array, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """How much each token attends to the audio, [n, heads, k, positions]."""
        with mapped():
            _, _, seen = self._model.decoder(mx.array(tokens), audio, scores=True)
            heard = mx.stack([seen[layer][:, head] for layer, head in self._heads], axis=1)
            return np.array(heard.astype(mx.float32))

    def close(self) -> None:
        """Free the model."""
        del self._model
        mx.clear_cache()
