"""Vision on a machine with an NVIDIA GPU, TensorRT and PyCUDA: ``pytest -m gpu tests/runtimes/tensorrt``."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support import onnx_graphs as graphs
from support.tensorrt_gpu import NEEDS_TENSORRT

import llama_pajamas_starter
from llama_pajamas_run_core.dsp.boxes import iou_matrix
from llama_pajamas_run_core.dsp.fit import fit, normalization, place
from llama_pajamas_run_core.errors import PajamasError
from llama_pajamas_run_core.testing.vision import VisionContract, pictures
from llama_pajamas_run_core.types.vision import DetectOptions, Image, VisionSpec
from llama_pajamas_starter.vision import evaluate
from llama_pajamas_starter.vision.scenes import HELD_OUT_SEEDS, scene, single_object

pytestmark = NEEDS_TENSORRT
STARTER = Path(llama_pajamas_starter.__file__).parent / "models"
YOLO = {"names": repr(dict(enumerate(graphs.COLOURS))), "task": "detect", "imgsz": "[64, 64]"}
EDGES = ("x1", "y1", "x2", "y2")
SIZES = ((640, 480), (1280, 720), (100, 80), (37, 501), (1, 1), (3, 700), (640, 640), (641, 639))


def backend_of(path, **options):
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

    return TensorRTVisionBackend(path, **{"batch": "1:4:16", "level": 0, **options})


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_kernel_fits_looked_atas_numpy_does(resize, half, channels_last):
    from llama_pajamas_run_tensorrt import _sdk
    from llama_pajamas_run_tensorrt._device import find_device
    from llama_pajamas_run_tensorrt._kernels import VisionKernels
    from llama_pajamas_run_tensorrt._pipeline import _picture

    spec = VisionSpec(frozenset({"detect"}), 320, 224, resize, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop=0.9)
    images = pictures(SIZES, seed=5)
    factors, offsets = (values.tolist() for values in normalization(spec))
    cuda, gpu = _sdk.cuda, find_device()
    with gpu.current():
        kernels, stream = VisionKernels(gpu), cuda.Stream()
        dtype = np.float16 if half else np.float32
        held, described = [], b""
        for image in images:
            pixels = np.ascontiguousarray(image.pixels)
            held.append(cuda.mem_alloc(pixels.nbytes))
            cuda.memcpy_htod(held[-1], pixels)
            at = place(image.width, image.height, spec)
            described += _picture.pack(int(held[-1]), at.width, at.height, at.across, at.down, at.left, at.top,
                                       3 * at.width, 0.0, 0.0, 0)  # fmt: skip
        told = cuda.mem_alloc(len(described))
        cuda.memcpy_htod(told, np.frombuffer(described, np.uint8))
        made = np.empty((len(images), 3, spec.height, spec.width), dtype)
        into = cuda.mem_alloc(made.nbytes)
        kernels.fit(stream, dtype, count=len(images), pictures=int(told), into=int(into),
                    size=(spec.width, spec.height), channels_last=channels_last, factors=factors, offsets=offsets,
                    counts=0)  # fmt: skip
        stream.synchronize()
        cuda.memcpy_dtoh(made, into)
        for one in (*held, told, into):
            one.free()
    if channels_last:
        made = made.reshape(len(images), spec.height, spec.width, 3).transpose(0, 3, 1, 2)
    for image, array in zip(images, made, strict=True):
        expected, _ = fit(image, spec)
        # A gray level is 1 / 255 / 0.225 = 0.017 here.
        np.testing.assert_allclose(array.astype(np.float32), expected, atol=2e-3 if half else 5e-5)


def alike(found, expected, *, sure=0.3, confidence=0.02, pixels=1.0):
    """Whether detections of one image are the same, but for those that lie at the threshold."""
    matched = all(
        any(
            other.label == one.label
            and abs(other.confidence - one.confidence) <= confidence
            and all(abs(getattr(other.box, edge) - getattr(one.box, edge)) <= pixels for edge in EDGES)
            for other in expected
        )
        for one in found
        if one.confidence >= sure
    )
    strong = [sum(one.confidence >= sure + confidence for one in many) for many in (found, expected)]
    weak = [sum(one.confidence >= sure for one in many) for many in (found, expected)]
    return matched and strong[0] <= weak[1] and strong[1] <= weak[0]


def agree(found, expected, **limits):
    assert alike(found, expected, **limits), (list(found), list(expected))


class _Contract(VisionContract):
    """The standard suite on the real thing. A batch's size decides over how layers are computed: answers are near."""

    def same(self, one, other):
        if isinstance(one, np.ndarray):
            return np.allclose(one, other, atol=1e-3)
        for mine, theirs in zip(one, other, strict=True):
            if mine and not hasattr(mine[0], "box"):
                chances = {each.label: each.confidence for each in theirs}
                assert all(abs(chances[each.label] - each.confidence) < 5e-3 for each in mine if each.confidence > 0.01)
            else:
                agree(mine, theirs, sure=0.02, confidence=5e-3, pixels=0.5)
        return True


