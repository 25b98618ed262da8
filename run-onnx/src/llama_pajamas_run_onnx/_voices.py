"""What a family of neural voices does, so that the backend is the same for all."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.types.audio import Voice


class VoiceModel(Protocol):
    """One or more loaded voices. Used from one thread."""

    #: The family's name for people.
    family: str

    @property
    def rate(self) -> int:
        """Samples per second of everything it makes."""

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The voices, the default one first."""

    @property
    def device(self) -> str:
        """What it runs on."""

    def speak(self, text: str, voice: str, speed: float, language: str | None) -> Iterator[npt.NDArray[np.float32]]:
        """Speak a sentence or a few.

        Args:
            text: not blank.
            voice: id of one of :attr:`voices`.
            speed: 0.25 to 4.
            language: BCP 47 tag, where a voice speaks several; None for the voice's own.

        Returns:
            pieces of sound, float32 [n] at :attr:`rate`.

        Raises:
            InferenceError: the model failed.
        """
