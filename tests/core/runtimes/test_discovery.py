"""Discovery: what is found, what is left out, and that a broken package harms nobody."""

import logging
from importlib.metadata import EntryPoint

import pytest

from llama_pajamas_run_core.errors import MissingDependency
from llama_pajamas_run_core.runtimes import discovery
from llama_pajamas_run_core.runtimes.info import Room, RuntimeInfo, RuntimeState
from llama_pajamas_run_core.runtimes.packages import lazy_backends
from llama_pajamas_run_core.types.tasks import Task


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.delenv(discovery.ALLOW, raising=False)
    discovery._discover.cache_clear()
    yield
    discovery._discover.cache_clear()


def test_the_runtimes_of_the_workspace():
    assert [info.name for info in discovery.discover()] == ["coreml", "gguf", "mlx", "onnx", "system", "tensorrt"]
    assert discovery.discover() is discovery.discover()
    assert discovery.find("gguf").title == "llama.cpp and whisper.cpp"
    assert discovery.find("nothing") is None


def test_the_allow_list(monkeypatch, caplog):
    monkeypatch.setenv(discovery.ALLOW, "gguf, onnx,absent")
    assert [info.name for info in discovery.discover()] == ["gguf", "onnx"]
    assert "absent" in caplog.text
    monkeypatch.setenv(discovery.ALLOW, "")
    assert len(discovery.discover()) == 6


INFO = RuntimeInfo("mine", "Mine", {}, "any", lambda profile: None)
NO_INFO = "not a descriptor"


def test_broken_descriptors_are_logged_and_left_out(monkeypatch, caplog):
    points = [
        EntryPoint("absent", "no_such_module_anywhere:RUNTIME", discovery.GROUP),
        EntryPoint("wrong", "logging:INFO", discovery.GROUP),
        EntryPoint("mine", "mine_runtime:INFO", discovery.GROUP),
        EntryPoint("again", "mine_runtime:INFO", discovery.GROUP),
    ]
    monkeypatch.setattr(discovery, "entry_points", lambda group: points)
    real = EntryPoint.load
    monkeypatch.setattr(EntryPoint, "load", lambda point: INFO if "mine" in point.value else real(point))
    assert discovery.discover() == (INFO,)
    record = next(record for record in caplog.records if "absent" in record.getMessage())
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "is a int, not a RuntimeInfo" in caplog.text
    assert "registered twice" in caplog.text


def test_what_is_missing():
    room = Room("m:C", ("gguf",), "", ("json", "no_such_module", "no_such.module"), "uv pip install it")
    state = RuntimeState.of(RuntimeInfo("x", "X", {Task.LLM: room}, "", lambda profile: None))
    assert state.missing == {Task.LLM: ("no_such_module", "no_such.module")}
    with pytest.raises(MissingDependency, match="C needs the package no_such_module, .*uv pip install it"):
        room.load_class()


def test_lazy_names():
    room = Room("collections:OrderedDict", ("gguf",), "", (), "")
    runtime = RuntimeInfo("x", "X", {Task.LLM: room}, "", lambda profile: None)
    attribute = lazy_backends("package", runtime)
    assert attribute("OrderedDict").__name__ == "OrderedDict"
    with pytest.raises(AttributeError, match="module 'package' has no attribute 'Other'"):
        attribute("Other")


def test_installed_looks_at_every_runtime():
    assert [state.info for state in discovery.installed()] == list(discovery.discover())
    assert discovery.installed([INFO]) == (RuntimeState(INFO),)
