"""TensorRT vision: the contract in the flavour of each version, and the GPU's way against the plain one.

Engines are computed by ONNX Runtime and the kernels by the processor, from the very source that a GPU runs.
"""

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from support import onnx_graphs as graphs
from support import tensorrt_stand_in
from support.vision_kernels import install_kernels

from llama_pajamas_run_core.artifacts.vision.description import as_config
from llama_pajamas_run_core.errors import BadInput, LoadError, MissingDependency, OutOfMemory, Unsupported
from llama_pajamas_run_core.testing.vision import VisionContract, pictures
from llama_pajamas_run_core.types.vision import DetectOptions, Image

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


def build(stand_in, path: Path, graph: Path, description: dict | None, **changes) -> Path:
    """An engine of a vision model's graph."""
    about = {"task": "vision", "description": description or {}}
    return tensorrt_stand_in.write_engine(stand_in, path, graph, **about, **changes)


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


class TestSegmenter(_Contract):
    description = {**DETECT, "task": "segment", "head": "yolov8-seg"}

    @classmethod
    def graph(cls, folder: Path) -> Path:
        return graphs.segmenter(folder / "model.onnx")


class TestLists(_Contract):
    """Boxes, labels and scores in outputs of their own, read on the host."""

    description = {**DETECT, "head": "boxes"}

    @classmethod
    def graph(cls, folder: Path) -> Path:
        return graphs.lists(folder / "model.onnx", batched=True)


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
        assert 0 < backend.host_memory < 8 << 20  # buffers alone; the engine is on the GPU
    assert backend.host_memory is None
    assert (stand_in.cuda.state.allocated, stand_in.cuda.state.pinned, stand_in.driver.graphs) == (0, 0, 0)