class TestStarterDetector(_Contract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls):
        return lambda: backend_of(STARTER / "detect", precision="fp32")


class TestStarterClassifier(_Contract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls):
        return lambda: backend_of(STARTER / "classify", precision="fp32")


class TestStarterEmbedder(_Contract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls):
        return lambda: backend_of(STARTER / "embed", precision="fp32")


class TestSegmenter(_Contract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tmp_path_factory):
        model = graphs.segmenter(
            tmp_path_factory.mktemp("segmenter") / "model.onnx", metadata={**YOLO, "task": "segment"}
        )
        return lambda: backend_of(model, precision="fp32")


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.999), ("fp16", 0.99)])
def test_the_detector_finds_what_onnx_runtime_finds(precision, least):
    from llama_pajamas_run_onnx.vision import ONNXVisionBackend

    images = [Image(scene(HELD_OUT_SEEDS[i]).image) for i in range(100)]
    with ONNXVisionBackend(STARTER / "detect", device="cpu") as plain:
        expected = plain.detect(images)
    with backend_of(STARTER / "detect", precision=precision) as backend:
        assert backend.details["preprocess"] == "gpu"
        found = backend.detect(images)
    overlaps = []
    for mine, theirs in zip(map(evaluate.as_found, found), map(evaluate.as_found, expected), strict=True):
        for box, label, score in zip(theirs.boxes, theirs.labels, theirs.scores, strict=True):
            same = mine.boxes[mine.labels == label]
            best = iou_matrix(box[None], same).max(initial=0.0)
            if score >= 0.3:  # what lies at the threshold may fall to either side
                assert best >= least - 0.05
                overlaps.append(best)
    assert len(overlaps) > 200
    assert np.mean(overlaps) >= least
    print(precision, "IoU mean", np.mean(overlaps), "lowest", np.min(overlaps))  # noqa: T201


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_gpus_way_is_the_plain_way(precision):
    """The same engine, pictures and boxes prepared and read by the base class."""
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

    images = [*pictures(SIZES), *(Image(scene(HELD_OUT_SEEDS[i]).image) for i in range(24))]
    with backend_of(STARTER / "detect", precision=precision) as backend:
        for options in (DetectOptions(), DetectOptions(confidence=0.05, iou=0.6), DetectOptions(classes=(1, 3, 5))):
            plain = super(TensorRTVisionBackend, backend)._find(images, options, masks=False)
            for one, other in zip(backend._find(images, options, masks=False), plain, strict=True):
                mine, theirs = evaluate.as_found(one), evaluate.as_found(other)
                sure = theirs.scores > options.confidence + 0.02
                for box, kind in zip(theirs.boxes[sure], theirs.labels[sure], strict=True):
                    assert iou_matrix(box[None], mine.boxes[mine.labels == kind]).max(initial=0.0) > 0.97
                assert len(one) <= len(other) + 2


def test_half_precision_keeps_the_detectors_quality():
    from llama_pajamas_run_onnx.vision import ONNXVisionBackend

    with ONNXVisionBackend(STARTER / "detect", device="cpu") as plain:
        before = evaluate.detector(plain, 200)["mAP50"]
    with backend_of(STARTER / "detect") as backend:
        after = evaluate.detector(backend, 200)["mAP50"]
    print("mAP50", before, "FP16", after)  # noqa: T201
    assert after >= before - 0.005


def test_eight_bits_keep_the_detectors_quality(tmp_path):
    from llama_pajamas_run_tensorrt.export.make import export_model
    from llama_pajamas_run_tensorrt.export.options import BuildOptions
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

    images = [Image(scene(seed).image) for seed in range(128)]
    options = BuildOptions(precision="int8", batch=(1, 8, 16), level=0)
    (made,) = export_model(STARTER / "detect" / "model.onnx", tmp_path / "d.engine", options, images=images).made
    with backend_of(STARTER / "detect") as half, TensorRTVisionBackend(made.engine) as whole:
        before, after = (evaluate.detector(one, 200)["mAP50"] for one in (half, whole))
    print("mAP50 FP16", before, "INT8", after)  # noqa: T201
    assert after >= before - 0.01


def test_the_classifier_and_the_embedder_answer_as_onnx_runtime_does():
    from llama_pajamas_run_onnx.vision import ONNXVisionBackend

    images = [Image(single_object(HELD_OUT_SEEDS[5000 + i]).image) for i in range(60)]
    with ONNXVisionBackend(STARTER / "classify", device="cpu") as plain, backend_of(STARTER / "classify") as backend:
        expected, named = plain.classify(images), backend.classify(images)
    assert [one[0].label for one in named] == [one[0].label for one in expected]
    for one, other in zip(named, expected, strict=True):
        assert one[0].confidence == pytest.approx(other[0].confidence, abs=0.02)
    with ONNXVisionBackend(STARTER / "embed", device="cpu") as plain, backend_of(STARTER / "embed") as backend:
        cosine = (plain.embed(images) * backend.embed(images)).sum(axis=1)
    assert cosine.min() > 0.999


