"""The vision benchmarks: models are what they say, comparisons are right, and the driver runs without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import gpu_vision
import onnx
import onnx_cuda_vision
import onnxruntime
import vision_models
from common.pictures import pictures
from common.worker import Worker, model_folder
from support import tensorrt_stand_in

from llama_pajamas_run_core.types.vision import Image
from llama_pajamas_run_onnx.export.graph import Graph
from llama_pajamas_run_onnx.vision import ONNXVisionBackend

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with the small detector in it."""
    folder = tmp_path_factory.mktemp("models")
    vision_models.model_path("yolov8n-96", folder)
    return folder


def parameters(write):
    """How many weights a network has, its outputs, and that it is one that ONNX knows."""
    graph = Graph("network")
    write(graph)
    model = graph.model()
    weights = [one for one in model.graph.initializer if not one.name.startswith("constant")]
    return sum(int(np.prod(one.dims)) for one in weights), graph.outputs


@pytest.mark.parametrize(
    ("masks", "count", "outputs"),
    [
        # As Ultralytics counts its models once normalizations are folded in.
        (0, 3_151_904, {"output0": ("batch", 84, 8400)}),
        (32, 3_404_320, {"output0": ("batch", 116, 8400), "output1": ("batch", 32, 160, 160)}),
    ],
)
def test_yolov8n_is_of_its_size(masks, count, outputs):
    class Ones(dict):
        def __missing__(self, name):
            return 0.0, 1.0

    found, shapes = parameters(lambda graph: vision_models.yolov8n(vision_models.Maker(graph, Ones()), masks=masks))
    assert found == count
    assert shapes == outputs


def test_models_are_made_once_and_described(models):
    folder = model_folder(models, "yolov8n-96")
    before = (folder / "model.onnx").stat().st_mtime_ns
    assert vision_models.model_path("yolov8n-96", models) == folder
    assert (folder / "model.onnx").stat().st_mtime_ns == before
    with ONNXVisionBackend(folder) as backend:
        assert backend.spec.head == "yolov8"
        assert len(backend.spec.labels) == 80
        found = backend.detect([Image(one) for one in pictures(8, 96, 128, seed=9)])
    assert 1 <= np.median([len(one) for one in found]) <= 100
    with pytest.raises(FileNotFoundError, match="vision_models.py resnet50"):
        model_folder(models, "resnet50")


def test_activations_stay_in_the_range_of_half_precision(models):
    path = model_folder(models, "yolov8n-96") / "model.onnx"
    images = np.stack(pictures(4, 96, 96, seed=2)).transpose(0, 3, 1, 2).astype(np.float32) / 255
    exact = onnxruntime.InferenceSession(path).run(None, {"images": images})[0]
    half = onnx_cuda_vision.halved(onnx.load(path))
    onnx.checker.check_model(half, full_check=True)
    session = onnxruntime.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"])
    rounded = session.run(None, {"images": images.astype(np.float16)})[0]
    assert rounded.dtype == np.float16
    apart = gpu_vision.difference([rounded.astype(np.float32)], [exact])
    assert apart["places"] > 0
    assert apart["iou_mean"] > 0.98
    assert apart["score_largest_difference"] < 0.1


def test_pictures_are_the_same_everywhere():
    one, two = pictures(2, 48, 64, seed=5), pictures(2, 48, 64, seed=5)
    assert one[0].shape == (48, 64, 3)
    assert one[0].dtype == np.uint8
    np.testing.assert_array_equal(one, two)
    assert np.abs(one[0].astype(int) - one[1]).mean() > 10


def test_overlaps_of_boxes():
    known = np.array([[10, 10, 4, 4], [10, 10, 4, 4], [10, 10, 4, 4]], np.float32)
    moved = np.array([[10, 10, 4, 4], [12, 10, 4, 4], [20, 20, 4, 4]], np.float32)
    np.testing.assert_allclose(gpu_vision.overlaps(moved, known), [1, 8 / 24, 0])


def test_differences_of_outputs():
    logits = np.array([[1.0, 2.0, 3.0], [4.0, 1.0, 0.0]], np.float32)
    other = logits + np.array([[0.0, 0.0, -2.0], [0.0, 0.0, 0.0]], np.float32)
    assert gpu_vision.difference([other], [logits]) == {"relative": 0.5, "top1_equal": 0.5}
    table = np.zeros((1, 84, 3), np.float32)
    table[0, :4] = [[10, 30, 50], [10, 30, 50], [4, 4, 4], [4, 4, 4]]
    table[0, 4:7, 0], table[0, 5, 1] = (0.1, 0.9, 0.2), 0.6
    changed = table.copy()
    changed[0, 0, 0] += 2  # an overlap of a third
    changed[0, 6, 1] = 0.7  # another class at the second
    found = gpu_vision.difference([changed], [table])
    assert found["places"] == 2
    assert found["iou_lowest"] == round(1 / 3, 5)
    assert found["iou_mean"] == round(2 / 3, 5)
    assert found["class_equal"] == 0.5
    assert found["score_largest_difference"] == 0.1