@pytest.mark.parametrize("stand_in", ["10"], indirect=True)
@pytest.mark.parametrize(
    ("layout", "options"),
    [
        *((layout, {}) for layout in ("plain", "half", "transposed", "channels last", "one", "four", "more channels")),
        ("plain", {"graphs": False}),
        ("half", {"preprocess": "cpu"}),
        ("four", {"preprocess": "cpu"}),
    ],
    ids=str,
)
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
    images = pictures(((64, 64), (40, 100), (1, 1), (129, 65)))
    with prepared(build(stand_in, tmp_path / "model.engine", graph, DETECT), **options) as backend:
        for asked in (
            DetectOptions(confidence=0.3),
            DetectOptions(confidence=0.0, iou=1.0, max_detections=40),
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


@pytest.fixture
def newest(monkeypatch, tmp_path):
    """The stand-in in one flavour, with kernels."""
    made = tensorrt_stand_in.install("10", monkeypatch, tmp_path / "sdk")
    install_kernels(made, monkeypatch)
    return made


def opened(engine, **options):
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

    return TensorRTVisionBackend(engine, **options)


@pytest.mark.parametrize("layout", ["plain", "half", "transposed"])
def test_masks_are_those_of_the_plain_way(newest, tmp_path, layout):
    graph = graphs.segmenter(tmp_path / "model.onnx", half=layout == "half", transposed=layout == "transposed")
    images = [*pictures(((64, 64), (40, 100), (129, 65))), Image(graphs.scene(top_left="green", width=90, height=70))]
    with opened(build(newest, tmp_path / "model.engine", graph, TestSegmenter.description)) as backend:
        for _ in range(3):
            found = backend.segment(images)
            plain = super(type(backend), backend)._find(images, DetectOptions(), masks=True)
            for mine, theirs in zip(found, plain, strict=True):
                same(mine, theirs, half=layout == "half")
                for one, other in zip(mine, theirs, strict=True):
                    differ = np.count_nonzero(one.mask.full() != other.mask.full())
                    assert differ <= 0.01 * other.mask.part.size + 2
        assert any(one.mask.area > 500 for one in found[3])
        assert all(one.mask is None for one in backend.detect(images)[3])


def test_more_boxes_than_the_kernels_keep_are_read_on_the_host(newest, tmp_path):
    graph = graphs.detector(tmp_path / "model.onnx", repeats=512)
    images = [Image(graphs.scene(top_left="red", bottom_right="blue")), Image(graphs.scene())]
    with opened(build(newest, tmp_path / "model.engine", graph, DETECT)) as backend:
        for options in (DetectOptions(confidence=0.0), DetectOptions(confidence=0.0, iou=1.0, max_detections=700)):
            plain = super(type(backend), backend)._find(images, options, masks=False)
            for mine, theirs in zip(backend.detect(images, options), plain, strict=True):
                same(mine, theirs)
        (many, _) = backend.detect(images, DetectOptions(confidence=0.5, iou=1.0, max_detections=700))
        assert len(many) == 700  # more than are told by the kernels


@pytest.mark.parametrize("layout", [{}, {"batched": True}, {"counted": True}])
def test_boxes_in_outputs_of_their_own(stand_in, prepared, tmp_path, layout):
    graph = graphs.lists(tmp_path / "model.onnx", **layout)
    head = "efficient-nms" if "counted" in layout else "boxes"
    engine = build(stand_in, tmp_path / "model.engine", graph, {**DETECT, "head": head})
    with prepared(engine) as backend:
        pixels = graphs.scene(top_left="red", bottom_right="blue", width=128, height=128)
        for images in ([Image(pixels)] * 3, [Image(graphs.scene(top_left="green")), Image(pixels)]):
            found = [(one.label, one.box.x1, one.box.y2) for one in backend.detect(images)[-1]]
            assert found == [("red", 4.0, 60.0), ("blue", 68.0, 124.0)][: 1 if "counted" in layout else 2]


def test_a_graph_is_used_from_the_second_batch_of_a_size_on(newest, tmp_path):
    graph = graphs.detector(tmp_path / "model.onnx")
    with opened(build(newest, tmp_path / "model.engine", graph, DETECT, batch=(1, 8, 16)), lanes=1) as backend:
        image = Image(graphs.scene(top_left="red"))
        before = newest.driver.launches
        backend.detect([image])  # a graph since the engine was loaded
        assert newest.driver.launches == before + 1
        for count, launches in ((16, 0), (16, 1), (16, 1), (9, 0), (9, 0), (8, 0), (8, 1), (3, 0), (3, 1)):
            before = newest.driver.launches
            assert [len(found) for found in backend.detect([image] * count)] == [1] * count
            assert newest.driver.launches - before == launches, count


def test_pictures_of_all_sizes_in_one_batch_and_larger_ones_after(newest, tmp_path):
    """Graphs hold no addresses of pixels, so memory for them may grow."""
    engine = build(newest, tmp_path / "model.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    with opened(engine, lanes=1) as backend:
        for size in (16, 64, 200, 900, 30):
            image = Image(graphs.scene(top_left="blue", width=size, height=size))
            for images in ([image], [image, Image(graphs.scene(bottom_right="red", width=70, height=20)), image]):
                found = backend.detect(images)
                assert [one.label for one in found[0]] == ["blue"]
                assert found[0][0].box.x2 == pytest.approx(size * 30 / 64, abs=1e-3)
        views = Image(graphs.scene(top_left="green", width=128, height=128)[::2, ::-1][:, ::-2])
        assert [one.label for one in backend.detect([views])[0]] == ["green"]


def test_several_threads_copy_large_batches(newest, tmp_path, monkeypatch):
    from llama_pajamas_run_tensorrt import _copying, _pipeline, vision

    monkeypatch.setattr(vision, "usable_processors", lambda: 8)
    monkeypatch.setattr(_pipeline, "CUT", 500)
    for name in ("_HELPED", "_HELPED_EACH", "_LEAST_PIECE", "_TOLD"):
        monkeypatch.setattr(_copying, name, 500)
    engine = build(newest, tmp_path / "model.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    sizes = (64, 20, 100, 33, 128, 64, 90)
    images = [Image(graphs.scene(top_left=graphs.COLOURS[i % 3], width=s, height=s)) for i, s in enumerate(sizes)] * 5
    begun = []
    begin = vision.Copiers.help
    monkeypatch.setattr(vision.Copiers, "help", lambda self, given: begin(self, given) or begun.append(given))
    with opened(engine) as backend:
        assert backend._copiers.threads == 4
        begun.clear()
        found = backend.detect(images)
        assert [one[0].label for one in found] == [graphs.COLOURS[i % 7 % 3] for i in range(35)]
        for image, one in zip(images, found, strict=True):
            assert one[0].box.x2 == pytest.approx(image.width * 30 / 64, abs=1e-3)
    assert [(one.pictures, one.helped) for one in begun] == [(8, True)] * 4 + [(3, True)]
    assert (newest.cuda.state.allocated, newest.cuda.state.pinned) == (0, 0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("copy-pixels")]


def test_large_batches_of_two_lanes_are_computed_one_after_the_other(newest, tmp_path):
    graph = graphs.detector(tmp_path / "model.onnx")
    with opened(build(newest, tmp_path / "model.engine", graph, DETECT, batch=(1, 8, 16)), lanes=2) as backend:
        image = Image(graphs.scene(top_left="red"))
        streams = {place.lane.stream for place in backend._batcher._free}
        waits = newest.cuda.state.waits
        waits.clear()
        assert [len(found) for found in backend.detect([image] * 80)] == [1] * 80
        assert len(waits) == 4  # five batches, each but the first behind another lane's
        assert all({one, other} == streams for one, other in waits)
        assert [one for one, _ in waits[1:]] == [other for _, other in waits[:-1]]
        waits.clear()
        assert [len(found) for found in backend.detect([image] * 8)] == [1] * 8
        assert waits == []  # a small one runs beside others


def test_a_canvas_is_not_copied_and_its_memory_lives_as_long_as_a_view(newest, tmp_path, monkeypatch):
    from llama_pajamas_run_tensorrt import _pipeline

    engine = build(newest, tmp_path / "model.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    (image,) = pictures(((64, 64),))
    with opened(engine) as backend:
        expected = backend.detect([image])
        before = newest.cuda.state.pinned
        canvas = backend.canvas(64, 64)
        canvas.pixels[:] = image.pixels
        assert newest.cuda.state.pinned == before + canvas.pixels.nbytes
        with monkeypatch.context() as patch:
            patch.setattr(_pipeline, "copied", lambda *_: pytest.fail("it was copied"))
            assert backend.detect([canvas]) == expected
        # Beside one that has to be copied, and with gaps between its rows.
        assert backend.detect([canvas, image]) == [*expected, *expected]
        gaps = Image(canvas.pixels[:, 8:40])
        assert backend.detect([gaps]) == backend.detect([Image(gaps.pixels.copy())])
    view = canvas.pixels[5:]
    held = newest.cuda.state.pinned
    del canvas, gaps
    np.testing.assert_array_equal(view, image.pixels[5:])
    assert newest.cuda.state.pinned == held
    del view
    assert newest.cuda.state.pinned == held - image.pixels.nbytes


def test_thousands_of_boxes_are_no_matter_for_the_host(newest, tmp_path, monkeypatch):
    """A head of which thousands of places are sure enough: the GPU alone finds which of them stay."""
    from llama_pajamas_run_tensorrt import _pipeline

    graph = graphs.detector(tmp_path / "model.onnx", repeats=1024)
    images = [Image(graphs.scene(top_left="red", bottom_right="blue")), Image(graphs.scene())]
    options = DetectOptions(confidence=0.0, max_detections=20)
    with opened(build(newest, tmp_path / "model.engine", graph, DETECT)) as backend:
        plain = super(type(backend), backend)._find(images, options, masks=False)
        monkeypatch.setattr(_pipeline, "read_candidates", lambda *given: pytest.fail("the host reads the head"))
        for mine, theirs in zip(backend.detect(images, options), plain, strict=True):
            same(mine, theirs)


def test_what_is_found_is_arrays_and_objects(newest, tmp_path):
    from llama_pajamas_run_tensorrt.detections import Detections

    engine = build(newest, tmp_path / "model.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    pixels = graphs.scene(top_left="red", bottom_right="blue", width=128, height=128)
    with opened(engine) as backend:
        found, nothing = backend.detect([Image(pixels), Image(graphs.scene())])
        (other,) = backend.detect([Image(graphs.scene(top_left="green"))])  # the memory of before is written to again
    assert isinstance(found, Detections)
    assert found._made is None
    assert (len(found), len(nothing), bool(nothing)) == (2, 0, False)
    assert nothing.boxes.shape == (0, 4)
    assert found._made is None
    assert {graphs.COLOURS[kind] for kind in found.classes} == {"red", "blue"}
    assert [one.label for one in found] == [graphs.COLOURS[kind] for kind in found.classes]
    assert [one.confidence for one in found] == found.scores.tolist()
    assert [[one.box.x1, one.box.y1, one.box.x2, one.box.y2] for one in found] == found.boxes.tolist()
    assert found[0] is found[0]
    assert (found[-1], found[:1]) == (list(found)[1], [found[0]])
    assert found == list(found)
    assert list(found) == found
    assert found != other
    assert found != "rb"
    assert nothing == []
    assert repr(found) == repr(list(found))
    with pytest.raises(IndexError):
        found[2]
    with pytest.raises(TypeError):
        hash(found)


def test_classes_asked_for_together_are_read_together(newest, tmp_path, monkeypatch):
    from llama_pajamas_run_tensorrt import vision

    engine = build(newest, tmp_path / "model.engine", graphs.colour_meter(tmp_path / "model.onnx"), CLASSIFY)
    images = [Image(graphs.scene(top_left=colour, width=64)) for colour in graphs.COLOURS]
    rows = []
    read = vision.class_probabilities
    monkeypatch.setattr(vision, "class_probabilities", lambda given, spec: rows.append(len(given)) or read(given, spec))
    with opened(engine) as backend:
        place = backend._batcher.borrow()
        reads = [backend._reading_of(top) for top in (2, 2, 1)]
        with backend._session.device.current():
            made = place.once([_job(image, read) for image, read in zip(images, reads, strict=True)])
        backend._batcher.give_back(place)
        assert rows == [2, 1]
        assert made == [backend.classify([image], top=top)[0] for image, top in zip(images, (2, 2, 1), strict=True)]
        assert [len(one) for one in made] == [2, 2, 1]
        assert [one[0].label for one in made] == list(graphs.COLOURS)


def _job(image, read):
    from llama_pajamas_run_tensorrt._pipeline import Job

    return Job(image, read=read)


def test_callers_at_the_same_time_share_batches(newest, tmp_path):
    engine = build(newest, tmp_path / "model.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    colours = [Image(graphs.scene(top_left=colour)) for colour in graphs.COLOURS]
    with opened(engine) as backend:
        assert backend.lanes == 16
        start, gate = threading.Barrier(9), threading.Event()
        for place in backend._batcher._free:  # both places are busy until all have come

            def launch_later(begin=place.launch):
                begin()
                assert gate.wait(20)

            place.launch = launch_later

        def caller(number):
            start.wait()
            options = DetectOptions(classes=None if number % 2 else (number % 3,), confidence=0.5)
            return backend.detect([colours[number % 3]] * (1 + number % 2), options)

        with ThreadPoolExecutor(9) as pool:
            answers = [pool.submit(caller, number) for number in range(9)]
            while sum(len(one) for one in [backend._batcher._queue]) < 9:
                threading.Event().wait(0.002)
            gate.set()
            for number, answer in enumerate(answers):
                found = answer.result(30)
                assert [[one.label for one in each] for each in found] == [[graphs.COLOURS[number % 3]]] * (
                    1 + number % 2
                )
        assert max(backend._batcher.batches) >= 5
        assert json.loads(json.dumps(backend.details["batches"]))


def test_one_request_fails_and_the_others_do_not(newest, tmp_path):
    engine = build(newest, tmp_path / "model.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    good, huge = Image(graphs.scene(top_left="red")), Image(np.zeros((6000, 6000, 3), np.uint8))
    with opened(engine, memory_limit=48 << 20, lanes=1) as backend:
        expected = backend.detect([good])
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(backend.detect, [image]) for image in (good, huge, good, good)]
            with pytest.raises(OutOfMemory, match="limit"):
                answers[1].result(20)
            assert all(answers[index].result(20) == expected for index in (0, 2, 3))
        assert backend.detect([good]) == expected


def test_loading_again_and_again_leaves_nothing_behind(newest, tmp_path, monkeypatch):
    engine = build(newest, tmp_path / "model.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    modules, load = [], newest.cuda.module_from_buffer
    monkeypatch.setattr(newest.cuda, "module_from_buffer", lambda binary: modules.append(binary) or load(binary))
    backend = opened(engine)
    for _ in range(6):
        assert len(backend.detect([Image(graphs.scene(top_left="red"))] * 9)) == 9
        backend.load_model(engine)
    backend.close()
    state = newest.cuda.state
    assert (state.allocated, state.pinned, newest.driver.graphs) == (0, 0, 0)
    assert len(modules) == 1  # PyCUDA frees none that was loaded in another thread


def test_a_request_that_meets_the_models_end_is_refused(newest, tmp_path, monkeypatch):
    engine = build(newest, tmp_path / "model.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    backend = opened(engine)
    monkeypatch.setattr(backend, "_ready", lambda: None)  # it was ready when the request came
    backend.close()
    with pytest.raises(BadInput, match="The model was closed"):
        backend.detect([Image(graphs.scene(top_left="red"))])


def test_engines_of_ultralytics_tell_what_they_are(newest, tmp_path):
    engine = build(newest, tmp_path / "model.engine", graphs.detector(tmp_path / "model.onnx"), None)
    names = {str(index): colour for index, colour in enumerate(graphs.COLOURS)}
    told = json.dumps({"names": names, "task": "detect", "imgsz": [64, 64], "batch": 8}).encode()
    theirs = tmp_path / "theirs.engine"
    theirs.write_bytes(len(told).to_bytes(4, "little") + told + engine.read_bytes())
    with pytest.raises(BadInput, match="trust"):
        opened(theirs)
    with opened(theirs, trust=True) as backend:
        assert backend.spec.labels == graphs.COLOURS
        assert [one.label for one in backend.detect([Image(graphs.scene(top_left="green"))])[0]] == ["green"]


def test_an_engine_of_others_on_the_old_version_has_one_lane(monkeypatch, tmp_path):
    """There an engine shares its profile between contexts only where it was built to."""
    old = tensorrt_stand_in.install("8.6", monkeypatch, tmp_path / "sdk")
    install_kernels(old, monkeypatch)
    ours = build(old, tmp_path / "ours.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    theirs = tmp_path / "theirs.engine"
    model = onnx.load(tmp_path / "model.onnx").SerializeToString()
    profile = {"images": [[1, 3, 64, 64], [4, 3, 64, 64], [8, 3, 64, 64]]}
    theirs.write_bytes(tensorrt_stand_in.write_plan(old.tensorrt, model, [profile], False))
    with opened(ours) as backend:
        assert backend.lanes == 16
    with opened(theirs, trust=True, task="detect", labels=graphs.COLOURS) as backend:
        assert backend.lanes == 8
        for count in (1, 1, 8, 8, 9):
            assert len(backend.detect([Image(graphs.scene(top_left="red"))] * count)) == count


def test_a_detector_is_not_said_to_lack_texts(newest, tmp_path, monkeypatch, caplog):
    """The package that cuts texts is missed only where there is a text encoder."""
    from llama_pajamas_run_tensorrt import texts

    monkeypatch.setattr(texts, "find_spec", lambda name: None)
    engine = build(newest, tmp_path / "model.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    with caplog.at_level(logging.WARNING), opened(engine):
        assert caplog.text == ""


def test_what_lies_beside_an_engine_tells_what_it_is(newest, tmp_path):
    engine = build(newest, tmp_path / "model.engine", graphs.colour_meter(tmp_path / "model.onnx"), None)
    with pytest.raises(BadInput, match="labels="):
        opened(engine, task="classify")
    with opened(engine, task="classify", labels=graphs.COLOURS, mean=0, std=1) as backend:
        assert backend.classify([Image(graphs.scene(top_left="blue"))])[0][0].label == "blue"
    (tmp_path / "config.json").write_text(json.dumps(CLASSIFY))
    (tmp_path / "model.onnx").unlink()
    with opened(tmp_path) as backend:
        assert as_config(backend.spec) == CLASSIFY
        assert backend.spec.crop == 0.9
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(LoadError, match="config"):
        opened(tmp_path)


def test_a_folder_with_none_or_several_engines(newest, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    with pytest.raises(BadInput, match=r"no \.engine"):
        opened(folder)
    for name in ("one", "two"):
        build(newest, folder / f"{name}.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    with pytest.raises(BadInput, match=r"one\.engine, two\.engine"):
        opened(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch": 0}, "max_batch"),
        ({"max_wait_ms": -1}, "max_wait_ms"),
        ({"preprocess": "tpu"}, "preprocess"),
        ({"lanes": 0}, "lanes"),
        ({"precision": "fp16"}, "precision"),
        ({"colour": "RGB"}, "colour.*max_wait_ms"),
        ({"device": 5}, "GPU 5"),
    ],
)
def test_senseless_options_are_named(newest, tmp_path, options, message):
    engine = build(newest, tmp_path / "model.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    with pytest.raises(BadInput, match=message):
        opened(engine, **options)
    assert newest.cuda.state.allocated == 0


def test_an_engine_that_looks_at_no_images(newest, tmp_path):
    graph = graphs.word_meter(tmp_path / "model.onnx", graphs.WORD_VECTORS, length=8)
    engine = build(newest, tmp_path / "model.engine", graph, None)
    with pytest.raises(Unsupported, match="takes no image"):
        opened(engine)
    assert newest.cuda.state.allocated == 0


def test_smaller_buffers_and_batches_that_an_engine_wants(newest, tmp_path):
    graph = graphs.detector(tmp_path / "model.onnx")
    images = [Image(graphs.scene(top_left=colour)) for colour in graphs.COLOURS] * 3
    wanted = [[colour] for colour in graphs.COLOURS] * 3
    with opened(build(newest, tmp_path / "a.engine", graph, DETECT), max_batch=2) as backend:
        assert [[one.label for one in found] for found in backend.detect(images)] == wanted
        assert set(backend._batcher.batches) == {1, 2}
    # An engine whose smallest batch is more than one picture.
    with opened(build(newest, tmp_path / "b.engine", graph, DETECT, batch=(4, 4, 8))) as backend:
        for count in (1, 3, 4, 9):
            assert [[one.label for one in found] for found in backend.detect(images[:count])] == wanted[:count]
        plain = super(type(backend), backend)._find(images[:3], DetectOptions(), masks=False)
        assert [[one.label for one in found] for found in plain] == wanted[:3]


def test_without_a_compiler_the_processor_prepares_images(newest, tmp_path, monkeypatch, caplog):
    from llama_pajamas_run_tensorrt import _kernels, kernels

    monkeypatch.setattr(_kernels, "compiled", kernels.compiled)
    monkeypatch.setattr(kernels, "_compilers", lambda: iter(()))
    engine = build(newest, tmp_path / "model.engine", graphs.detector(tmp_path / "model.onnx"), DETECT)
    with caplog.at_level(logging.WARNING), opened(engine) as backend:
        assert backend.details["preprocess"] == "cpu"
        assert [one.label for one in backend.detect([Image(graphs.scene(top_left="red"))])[0]] == ["red"]
    assert "prepared on the CPU" in caplog.text
    with pytest.raises(MissingDependency, match="neither NVRTC nor nvcc"):
        opened(engine, preprocess="gpu")
    assert newest.cuda.state.allocated == 0
