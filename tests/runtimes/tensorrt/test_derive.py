"""Engines built from ONNX graphs when they are first asked for, in the flavour of each TensorRT."""

import json
import logging
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from support import onnx_graphs
from support.tensorrt_stand_in.builder import Builder
from support.tensorrt_stand_in.types import say

import llama_pajamas_starter
from llama_pajamas_run_core.errors import BadInput, Unsupported
from llama_pajamas_run_tensorrt.engine_file import EngineRecord, engine_cache
from llama_pajamas_run_tensorrt.export.options import BuildOptions


@pytest.fixture
def detector(tmp_path):
    return onnx_graphs.detector(tmp_path / "detector.onnx")


def test_an_engine_is_built_once_and_runs(stand_in, detector, caplog):
    from llama_pajamas_run_tensorrt._session import Session
    from llama_pajamas_run_tensorrt.derive import engine_for

    with caplog.at_level(logging.INFO, "llama_pajamas_run_tensorrt"):
        path = engine_for(detector, task="vision", description={"config": {"labels": ["red"]}})
    assert path.is_relative_to(engine_cache())
    assert "is built from" in caplog.text
    caplog.clear()
    assert engine_for(detector, task="vision", description={"config": {"labels": ["red"]}}) == path
    assert "is built" not in caplog.text
    record = EngineRecord.read(path)
    assert record.profiles == ({"images": ((1, 3, 64, 64), (8, 3, 64, 64), (64, 3, 64, 64))},)
    assert (record.precision, record.task, record.source, record.capability) == (
        "fp16",
        "vision",
        "detector.onnx",
        (9, 0),
    )
    assert record.description == {"config": {"labels": ["red"]}}
    images = np.random.default_rng(0).random((5, 3, 64, 64), np.float32)
    with Session(path) as session:
        made = session.infer({"images": images})["output0"]
    wanted = onnxruntime.InferenceSession(detector).run(None, {"images": images})[0]
    np.testing.assert_allclose(made, wanted, rtol=1e-3, atol=1e-3)


def test_each_choice_has_an_engine_of_its_own_and_a_damaged_one_is_built_again(stand_in, detector):
    from llama_pajamas_run_tensorrt.derive import engine_for

    half, single = engine_for(detector), engine_for(detector, BuildOptions(precision="fp32"))
    small = engine_for(detector, BuildOptions(batch=(1, 1, 4)))
    assert len({half, single, small}) == 3
    whole = half.read_bytes()
    half.write_bytes(whole[:100])
    assert engine_for(detector) == half
    assert half.read_bytes() == whole


def test_what_the_builder_is_told(stand_in, detector, monkeypatch):
    from llama_pajamas_run_tensorrt.derive import engine_for

    monkeypatch.setenv("LLAMA_PAJAMAS_TENSORRT_TACTICS", "EDGE_MASK_CONVOLUTIONS, jit_convolutions")
    record = EngineRecord.read(engine_for(detector, BuildOptions(workspace=1 << 28, level=2, detailed=True)))
    config = stand_in.tensorrt.last_config
    assert config.sources == 0b11000
    assert record.build["tactics"] == ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]
    assert (config.workspace, config.builder_optimization_level) == (1 << 28, 2)
    assert config.profiling_verbosity.name == "DETAILED"
    flags = {flag.name for flag in config.flags}
    assert flags == ({"TF32"} if stand_in.tensorrt.flavour == "11" else {"TF32", "FP16"})
    assert {feature.name for feature in config.previews} == (
        {"PROFILE_SHARING_0806"} if stand_in.tensorrt.flavour == "8.6" else set()
    )
    assert [file.name for file in engine_cache().glob("timing-*.cache")] == [
        f"timing-{stand_in.tensorrt.__version__}-9.0-NVIDIA-H200--stood-in-for-.cache"
    ]
    engine_for(detector, BuildOptions(precision="fp32"))
    assert stand_in.tensorrt.last_config.flags == set()
    assert len(stand_in.tensorrt.last_config.get_timing_cache().lines) == 2  # this build's, and the one before's
    with pytest.raises(BadInput, match="no tactic source 'CUBLASS'. There are: CUBLAS, CUBLAS_LT, CUDNN"):
        engine_for(detector, BuildOptions(tactics=("CUBLASS",)))


