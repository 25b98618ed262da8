"""What descriptors, entry points and READMEs promise is there."""

import importlib
import inspect
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from llama_pajamas_run_core.artifacts.catalogue import GROUP as MODELS
from llama_pajamas_run_core.artifacts.catalogue import ModelEntry
from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.hardware.profiles import from_json
from llama_pajamas_run_core.runtimes.discovery import GROUP, discover
from llama_pajamas_run_core.runtimes.info import RuntimeInfo

ROOT = Path(__file__).parents[2]
PROFILES = [from_json(path.read_text("utf-8")) for path in (ROOT / "tests/core/hardware/profiles").glob("*.json")]
ROOMS = [(info, task, room) for info in discover() for task, room in info.rooms.items()]


@pytest.mark.parametrize("point", entry_points(group=GROUP), ids=lambda point: point.name)
def test_entry_points_of_runtimes_resolve(point):
    info = point.load()
    assert isinstance(info, RuntimeInfo)
    assert info.name == point.name


@pytest.mark.parametrize("point", entry_points(group=MODELS), ids=lambda point: point.name)
def test_entry_points_of_models_resolve(point):
    entries = point.load()()
    assert all(isinstance(entry, ModelEntry) for entry in entries)


def test_each_model_of_a_package_has_a_room():
    formats = {(task, name) for _, task, room in ROOMS for name in room.formats}
    for point in entry_points(group=MODELS):
        for entry in point.load()():
            assert any((entry.task, artifact.format) in formats for artifact in entry.artifacts), entry.id


@pytest.mark.parametrize("info", discover(), ids=lambda info: info.name)
def test_every_machine_gets_an_answer(info):
    for profile in PROFILES:
        reason = info.supports(profile)
        assert reason is None or (reason and reason[-1] not in ".\n")


@pytest.mark.parametrize(("info", "task", "room"), ROOMS, ids=[f"{info.name}-{task}" for info, task, _ in ROOMS])
def test_rooms_lead_to_backends(info, task, room):
    package, name = room.backend.partition(":")[0].rpartition(".")[0], room.backend.partition(":")[2]
    assert package == f"llama_pajamas_run_{info.name}"
    assert name in importlib.import_module(package).__all__
    if room.missing():
        pytest.skip(f"not installed: {', '.join(room.missing())}")
    backend = room.load_class()
    assert issubclass(backend, Backend)
    assert not inspect.isabstract(backend)
    assert (backend.task, backend.runtime) == (task, info.name)
    assert getattr(importlib.import_module(package), name) is backend


@pytest.mark.parametrize(("info", "task", "room"), ROOMS, ids=[f"{info.name}-{task}" for info, task, _ in ROOMS])
def test_readmes_say_what_descriptors_say(info, task, room):
    text = (ROOT / f"run-{info.name}" / "README.md").read_text("utf-8")
    row = next(line for line in text.splitlines() if line.startswith(f"| {task.label} |") and room.install in line)
    assert info.hardware.split(";")[0].split(",")[0] in text
    assert row.count("|") == 6