def test_masks_equal_onnx_runtimes(tmp_path):
    from llama_pajamas_run_onnx.vision import ONNXVisionBackend

    model = graphs.segmenter(tmp_path / "model.onnx", metadata={**YOLO, "task": "segment"})
    images = pictures(SIZES)
    with ONNXVisionBackend(model, device="cpu") as plain, backend_of(model, precision="fp32") as backend:
        for mine, theirs in zip(backend.segment(images), plain.segment(images), strict=True):
            assert [one.label for one in mine] == [one.label for one in theirs]
            for one, other in zip(mine, theirs, strict=True):
                assert np.count_nonzero(one.mask.full() != other.mask.full()) <= 0.01 * other.mask.part.size + 2


def test_requests_at_the_same_time_go_into_batches():
    images = [Image(scene(HELD_OUT_SEEDS[i]).image) for i in range(32)]
    with backend_of(STARTER / "detect") as backend:
        expected = [backend.detect([image])[0] for image in images]
        backend._batcher.batches.clear()
        start = threading.Barrier(16)

        def caller(number):
            start.wait()
            made = []
            for turn in range(20):
                which = (number * 7 + turn) % len(images)
                made.append((which, backend.detect([images[which]])[0]))
            return made

        with ThreadPoolExecutor(16) as pool:
            answers = [one for many in pool.map(caller, range(16)) for one in many]
        sizes = dict(backend._batcher.batches)
    assert len(answers) == 320
    for which, found in answers:
        agree(found, expected[which])
    assert sum(size * count for size, count in sizes.items()) == 320
    assert sum(sizes.values()) < 200
    print("batches", sizes)  # noqa: T201


def test_one_alone_does_not_wait():
    image = Image(scene(HELD_OUT_SEEDS[0]).image)
    with backend_of(STARTER / "detect", max_wait_ms=200) as backend:
        times = []
        for _ in range(20):
            begin = time.perf_counter()
            backend.detect([image])
            times.append(time.perf_counter() - begin)
    assert sorted(times)[10] < 0.02


def test_loading_and_unloading_leaves_no_memory_behind():
    from llama_pajamas_run_tensorrt import _sdk
    from llama_pajamas_run_tensorrt._device import find_device

    image, free = Image(scene(1).image), []
    for _ in range(12):
        with backend_of(STARTER / "detect", max_batch=4) as backend:
            backend.detect([image] * 6)
        with find_device().current():
            free.append(_sdk.cuda.mem_get_info()[0])
    assert abs(free[-1] - free[2]) <= 8 << 20


def test_a_canvas_is_seen_like_any_picture_and_can_be_drawn_on_again():
    from llama_pajamas_run_onnx.vision import ONNXVisionBackend
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

    images = [Image(scene(seed).image) for seed in HELD_OUT_SEEDS[:20]]
    upside_down = [Image(np.ascontiguousarray(image.pixels[::-1])) for image in images]
    with ONNXVisionBackend(STARTER / "detect", device="cpu") as reference:
        wanted = [reference.detect(images), reference.detect(upside_down)]
    with backend_of(STARTER / "detect") as backend:
        drawn = [backend.canvas(image.width, image.height) for image in images]
        for looked_at, expected in zip((images, upside_down), wanted, strict=True):
            for canvas, image in zip(drawn, looked_at, strict=True):
                canvas.pixels[:] = image.pixels
            mixed = backend.detect([one for pair in zip(drawn, looked_at, strict=True) for one in pair])
            # A failure then tells which is wrong: the engine, the pictures' way there, or the boxes' way back.
            ways = {
                "the host's own way": super(TensorRTVisionBackend, backend)._find(
                    looked_at, DetectOptions(), masks=False
                ),
                "pictures": backend.detect(looked_at),
                "one canvas": [backend.detect([canvas])[0] for canvas in drawn],
                "canvases": backend.detect(drawn),
                "canvases among pictures": mixed[::2],
                "pictures among canvases": mixed[1::2],
            }
            wrong = [(way, index) for way, found in ways.items() for index, one in enumerate(found)
                     if not alike(one, expected[index], confidence=0.05, pixels=2.0)]  # fmt: skip
            assert wrong == []
    assert drawn[0].pixels.any()  # it outlives the model


def test_a_picture_that_does_not_fit_fails_alone():
    small = Image(scene(HELD_OUT_SEEDS[3]).image)
    huge = Image(np.zeros((9000, 9000, 3), np.uint8))
    options = {"max_batch": 2, "lanes": 1}
    with backend_of(STARTER / "detect", **options) as backend:
        expected = backend.detect([small])
        used = backend._session.details["memory"]
    with backend_of(STARTER / "detect", memory_limit=used + (64 << 20), **options) as backend:
        with pytest.raises(PajamasError, match="limit"):
            backend.detect([huge])
        agree(backend.detect([small])[0], expected[0])
