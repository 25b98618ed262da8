"""What a model can be asked to do."""

from enum import StrEnum


class Task(StrEnum):
    """A modality: one abstract backend each."""

    LLM = "llm"
    VISION = "vision"
    STT = "stt"
    TTS = "tts"

    @property
    def label(self) -> str:
        """The task's name in words, for tables and messages."""
        return _LABELS[self]


_LABELS = {
    Task.LLM: "language",
    Task.VISION: "vision",
    Task.STT: "speech to text",
    Task.TTS: "text to speech",
}
