"""TensorRT vision: the contract in the flavour of each version, and the GPU's way against the plain one.

Engines are computed by ONNX Runtime and the kernels by the processor, from the very source that a GPU runs.
"""

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from support import onnx_graphs as graphs
from support import tensorrt_stand_in
from support.vision_kernels import install_kernels

from llama_pajamas_run_core.testing.vision import VisionContract, pictures
from llama_pajamas_run_core.types.vision import DetectOptions, Image
from llama_pajamas_run_tensorrt.engine_file import EngineRecord, checksum, remember_made_here
from llama_pajamas_run_tensorrt.tensors import Shape

YOLO = {"names": repr(dict(enumerate(graphs.COLOURS))), "task": "detect", "imgsz": "[64, 64]"}
DETECT = {
    "task": "detect", "head": "yolov8", "labels": list(graphs.COLOURS),
    "input": {"width": 64, "height": 64, "resize": "letterbox", "mean": [0, 0, 0], "std": [1, 1, 1]},
}  # fmt: skip
CLASSIFY = {
    "task": "classify", "head": "logits", "labels": list(graphs.COLOURS),
    "input": {"width": 64, "height": 64, "resize": "crop", "mean": [0.5] * 3, "std": [0.5] * 3, "crop": 0.9},
}  # fmt: skip
EMBED = {
    "task": "embed", "head": "embedding",
    "input": {"width": 64, "height": 64, "resize": "stretch", "mean": [0, 0, 0], "std": [1, 1, 1]},
}  # fmt: skip


def build(stand_in, path: Path, graph: Path, description: dict | None, *, batch=(1, 4, 8), **changes) -> Path:
    """An engine of a graph with its sidecar, as the export leaves it."""
    model = onnx.load(graph)
    profile: dict[str, list[Shape]] = {}
    for one in model.graph.input:
        sizes = one.type.tensor_type.shape.dim
        if any(not size.HasField("dim_value") for size in sizes):
            profile[one.name] = [[size.dim_value or number for size in sizes] for number in batch]
    profiles = [profile] if profile else []
    path.write_bytes(tensorrt_stand_in.write_plan(stand_in.tensorrt, model.SerializeToString(), profiles, True))
    fields = {
        "sha256": checksum(path), "tensorrt": stand_in.tensorrt.__version__, "cuda": "13.0", "capability": (9, 0),
        "gpu": "NVIDIA H200", "precision": "fp32", "profiles": tuple(profiles), "source": graph.name,
        "source_sha256": checksum(graph), "task": "vision", "description": description or {}, **changes,
    }  # fmt: skip
    EngineRecord(**fields).write(path)
    remember_made_here(fields["sha256"])
    return path


@pytest.fixture
def prepared(stand_in, monkeypatch):
    """The stand-in with kernels, and the backend's class."""
    install_kernels(stand_in, monkeypatch)
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

    return TensorRTVisionBackend


class _Contract(VisionContract):
    """The standard suite; a class-scoped stand-in in its newest flavour."""

    description: dict
    precision = "float32"

    @classmethod
    def graph(cls, folder: Path) -> Path:
        return graphs.detector(folder / "model.onnx")

    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], object]:
        folder = tmp_path_factory.mktemp("engine")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LLAMA_PAJAMAS_HOME", str(folder / "home"))
            made = tensorrt_stand_in.install("10", patch, folder / "sdk")
            install_kernels(made, patch)
            from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

            engine = build(made, folder / "model.engine", cls.graph(folder), cls.description)
            yield lambda: TensorRTVisionBackend(engine)

    @pytest.fixture(autouse=True)
    def _own_cache(self) -> None:
        """The class has a cache of its own."""


class TestDetector(_Contract):
    description = DETECT


class TestHalfDetector(_Contract):
    description = DETECT

    @classmethod
    def graph(cls, folder: Path) -> Path:
        return graphs.detector(folder / "model.onnx", half=True)


class TestClassifier(_Contract):
    description = CLASSIFY

    @classmethod
    def graph(cls, folder: Path) -> Path:
        return graphs.colour_meter(folder / "model.onnx")


class TestEmbedder(_Contract):
    description = EMBED

    @classmethod
    def graph(cls, folder: Path) -> Path:
        return graphs.colour_meter(folder / "model.onnx", output="image_embeds")


def same(found, expected, *, half=False):
    """Detections of one image agree."""
    assert [one.label for one in found] == [one.label for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=2e-3 if half else 1e-5)
        for edge in ("x1", "y1", "x2", "y2"):
            assert getattr(one.box, edge) == pytest.approx(getattr(other.box, edge), abs=1e-2 if half else 1e-3)


def test_each_version_detects(stand_in, prepared, tmp_path):
    engine = build(stand_in, tmp_path / "model.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    with prepared(engine) as backend:
        (found,) = backend.detect([Image(graphs.scene(top_left="red", bottom_right="blue", width=128, height=128))])
        assert sorted((one.label, round(one.box.x1), round(one.box.y2)) for one in found) == [
            ("blue", 68, 124),
            ("red", 4, 60),
        ]
        assert backend.details["preprocess"] == "gpu"
        assert backend.details["graphs"] == "on"
        assert stand_in.driver.launches > 0
        assert json.loads(json.dumps(dict(backend.details)))
    assert (stand_in.cuda.state.allocated, stand_in.cuda.state.pinned, stand_in.driver.graphs) == (0, 0, 0)


@pytest.mark.parametrize("stand_in", ["10"], indirect=True)
@pytest.mark.parametrize("layout", ["plain", "half", "transposed", "channels last", "one", "four", "more channels"])
@pytest.mark.parametrize("options", [{}, {"graphs": False}, {"preprocess": "cpu"}])
def test_the_ways_agree_on_every_layout(stand_in, prepared, tmp_path, layout, options):
    batch: dict[str, int | str] = {"one": 1, "four": 4}
    graph = graphs.detector(
        tmp_path / "model.onnx",
        half=layout == "half",
        transposed=layout == "transposed",
        channels_last=layout == "channels last",
        batch=batch.get(layout, "batch"),
        extra=5 if layout == "more channels" else 0,
    )
    images = pictures(((64, 64), (40, 100), (129, 65), (1, 1), (320, 200), (64, 64)))
    with prepared(build(stand_in, tmp_path / "model.engine", graph, DETECT), **options) as backend:
        for asked in (
            DetectOptions(confidence=0.3),
            DetectOptions(confidence=0.0, iou=1.0, max_detections=40),
            DetectOptions(confidence=0.2, classes=(1,)),
            DetectOptions(confidence=0.2, classes=(0, 2), max_detections=1),
            DetectOptions(confidence=1.0),
            DetectOptions(classes=()),
            DetectOptions(confidence=0.3),
        ):
            # The base class's way: images fitted on the host, the whole output read there.
            plain = super(prepared, backend)._find(images, asked, masks=False)
            found = backend._find(images, asked, masks=False)
            for mine, theirs in zip(found, plain, strict=True):
                same(mine, theirs, half=layout == "half")
