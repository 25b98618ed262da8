"""On a machine with an NVIDIA GPU, TensorRT and PyCUDA: ``pytest -m gpu tests/runtimes/tensorrt``."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from support import onnx_graphs
from support.tensorrt_gpu import NEEDS_TENSORRT

import llama_pajamas_starter
from llama_pajamas_run_core.errors import BadInput, LoadError, OutOfMemory
from llama_pajamas_run_core.types.vision import Image
from llama_pajamas_run_tensorrt.engine_file import EngineRecord, read_engine
from llama_pajamas_run_tensorrt.export.options import BuildOptions
from llama_pajamas_starter.vision.scenes import scene, single_object

pytestmark = NEEDS_TENSORRT
STARTER = Path(llama_pajamas_starter.__file__).parent / "models"
BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
#: No searching: the tests are about what engines do, not how fast.
QUICK = 0


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """The hand-made detector as an engine in FP32, batch 1 to 8, with the graph it comes from."""
    from llama_pajamas_run_tensorrt.derive import engine_for

    graph = onnx_graphs.detector(tmp_path_factory.mktemp("graphs") / "detector.onnx")
    return graph, engine_for(graph, BuildOptions(precision="fp32", batch=(1, 4, 8), level=QUICK))


def reference(graph):
    from llama_pajamas_run_tensorrt.export.reference import Reference

    return Reference(graph)


def pictures(count, seed=0):
    return np.random.default_rng(seed).random((count, 3, 64, 64), np.float32)


def agrees(made, wanted, tolerance=1e-3):
    assert made.keys() == wanted.keys()
    for name, array in wanted.items():
        assert made[name].shape == array.shape
        assert np.abs(made[name].astype(np.float64) - array).max(initial=0) <= tolerance * np.abs(array).max(
            initial=1e-9
        )


def copied(engine, folder):
    """An engine with its sidecar in another folder."""
    target = folder / engine.name
    target.write_bytes(engine.read_bytes())
    sidecar = engine.with_name(engine.name + ".json")
    target.with_name(target.name + ".json").write_text(sidecar.read_text())
    return target


@pytest.mark.parametrize("name", ["detect", "classify", "embed"])
def test_fp32_equals_onnx_runtime(name):
    from llama_pajamas_run_tensorrt._session import Session
    from llama_pajamas_run_tensorrt.derive import engine_for

    folder = STARTER / name
    graph = folder / json.loads((folder / "config.json").read_text())["graphs"]["image"]
    engine = engine_for(graph, BuildOptions(precision="fp32", batch=(1, 4, 8), level=QUICK))
    checked = reference(graph)
    with Session(engine) as session:
        one = session.inputs[0]
        for count in (1, 3, 8, 8, 8):
            images = np.random.default_rng(count).random((count, *one.shape[1:]), np.float32)
            agrees(session.infer({one.name: images}), checked.run({one.name: images}))


@pytest.mark.parametrize("name", ["yolov8n", "resnet50"])
def test_fp32_equals_onnx_runtime_in_real_shapes(tmp_path, name):
    from llama_pajamas_run_tensorrt._session import Session
    from llama_pajamas_run_tensorrt.derive import engine_for

    script = str(BENCHMARKS / "vision_models.py")
    subprocess.run([sys.executable, script, name, "--folder", str(tmp_path)], check=True, timeout=300)
    (graph,) = tmp_path.glob("*/model.onnx")
    engine = engine_for(graph, BuildOptions(precision="fp32", batch=(1, 2, 2), level=QUICK))
    checked = reference(graph)
    with Session(engine) as session:
        one = session.inputs[0]
        for count in (1, 2):
            images = np.random.default_rng(count).random((count, *one.shape[1:]), np.float32)
            agrees(session.infer({one.name: images}), checked.run({one.name: images}))


@pytest.mark.parametrize(
    ("name", "precision", "calibrator", "limit"),
    [
        ("detect", "fp16", False, 0.5),
        ("detect", "int8", False, 1.0),
        ("detect", "int8", True, 1.0),
        ("classify", "fp16", False, 0.5),
        ("classify", "int8", False, 0.5),
    ],
)
def test_the_change_of_lower_precisions_is_within_its_limit(tmp_path, name, precision, calibrator, limit):
    from llama_pajamas_run_tensorrt import _sdk
    from llama_pajamas_run_tensorrt._versions import differences
    from llama_pajamas_run_tensorrt.export.make import export_model

    if calibrator and not differences(_sdk.version()).calibrators:
        pytest.skip("this TensorRT has no calibrators")
    draw = scene if name == "detect" else single_object
    images = [Image(draw(seed).image) for seed in range(128)]
    options = BuildOptions(precision=precision, batch=(1, 8, 16), level=QUICK, calibrator=calibrator)
    (made,) = export_model(STARTER / name / "model.onnx", tmp_path / "out.engine", options, images=images).made
    assert made.change.cases == 128
    assert made.change.loss <= limit
    assert EngineRecord.read(made.engine).accuracy["figure"] == ("mAP50" if name == "detect" else "top-1")
    print(made.engine.name, precision, calibrator, made.change, made.record.build)  # noqa: T201


def test_layers_beside_onnx_runtimes(tmp_path):
    from llama_pajamas_run_tensorrt.export.make import export_model

    options = BuildOptions(precision="fp32", batch=(1, 2, 4), level=QUICK, detailed=True)
    (made,) = export_model(STARTER / "classify" / "model.onnx", tmp_path / "out.engine", options, compare=True).made
    assert len(made.layers) >= 15
    assert all(layer.cosine > 0.9999 for layer in made.layers), made.layers


def test_what_a_plan_tells(detector):
    import tensorrt

    found = read_engine(detector[1])
    assert found.version is not None
    assert found.version.split(".")[:2] == tensorrt.__version__.split(".")[:2]


def test_lanes_in_threads_agree(detector):
    from llama_pajamas_run_tensorrt._session import Session

    graph, engine = detector
    checked = reference(graph)
    wanted = {count: checked.run({"images": pictures(count, count)}) for count in range(1, 9)}
    wrong = []
    with Session(engine, lanes=4) as session:

        def work(count):
            try:
                for _ in range(200):
                    agrees(session.infer({"images": pictures(count, count)}), wanted[count])
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(count,)) for count in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert session.details["graphs"] == "on"


def test_graphs_give_the_same_and_cost_less(detector):
    from llama_pajamas_run_tensorrt._session import Session

    graph, engine = detector
    images = pictures(4)
    wanted = reference(graph).run({"images": images})
    seconds = {}
    for graphs in (False, True):
        with Session(engine, graphs=graphs) as session, session.lane() as lane:
            into = lane.upload(images, lane.input("images", images.shape))
            for _ in range(5):
                outputs = lane.run({"images": into})
            agrees({"output0": lane.download(outputs["output0"])}, wanted)
            started = time.perf_counter()
            for _ in range(500):
                lane.run({"images": into})
            lane.synchronize()
            seconds[graphs] = (time.perf_counter() - started) / 500
            assert session.graphs_state == ("on" if graphs else "off")
    print("microseconds a run:", {str(on): round(1e6 * value, 1) for on, value in seconds.items()})  # noqa: T201
    assert seconds[True] < seconds[False]


def test_what_is_kept_stays_on_the_gpu(tmp_path):
    from llama_pajamas_run_tensorrt._session import Session
    from llama_pajamas_run_tensorrt.derive import engine_for

    graph = onnx_graphs.growing(tmp_path / "step.onnx")
    engine = engine_for(graph, BuildOptions(precision="fp32", batch=(1, 2, 4), dims={"t": (1, 16, 64)}, level=QUICK))
    with Session(engine) as session:
        past, total = np.zeros((2, 1, 4), np.float32), None
        for step in range(1, 50):
            outputs = session.infer({"past": past, "new": np.full((2, 1, 4), step, np.float32)}, keep=["present"])
            past, total = outputs["present"], outputs["total"]
        np.testing.assert_array_equal(total, np.full((2, 4), sum(range(1, 50)), np.float32))
        with session.lane() as lane:
            np.testing.assert_array_equal(lane.download(past)[0, :, 0], range(50))


def test_sizes_that_only_the_run_tells(tmp_path):
    from llama_pajamas_run_tensorrt._session import Session
    from llama_pajamas_run_tensorrt.derive import engine_for

    graph = onnx_graphs.finding(tmp_path / "found.onnx")
    with Session(engine_for(graph, BuildOptions(precision="fp32", batch=(1, 2, 4), level=QUICK))) as session:
        for values in ([[0, 1, 0, 2], [3, 0, 0, 0]], [[1, 1, 1, 1]]):
            made = session.infer({"x": np.array(values, np.float32)})["places"]
            np.testing.assert_array_equal(made, np.nonzero(np.array(values)))


def test_a_batch_past_the_profile_names_it(detector):
    from llama_pajamas_run_tensorrt._session import Session

    with Session(detector[1]) as session:
        with pytest.raises(BadInput, match="A batch of 9 is past what .* was built for: 1 to 8"):
            session.infer({"images": pictures(9)})
        assert session.infer({"images": pictures(1)})["output0"].shape == (1, 7, 64)


@pytest.mark.parametrize("how", ["truncated", "random", "version", "capability"])
def test_bad_engines_of_ours_are_refused(detector, tmp_path, how):
    from llama_pajamas_run_tensorrt._session import Session

    path = copied(detector[1], tmp_path)
    record = EngineRecord.read(path)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
        message = "was changed or cut short"
    elif how == "random":
        path.write_bytes(b"ftrt" + os.urandom(100_000))
        message = "was changed or cut short"
    elif how == "version":
        replace(record, tensorrt="9.9.9").write(path)
        message = "was built with TensorRT 9.9.9"
    else:
        replace(record, capability=(5, 2), gpu="GeForce GTX 960").write(path)
        message = r"compute capability 5.2 \(GeForce GTX 960\)"
    with pytest.raises(LoadError, match=message):
        Session(path, trust=True)


@pytest.mark.parametrize("how", ["whole", "ultralytics", "truncated", "random"])
def test_engines_of_others_load_when_trusted_and_bad_ones_crash_nothing(detector, tmp_path, how):
    from llama_pajamas_run_tensorrt._session import Session

    plan = detector[1].read_bytes()
    path = tmp_path / "foreign.engine"
    text = json.dumps({"task": "detect", "names": {"0": "red"}}).encode()
    header = plan[:64]
    path.write_bytes({
        "whole": plan,
        "ultralytics": len(text).to_bytes(4, "little") + text + plan,
        "truncated": plan[: len(plan) // 2],
        "random": header + np.random.default_rng(0).bytes(len(plan) - len(header)),
    }[how])  # fmt: skip
    if how in ("whole", "ultralytics"):
        with Session(path, trust=True) as session:
            assert session.infer({"images": pictures(2)})["output0"].shape == (2, 7, 64)
            assert session.metadata.get("task") == ("detect" if how == "ultralytics" else None)
        return
    with pytest.raises(LoadError, match="could not be loaded"):
        Session(path, trust=True)


def test_fifty_loads_return_to_the_baseline(detector):
    import pycuda.driver as cuda

    from llama_pajamas_run_tensorrt._device import find_device
    from llama_pajamas_run_tensorrt._session import Session

    gpu = find_device(None)

    def once():
        with Session(detector[1], lanes=2) as session:
            for count in (1, 8, 1, 8, 8):
                session.infer({"images": pictures(count)})

    def state():
        with gpu.current():
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            return cuda.mem_get_info()[0], resident

    for _ in range(3):
        once()
    before = state()
    for _ in range(50):
        once()
    after = state()
    print("GPU bytes", before[0] - after[0], "host bytes", after[1] - before[1])  # noqa: T201
    assert before[0] - after[0] <= 4 << 20
    assert after[1] - before[1] <= 64 << 20


def test_memory_that_runs_out_ends_one_call(detector):
    import pycuda.driver as cuda

    from llama_pajamas_run_tensorrt._session import Session

    graph, engine = detector
    images = pictures(1)
    wanted = reference(graph).run({"images": images})
    with Session(engine) as session:
        agrees(session.infer({"images": images}), wanted)
        with session.lane() as lane:
            held = []
            size = 1 << 34
            while size >= 1 << 20:  # take all there is, in smaller and smaller pieces
                try:
                    held.append(cuda.mem_alloc(size))
                except cuda.MemoryError:
                    size >>= 1
            try:
                with pytest.raises(OutOfMemory):
                    lane.empty((1 << 28,), np.float32)
            finally:
                for allocation in held:
                    allocation.free()
            agrees(session.infer({"images": images}, lane=lane), wanted)
    with pytest.raises(OutOfMemory, match="would pass the limit"), Session(engine, memory_limit=engine.stat().st_size):
        pass


def test_a_process_that_closes_nothing_ends_well(detector):
    script = (
        "import sys, threading, numpy as np\n"
        "from llama_pajamas_run_tensorrt._session import Session\n"
        "session = Session(sys.argv[1], lanes=2)\n"
        "run = lambda: session.infer({'images': np.zeros((2, 3, 64, 64), np.float32)})\n"
        "thread = threading.Thread(target=run); thread.start(); thread.join()\n"
        "run(); lane = session.lane(); lane.__enter__()\nprint('ran')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, detector[1]], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "ran"), done.stderr
    assert "PyCUDA ERROR" not in done.stderr


def test_the_command_builds_an_engine(tmp_path):
    graph = str(STARTER / "classify" / "model.onnx")
    command = [
        sys.executable, "-m", "llama_pajamas_run_core.cli", "export", "tensorrt", graph,
        "--output", str(tmp_path / "classify.engine"), "--precision", "fp16", "--batch", "1:2:4", "--level", "1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    assert "images: 1x3x96x96 : 2x3x96x96 : 4x3x96x96" in done.stdout
    assert {one.name for one in fields(EngineRecord)} <= json.loads(
        (tmp_path / "classify.engine.json").read_text()
    ).keys()