def test_a_worker_answers_errors_and_ends(models):
    worker = Worker([sys.executable, str(BENCHMARKS / "onnx_cuda_vision.py"), "--serve"])
    told = worker.ask(do="about")
    assert "onnxruntime-cpu" in told["subjects"]
    assert told["versions"]["onnxruntime"] == onnxruntime.__version__
    folder = str(model_folder(models, "yolov8n-96"))
    wrong = {"model": "none", "folder": "nowhere", "batch": 1}
    assert "error" in worker.ask(do="prepare", subject="onnxruntime-cpu", **wrong)
    asked = {"subject": "onnxruntime-cpu", "model": "yolov8n-96", "folder": folder, "batch": 2}
    assert worker.ask(do="prepare", **asked)["seconds"] > 0
    times = worker.ask(do="measure", seconds=0.05, **asked)
    assert 0 < times["latency_ms"] < 10_000
    assert 0 < times["back_to_back_ms"] < 10_000
    worker.close()
    gone = Worker([sys.executable, "-c", "raise SystemExit(3)"])
    assert gone.ask(do="about") == {"error": "the process ended with 3"}
    gone.close()


def test_the_driver_runs_without_a_gpu(models, tmp_path):
    done = subprocess.run(
        [
            *[sys.executable, str(BENCHMARKS / "gpu_vision.py"), "--models", str(models), "--only", "yolov8n-96"],
            *["--batches", "1,2", "--rounds", "2", "--seconds", "0.05", "--processor", "--without", "torch"],
            *["--output", str(tmp_path / "found.json")],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found["models"]["yolov8n-96"]) == {"1", "2"}
    for by_name in found["models"]["yolov8n-96"].values():
        figures = by_name["onnxruntime-cpu"]
        assert len(figures["latency_ms"]["runs"]) == 2
        assert figures["images_per_s"]["low"] > 0
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert "has no CUDAExecutionProvider" in found["left_out"]["yolov8n-96 1 onnxruntime-fp16"]
    assert found["command"].startswith("python benchmarks/gpu_vision.py --models")
    assert str(tmp_path) not in json.dumps(found)
    assert "onnxruntime-cpu" in done.stdout


def test_the_subjects_of_tensorrt(models, monkeypatch, tmp_path):
    """On ONNX Runtime in TensorRT's place: what the driver asks of the engine and of our backend is there."""
    pytest.importorskip("onnx_graphsurgeon")
    monkeypatch.setenv("LLAMA_PAJAMAS_HOME", str(tmp_path / "home"))
    tensorrt_stand_in.install("8.6", monkeypatch, tmp_path / "sdk")
    from common import engines
    from common.worker import measured

    assert set(engines.about()) == {"versions", "device"}
    folder = model_folder(models, "yolov8n-96")
    images = np.stack(pictures(3, 96, 96, seed=6)).transpose(0, 3, 1, 2).astype(np.float32) / 255
    np.save(tmp_path / "images.npy", images)
    engine = engines.SUBJECTS["engine-fp32"]()
    engine.outputs("yolov8n-96", folder, tmp_path / "images.npy", tmp_path / "made.npz")
    exact = onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"images": images})
    with np.load(tmp_path / "made.npz") as made:
        assert gpu_vision.difference(list(made.values()), exact)["relative"] < 1e-3
    ours = engines.Ours(preprocess="cpu")  # there is nothing to run the kernels
    for run in (engine.prepare("yolov8n-96", folder, 2), *(ours.prepare("yolov8n-96", folder, n) for n in (1, 2))):
        run.once()
        assert measured(run, 0.02)["latency_ms"] > 0
    ours.close()
    engine.close()


def test_the_backend_beside_its_engine(models, monkeypatch, tmp_path):
    pytest.importorskip("onnx_graphsurgeon")
    import tensorrt_vision
    from support.vision_kernels import install_kernels

    monkeypatch.setenv("LLAMA_PAJAMAS_HOME", str(tmp_path / "home"))
    made = tensorrt_stand_in.install("10", monkeypatch, tmp_path / "sdk")
    install_kernels(made, monkeypatch)
    monkeypatch.setattr(tensorrt_vision, "_STAGED", 3)
    monkeypatch.setattr(tensorrt_vision, "_LEAST", 2)
    absent, output = str(tmp_path / "absent.onnx"), str(tmp_path / "found.json")
    asked = [
        *["tensorrt_vision.py", "--models", str(models), "--only", "yolov8n-96", "--model", absent, "--output", output],
        *["--batch", "1:2:2", "--batches", "2", "--callers", "2", "--rounds", "2", "--seconds", "0.02"],
    ]
    monkeypatch.setattr(sys, "argv", asked)
    assert tensorrt_vision.main() == 1  # one of the two is not there
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["benchmark"] == "tensorrt_vision"
    assert str(tmp_path) not in found["command"]
    assert "absent.onnx" in found["models"].pop("absent.onnx")["error"]
    (model,) = found["models"].values()
    assert model["largest_batch"] == 2
    figures, ratios = model["figures"], model["ratios"]
    assert all(len(one["runs"]) == 2 and one["low"] > 0 for one in figures.values())
    floor = min(figures[f"bare_{name}_ms"]["median"] for name in ("plain", "graph"))
    assert ratios["latency_to_bare"] == pytest.approx(figures["backend_ms"]["median"] / floor, abs=1e-3)
    assert set(model["stages_ms"]) == {"prepare", "launch", "wait", "results"}
    assert made.cuda.state.allocated == 0


def test_the_scripts_say_why_they_skip():
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "onnx_cuda_vision.py"), "--models", "nowhere"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("skipped: onnxruntime")
