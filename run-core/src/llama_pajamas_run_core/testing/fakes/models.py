"""The fakes as a runtime, as models of a catalogue, and as what the pool loads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.artifacts.catalogue import Artifact, Catalogue, ModelEntry
from llama_pajamas_run_core.artifacts.store import Store
from llama_pajamas_run_core.pool.plan import Plan, Planner
from llama_pajamas_run_core.runtimes.info import Room, RuntimeInfo
from llama_pajamas_run_core.testing.fakes.llm import FakeBatchLLM, FakeLLM
from llama_pajamas_run_core.testing.fakes.senses import FakeSTT, FakeTTS, FakeVision
from llama_pajamas_run_core.types.tasks import Task

_PACKAGE: Final = __name__.rpartition(".")[0]

#: The fakes as a runtime.
FAKE_RUNTIME = RuntimeInfo(
    name="fake",
    title="fakes",
    rooms={
        Task.LLM: Room(f"{_PACKAGE}:FakeLLM", ("fake-llm",), "echo", (), ""),
        Task.VISION: Room(f"{_PACKAGE}:FakeVision", ("fake-vision",), "colours", (), ""),
        Task.STT: Room(f"{_PACKAGE}:FakeSTT", ("fake-stt",), "counting", (), ""),
        Task.TTS: Room(f"{_PACKAGE}:FakeTTS", ("fake-tts",), "tones", (), ""),
    },
    hardware="anything",
    supports=lambda profile: None,
)

_CLASSES = {Task.LLM: FakeLLM, Task.VISION: FakeVision, Task.STT: FakeSTT, Task.TTS: FakeTTS}


def fake_entry(id: str, task: Task, *, size: int = 1000, **more: Any) -> ModelEntry:
    """A model of the catalogue that a fake plays.

    Args:
        id: its name.
        task: what it does.
        size: bytes that it seems to have.
        more: further fields of the entry.
    """
    artifact = Artifact(f"fake-{task}", lambda: Path(__file__), size)
    return ModelEntry(id, task, (artifact,), f"A fake for {task.label}.", "fakes", 1_700_000_000, **more)


def fake_catalogue(root: Path, *entries: ModelEntry) -> Catalogue:
    """A catalogue of fakes alone.

    Args:
        root: an empty folder, for the store of pulled models.
        entries: the models; without any, one for each task and kind of look.
    """
    catalogue = Catalogue(store=Store(root), packages=False)
    for entry in entries or (
        fake_entry("echo", Task.LLM, aliases=("gpt-4o",), default=True),
        fake_entry("team/echo-batch", Task.LLM),
        fake_entry("echo-omni", Task.LLM),
        fake_entry("counter", Task.STT, aliases=("whisper-1",), default=True),
        fake_entry("tones", Task.TTS, aliases=("tts-1",), default=True),
        fake_entry("colour-detector", Task.VISION, default=True, abilities=frozenset({"detect"})),
        fake_entry("colour-segmenter", Task.VISION, abilities=frozenset({"detect", "segment"})),
        fake_entry("colour-classifier", Task.VISION, abilities=frozenset({"classify"})),
        fake_entry("colour-embedder", Task.VISION, abilities=frozenset({"embed", "embed_text"})),
    ):
        catalogue.add(entry)
    return catalogue


def fake_planner(options: Mapping[str, Mapping[str, Any]] | None = None) -> Planner:
    """Plans every model of :func:`fake_catalogue`; a model takes as much memory as its artifact's size says.

    Args:
        options: load options by model id, beside those that the standard models need.
    """
    standard: dict[str, dict[str, Any]] = {
        "echo-omni": {"omni": True},
        "colour-segmenter": {"does": "segment"},
        "colour-classifier": {"does": "classify"},
        "colour-embedder": {"does": "embed"},
    }

    def plan(entry: ModelEntry) -> Plan:
        artifact = entry.artifacts[0]
        kind = FakeBatchLLM if entry.id.endswith("-batch") else _CLASSES[entry.task]
        merged = {**standard.get(entry.id, {}), **(options or {}).get(entry.id, {})}
        return Plan("fake", lambda: kind, artifact.materialize, artifact.size, merged)

    return plan
