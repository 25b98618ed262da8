"""Sessions: what is compiled once, what serves while the Neural Engine prepares itself, and what errors become."""

import logging
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from support.coreml_programs import builder, ct, program, save

from llama_pajamas_run_core.errors import BadInput, InferenceError, LoadError, OutOfMemory, Unsupported
from llama_pajamas_run_coreml import _session
from llama_pajamas_run_coreml._compiled import content_hash
from llama_pajamas_run_coreml._session import CoreML, Session
from llama_pajamas_run_coreml.evaluate.evaluator import Evaluator

mb = builder()


class StandIn:
    """Stands in for Core ML where there is none: "compiled" models are copies, and the evaluator predicts."""

    version = "macOS 15.0, coremltools 9.0"

    def __init__(self):
        self.compiled, self.opened = [], []
        self.gate = threading.Event()
        self.gate.set()
        self.fails = None

    def compile(self, package, target):
        self.compiled.append(package)
        shutil.copytree(package, target / "package.mlpackage")

    def open(self, model, units):
        if units != "cpu_and_gpu":
            assert self.gate.wait(20)
        if self.fails == units:
            raise RuntimeError("E5RT: the Neural Engine refuses")
        self.opened.append((model, units))
        return Evaluator(model / "package.mlpackage")


@pytest.fixture
def core_ml(monkeypatch, tmp_path):
    monkeypatch.setenv("LLAMA_PAJAMAS_HOME", str(tmp_path / "home"))
    engine = StandIn()
    monkeypatch.setattr(_session, "_engine", lambda: engine)
    return engine


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """x [1, 3] -> y = 2 x."""
    made = program({"x": np.zeros((1, 3), np.float32)}, lambda x: mb.mul(x=x, y=2.0, name="y"))
    return save(made, tmp_path_factory.mktemp("session") / "double.mlpackage", metadata={"note": "hello"})


X = {"x": np.array([[1.0, -2.0, 3.0]])}


def test_a_package_is_compiled_once_and_said_so(core_ml, package, caplog):
    caplog.set_level(logging.INFO)
    with_it = Session(package, compute_units="cpu_only")
    np.testing.assert_array_equal(with_it.predict(X)["y"], [[2, -4, 6]])
    assert with_it.metadata == {"note": "hello"} | {k: v for k, v in with_it.metadata.items() if k != "note"}
    assert "double.mlpackage is compiled for this machine" in caplog.text
    assert with_it.details["compile_seconds"] == round(with_it.prepared, 2)
    caplog.clear()
    again = Session(package, compute_units="cpu_only")
    assert again.prepared == 0
    assert "compiled" not in caplog.text
    assert core_ml.compiled == [package]
    assert len({model for model, _ in core_ml.opened}) == 1


def test_a_changed_package_or_system_is_compiled_again(core_ml, package, tmp_path):
    Session(package, compute_units="cpu_only")
    copy = shutil.copytree(package, tmp_path / "double.mlpackage")
    (copy / "Manifest.json").write_text((copy / "Manifest.json").read_text() + " ")
    assert content_hash(copy) == content_hash(package)  # coremltools puts new ids into every manifest
    Session(copy, compute_units="cpu_only")
    assert len(core_ml.compiled) == 1
    (copy / "Data" / "note.txt").write_text("changed")
    Session(copy, compute_units="cpu_only")
    assert len(core_ml.compiled) == 2
    core_ml.version = "macOS 15.1, coremltools 9.0"
    Session(package, compute_units="cpu_only")
    assert len(core_ml.compiled) == 3


def test_a_compiled_model_that_is_damaged_is_made_again(core_ml, package):
    Session(package, compute_units="cpu_only")
    (model, _) = core_ml.opened[0]
    shutil.rmtree(model / "package.mlpackage")
    session = Session(package, compute_units="cpu_only")
    np.testing.assert_array_equal(session.predict(X)["y"], [[2, -4, 6]])
    assert len(core_ml.compiled) == 2


def test_cpu_and_gpu_serve_until_the_neural_engine_is_ready(core_ml, package):
    core_ml.gate.clear()
    session = Session(package)
    assert session.details["compute_units"] == "cpu_and_gpu"
    assert session.details["preparing_neural_engine"]
    np.testing.assert_array_equal(session.predict(X)["y"], [[2, -4, 6]])
    core_ml.gate.set()
    session._waiting.join(20)
    assert session.details["compute_units"] == "all"
    assert not session.details["preparing_neural_engine"]
    np.testing.assert_array_equal(session.predict(X)["y"], [[2, -4, 6]])
    session.close()
    # The system has kept what the Neural Engine prepared: nobody waits again.
    assert Session(package).details["compute_units"] == "all"
    assert [units for _, units in core_ml.opened] == ["cpu_and_gpu", "all", "all"]


