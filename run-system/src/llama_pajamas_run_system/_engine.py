"""What an engine of system voices does, so that the backend is the same on every system."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.types.audio import Voice


class VoiceEngine(Protocol):
    """A speech synthesizer that comes with the system. Used from one thread."""

    #: The engine's name for people.
    title: str

    @property
    def rate(self) -> int:
        """Samples per second of everything it makes."""

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The voices that are listed, the default one first."""

    def find(self, wanted: str) -> Voice | None:
        """The voice of that id, also one that is not listed; None where there is none."""

    def speak(self, text: str, voice: str, speed: float) -> Iterator[npt.NDArray[np.float32]]:
        """Speak a sentence or a few.

        Args:
            text: not blank.
            voice: a voice's id.
            speed: 0.25 to 4.

        Returns:
            pieces of sound, float32 [n] at :attr:`rate`.

        Raises:
            InferenceError: the engine failed.
        """

    def close(self) -> None:
        """Let go of the engine."""