def test_timings_of_builds_at_the_same_time_are_all_kept(stand_in):
    from llama_pajamas_run_tensorrt._device import find_device
    from llama_pajamas_run_tensorrt.export.timings import Timings

    timings = Timings.of(find_device())
    builder = stand_in.tensorrt.Builder(None)
    configs = [builder.create_builder_config() for _ in range(2)]
    for config in configs:
        timings.give(config)
    for name, config in zip((b"one", b"other"), configs, strict=True):
        config.get_timing_cache().lines.add(name)
        timings.keep(config)
    timings.give(configs[0])
    assert configs[0].get_timing_cache().lines == {b"one", b"other"}


def test_two_threads_build_one_engine(stand_in, detector, monkeypatch):
    from llama_pajamas_run_tensorrt.derive import engine_for
    from llama_pajamas_run_tensorrt.export import build

    built = []
    plain = build.build_engine
    monkeypatch.setattr(build, "build_engine", lambda *given, **named: built.append(1) or plain(*given, **named))
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(engine_for(detector))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(built), len(set(paths))) == (1, 1)


def test_free_sizes_by_the_graphs_own_names(stand_in, tmp_path):
    from llama_pajamas_run_tensorrt.derive import engine_for

    words = onnx_graphs.word_meter(tmp_path / "text.onnx", np.eye(11, 3))
    with pytest.raises(BadInput, match="leaves the size 'length' of its input 'input_ids' free.*--dim length="):
        engine_for(words)
    path = engine_for(words, BuildOptions(batch=(1, 2, 4), dims={"length": (2, 8, 16)}))
    assert EngineRecord.read(path).profiles[0]["attention_mask"] == ((1, 2), (2, 8), (4, 16))
    shapes = {"input_ids": ((1, 3), (1, 3), (1, 3)), "attention_mask": ((1, 3), (1, 3), (1, 3))}
    assert EngineRecord.read(engine_for(words, BuildOptions(shapes=shapes))).profiles == (shapes,)
    with pytest.raises(BadInput, match="has no input 'pixels'; it has input_ids, attention_mask"):
        engine_for(words, BuildOptions(dims={"length": (2, 8, 16)}, shapes={"pixels": ((1,), (1,), (1,))}))


def test_int8_wants_images(stand_in, detector):
    from llama_pajamas_run_tensorrt.derive import engine_for

    with pytest.raises(BadInput, match="--precision int8 --calibrate FOLDER"):
        engine_for(detector, BuildOptions(precision="int8"))


def test_what_tensorrt_cannot_read_is_told(stand_in, detector):
    import onnx

    from llama_pajamas_run_tensorrt.derive import engine_for

    model = onnx.load(detector)
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, detector)
    with pytest.raises(Unsupported, match="cannot read detector.onnx: .*com.example|Plugin not found: AveragePool"):
        engine_for(detector)


@pytest.mark.parametrize("name", ["detect", "classify", "embed"])
def test_a_starter_model_becomes_an_engine_that_says_what_it_is(stand_in, name):
    from llama_pajamas_run_tensorrt._session import Session
    from llama_pajamas_run_tensorrt.derive import vision_engine

    folder = Path(llama_pajamas_starter.__file__).parent / "models" / name
    config = json.loads((folder / "config.json").read_text())
    path = vision_engine(folder, batch="1:2:4", precision="fp32")
    record = EngineRecord.read(path)
    assert record.task == "vision"
    assert record.description["labels"] == list(config.get("labels", []))
    assert record.description["input"]["width"] == config["input"]["width"]
    graph = folder / config["graphs"]["image"]
    with Session(path) as session:
        one = session.inputs[0]
        images = np.random.default_rng(0).random((3, *one.shape[1:]), np.float32)
        made = session.infer({one.name: images})
    wanted = onnxruntime.InferenceSession(graph).run(None, {one.name: images})
    for got, want in zip(made.values(), wanted, strict=True):
        assert np.abs(got - want).max() <= 1e-3 * np.abs(want).max()


def test_what_tensorrt_complains_of_while_it_builds_is_told(stand_in, detector, monkeypatch, caplog):
    from llama_pajamas_run_tensorrt.derive import engine_for

    plain = Builder.build_serialized_network

    def complaining(self, network, config):
        say(self._log, "Requested amount of GPU memory could not be allocated")
        return plain(self, network, config)

    monkeypatch.setattr(Builder, "build_serialized_network", complaining)
    assert engine_for(detector).is_file()
    assert "is built, but TensorRT said: Requested amount of GPU memory" in caplog.text