def test_the_quick_start_can_be_asked_for_and_turned_off(core_ml, package):
    assert Session(package, quick_start=False).details["compute_units"] == "all"
    quick = Session(package, compute_units="cpu_and_ne", quick_start=True)
    quick.close()
    assert [units for _, units in core_ml.opened] == ["all", "cpu_and_gpu", "cpu_and_ne"]
    assert Session(package, compute_units="cpu_only", quick_start=True).compute_units == "cpu_only"


def test_where_the_neural_engine_fails_cpu_and_gpu_go_on(core_ml, package):
    core_ml.fails = "all"
    session = Session(package)
    session._waiting.join(20)
    assert session.details["compute_units"] == "cpu_and_gpu"
    assert session.details["neural_engine"] == "E5RT: the Neural Engine refuses"
    np.testing.assert_array_equal(session.predict(X)["y"], [[2, -4, 6]])


def test_a_cache_that_cannot_be_written_to_stops_nobody(core_ml, package, monkeypatch):
    def refuse(path):
        raise OSError(f"{path} is read-only")

    Session(package, compute_units="cpu_only")
    monkeypatch.setattr(Path, "touch", refuse)
    session = Session(package)
    session._waiting.join(20)
    assert session.details["compute_units"] == "all"
    assert Session(package, quick_start=False).details["compute_units"] == "all"


def test_closing_waits_for_the_preparation(core_ml, package):
    core_ml.gate.clear()
    session = Session(package)
    threading.Timer(0.2, core_ml.gate.set).start()
    session.close()
    assert not session.preparing
    assert session.compute_units == "cpu_and_gpu"


def test_what_is_remembered_stays_with_its_predictor(core_ml, tmp_path):
    types = ct.converters.mil.mil.types

    @mb.program(
        input_specs=[mb.TensorSpec((1, 2), types.fp16), mb.StateTensorSpec((1, 2), types.fp16)],
        opset_version=ct.target.iOS18,
    )
    def sums(x, total):
        return mb.identity(
            x=mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x)), name="y"
        )

    core_ml.gate.clear()
    session = Session(save(sums, tmp_path / "sums.mlpackage"))
    memory = session.make_memory()
    x = {"x": np.ones((1, 2), np.float32)}
    session.predict(x, memory)
    core_ml.gate.set()
    session._waiting.join(20)
    np.testing.assert_array_equal(session.predict(x, memory)["y"], [[2, 2]])
    np.testing.assert_array_equal(session.predict(x, session.make_memory())["y"], [[1, 1]])


def test_errors_are_ours(core_ml, package, monkeypatch):
    core_ml.fails = "cpu_only"
    with pytest.raises(LoadError, match="double.mlpackage could not be loaded: E5RT"):
        Session(package, compute_units="cpu_only")
    session = Session(package, compute_units="cpu_and_gpu")
    with pytest.raises(BadInput, match="lacks its input"):
        session.predict({})
    for text, kind in (("Error in declaring network", InferenceError), ("Out of memory", OutOfMemory)):

        def fail(feeds, text=text):
            raise RuntimeError(text)

        monkeypatch.setattr(session._predictor, "predict", fail)
        with pytest.raises(kind, match=text):
            session.predict(X)


def test_compute_units_are_checked(package):
    with pytest.raises(BadInput, match="no compute units 'gpu'.*cpu_and_ne"):
        Session(package, compute_units="gpu")


@pytest.mark.skipif(sys.platform == "darwin", reason="there it loads")
def test_elsewhere_it_says_that_this_is_no_mac(package):
    with pytest.raises(Unsupported, match="macOS only.*reference"):
        Session(package)


def test_the_reference_computes_anywhere(package):
    session = Session(package, compute_units="reference")
    np.testing.assert_array_equal(session.predict(X)["y"], [[2, -4, 6]])
    assert session.details["compute_units"] == "reference"
    assert session.details["compile_seconds"] == 0


@pytest.mark.apple
@pytest.mark.parametrize("units", ["all", "cpu_and_gpu", "cpu_only"])
def test_core_ml_itself_computes_what_the_evaluator_does(package, units):
    session = Session(package, compute_units=units)
    assert CoreML().version.startswith("macOS")
    np.testing.assert_allclose(session.predict(X)["y"], [[2, -4, 6]])
    session.close()
