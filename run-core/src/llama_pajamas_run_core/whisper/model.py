"""What a runtime computes of Whisper; the package's docstring says what it may rely on."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.whisper.sizes import Dimensions


class WhisperModel(Protocol):
    """Encoder and decoder of a loaded model."""

    @property
    def sizes(self) -> Dimensions:
        """How large it is."""

    @property
    def windows(self) -> int:
        """How many windows of audio it computes together at most."""

    @property
    def flexible(self) -> bool:
        """Whether it encodes any even number of frames; if not, always those of 30 seconds."""

    def encode(self, mel: npt.NDArray[np.float32]) -> Any:
        """Encode audio.

        Args:
            mel: float32 [n, n_mels, frames], log-mel spectrograms as ``dsp.mel`` makes them.

        Returns:
            a handle for :meth:`start` and :meth:`align`.
        """

    def start(self, audio: Any) -> Any:
        """A handle of an empty transcript of encoded audio."""

    def step(self, transcript: Any, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Take up tokens.

        Args:
            transcript: the handle; what it stands for grows by the tokens.
            tokens: int32 [n, k].

        Returns:
            the logits behind the last of them, float32 [n, n_vocab]; the caller may write to it, and has it until the
            next call.
        """

    def align(self, audio: Any, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32] | None:
        """How much each of a transcript's tokens attends to the audio.

        Args:
            audio: the handle of :meth:`encode`.
            tokens: int32 [n, k], the whole transcript.

        Returns:
            the scores of the alignment heads before the softmax, float32 [n, heads, k, positions]; None where the
            network does not show them.
        """

    def close(self) -> None:
        """Free the model."""
