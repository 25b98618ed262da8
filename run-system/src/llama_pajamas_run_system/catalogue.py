"""The system's voice as an entry of the catalogue."""

from pathlib import Path

from llama_pajamas_run_core.artifacts.catalogue import Artifact, ModelEntry
from llama_pajamas_run_core.types.tasks import Task

_RELEASED = 1795219200  # 2026-11-21


def entries() -> tuple[ModelEntry, ...]:
    """The one model of this package. It has no file: the backend takes the name for the voices of the system."""
    return (
        ModelEntry(
            "system-voice",
            Task.TTS,
            (Artifact("system-voice", lambda: Path("system"), 0),),
            "The voices of the system: eSpeak NG on Linux and Windows, AVFoundation on a Mac.",
            created=_RELEASED,
            aliases=("tts-1", "tts-1-hd"),
            default=True,
        ),
    )
