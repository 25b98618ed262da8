"""What a model can be asked to do."""

from enum import StrEnum


class Task(StrEnum):
    """A modality: one abstract backend each."""

    LLM = "llm"
    VISION = "vision"
    STT = "stt"
    TTS = "tts"

    @property
    def title(self) -> str:
        """The task's name in words, for tables and messages."""
        return _TITLES[self]


_TITLES = {
    Task.LLM: "language",
    Task.VISION: "vision",
    Task.STT: "speech to text",
    Task.TTS: "text to speech",
}
