"""ONNX vision: the contract on hand-made and starter models, and every way in which a model is described."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from support import onnx_graphs as graphs

import llama_pajamas_starter
from llama_pajamas_run_core.artifacts.vision.description import as_config
from llama_pajamas_run_core.errors import BadInput, InferenceError, LoadError, TooLarge, Unsupported
from llama_pajamas_run_core.testing.vision import VisionContract
from llama_pajamas_run_core.types.vision import Image
from llama_pajamas_run_onnx import _session
from llama_pajamas_run_onnx.vision import ONNXVisionBackend

STARTER = Path(llama_pajamas_starter.__file__).parent / "models"
NAMES = repr(dict(enumerate(graphs.COLOURS)))
YOLO = {"names": NAMES, "task": "detect", "imgsz": "[64, 64]", "stride": "32", "batch": "1"}


def _detect(model: Path, pixels: np.ndarray, **options) -> list[tuple[str, int, int, int, int]]:
    with ONNXVisionBackend(model, **options) as backend:
        (found,) = backend.detect([Image(pixels)])
        return [(one.label, *(round(getattr(one.box, edge)) for edge in ("x1", "y1", "x2", "y2"))) for one in found]


class TestDetector(VisionContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], ONNXVisionBackend]:
        model = graphs.detector(tmp_path_factory.mktemp("detector") / "model.onnx", metadata=YOLO)
        return lambda: ONNXVisionBackend(model)


class TestClassifier(VisionContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], ONNXVisionBackend]:
        model = graphs.colour_meter(tmp_path_factory.mktemp("classifier") / "model.onnx")
        options = {"task": "classify", "labels": graphs.COLOURS, "mean": 0.5, "std": 0.5}
        return lambda: ONNXVisionBackend(model, **options)


class TestEmbedder(VisionContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], ONNXVisionBackend]:
        folder = _clip(tmp_path_factory.mktemp("embedder"))
        return lambda: ONNXVisionBackend(folder)


class TestSegmenter(VisionContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], ONNXVisionBackend]:
        facts = {**YOLO, "task": "segment"}
        model = graphs.segmenter(tmp_path_factory.mktemp("segmenter") / "model.onnx", metadata=facts)
        return lambda: ONNXVisionBackend(model)


class TestLists(VisionContract):
    """Boxes, labels and scores in outputs of their own, one image at a time."""

    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], ONNXVisionBackend]:
        model = graphs.lists(tmp_path_factory.mktemp("lists") / "model.onnx")
        return lambda: ONNXVisionBackend(model, task="detect", labels=graphs.COLOURS)


@pytest.mark.parametrize("name", ["detect", "classify", "embed"])
class TestStarter:
    """The shipped models run as the project ships them; what they must answer is tested beside them."""

    def test_it_runs(self, name: str) -> None:
        with ONNXVisionBackend(STARTER / name) as backend:
            assert name in backend.spec.tasks
            assert backend.details["provider"] == "CPUExecutionProvider"
            rng = np.random.default_rng(0)
            images = [Image(rng.integers(0, 255, (90, 120, 3), np.uint8)) for _ in range(3)]
            assert len(getattr(backend, name)(images)) == 3
            if name == "embed":
                assert backend.embed_text(["a red cup", "two dogs"]).shape[0] == 2


@pytest.mark.parametrize("layout", ["plain", "half", "transposed", "channels last", "batch of one", "batch of four"])
def test_detector_layouts(tmp_path: Path, layout: str) -> None:
    batch: dict[str, int | str] = {"batch of one": 1, "batch of four": 4}
    model = graphs.detector(
        tmp_path / "model.onnx",
        metadata=YOLO,
        half=layout == "half",
        transposed=layout == "transposed",
        channels_last=layout == "channels last",
        batch=batch.get(layout, "batch"),
    )
    pixels = graphs.scene(top_left="red", bottom_right="blue", width=128, height=128)
    expected = [("blue", 68, 68, 124, 124), ("red", 4, 4, 60, 60)]
    assert sorted(_detect(model, pixels)) == expected
    with ONNXVisionBackend(model) as backend:
        several = backend.detect([Image(pixels), Image(graphs.scene(top_left="green")), Image(pixels)])
        assert [sorted(one.label for one in found) for found in several] == [
            ["blue", "red"],
            ["green"],
            ["blue", "red"],
        ]


def test_boxes_come_back_from_the_letterbox(tmp_path: Path) -> None:
    """A wide picture is padded above and below; its quarters are not the input's."""
    model = graphs.detector(tmp_path / "model.onnx", metadata=YOLO)
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:, :100, 0] = 255  # the left half: red in both left quarters of the input, half of each
    with ONNXVisionBackend(model) as backend:
        (found,) = backend.detect([Image(pixels)])
        red = sorted((one.box.x1, one.box.y1, one.box.x2, one.box.y2) for one in found if one.label == "red")
    scale = 64 / 200
    top = 16
    assert red[0] == pytest.approx((2 / scale, 0, 30 / scale, (30 - top) / scale))
    assert red[1] == pytest.approx((2 / scale, (34 - top) / scale, 30 / scale, 100))


def test_a_head_that_suppresses_doubles_itself(tmp_path: Path) -> None:
    model = graphs.detector(tmp_path / "model.onnx", metadata=YOLO, nms=True)
    with ONNXVisionBackend(model, head="nms") as backend:
        (found,) = backend.detect([Image(graphs.scene(bottom_right="green"))])
    assert [(one.label, round(one.confidence, 2)) for one in found] == [("green", 1.0)]


def test_masks_of_a_segmentation_model_are_left_out(tmp_path: Path) -> None:
    model = graphs.detector(tmp_path / "model.onnx", metadata={**YOLO, "task": "segment"}, extra=32)
    assert _detect(model, graphs.scene(top_left="green")) == [("green", 2, 2, 30, 30)]


@pytest.mark.parametrize("layout", ["plain", "half", "transposed", "batch of one", "end to end"])
def test_masks_of_every_layout(tmp_path: Path, layout: str) -> None:
    model = graphs.segmenter(
        tmp_path / "model.onnx",
        metadata={**YOLO, "task": "segment"},
        half=layout == "half",
        transposed=layout == "transposed",
        batch=1 if layout == "batch of one" else "batch",
        end_to_end=layout == "end to end",
    )
    options = {"head": "nms-seg"} if layout == "end to end" else {}
    pixels = graphs.scene(top_left="green", width=128, height=128)
    with ONNXVisionBackend(model, **options) as backend:
        assert backend.spec.tasks == {"detect", "segment"}
        for images in ([Image(pixels)], [Image(graphs.scene()), Image(pixels)]):
            found = backend.segment(images)[-1]
            (one,) = found
            assert one.label == "green"
            rows, columns = np.nonzero(one.mask.full())
            # Its box without its colour's blurred edge, twice as large as in the input.
            assert (rows.min(), columns.min(), rows.max(), columns.max()) == (4, 4, 59, 59)
            assert one.mask.area == 56 * 56
        (bare,) = backend.detect([Image(pixels)])[0]
        assert bare.mask is None


def test_a_segmentation_model_as_a_detector(tmp_path: Path) -> None:
    model = graphs.segmenter(tmp_path / "model.onnx", metadata={**YOLO, "task": "segment"})
    with ONNXVisionBackend(model, head="yolov8") as backend:
        assert backend.spec.tasks == {"detect"}
        assert [one.label for one in backend.detect([Image(graphs.scene(top_left="blue"))])[0]] == ["blue"]
        with pytest.raises(Unsupported, match="does not segment"):
            backend.segment([Image(graphs.scene())])
    with pytest.raises(LoadError, match="3 classes.*2 labels"):
        ONNXVisionBackend(model, labels=("a", "b"))


@pytest.mark.parametrize(
    ("layout", "head", "together"),
    [({}, "boxes", False), ({"batched": True}, "boxes", True), ({"counted": True}, "efficient-nms", True)],
)
def test_boxes_in_outputs_of_their_own(tmp_path: Path, layout: dict, head: str, together: bool) -> None:
    model = graphs.lists(tmp_path / "model.onnx", **layout)
    with ONNXVisionBackend(model, task="detect", labels=graphs.COLOURS) as backend:
        assert (backend.spec.head, backend.spec.dynamic_batch) == (head, together)
        pixels = graphs.scene(top_left="red", bottom_right="blue", width=128, height=128)
        for images in ([Image(pixels)], [Image(graphs.scene(top_left="green")), Image(pixels)]):
            found = [(one.label, one.box.x1, one.box.y2) for one in backend.detect(images)[-1]]
            assert found == [("red", 4.0, 60.0), ("blue", 68.0, 124.0)][: 1 if head == "efficient-nms" else 2]


def test_a_free_size_is_named(tmp_path: Path) -> None:
    model = graphs.lists(tmp_path / "model.onnx", size="side")
    with pytest.raises(BadInput, match="size="):
        ONNXVisionBackend(model, task="detect", labels=graphs.COLOURS)
    with ONNXVisionBackend(model, task="detect", labels=graphs.COLOURS, size=64) as backend:
        assert [one.label for one in backend.detect([Image(graphs.scene(top_left="red"))])[0]] == ["red"]


@pytest.mark.parametrize("head", ["boxes", "efficient-nms", "yolov8-seg", "nms-seg", "logits"])
def test_a_head_that_the_outputs_are_not(tmp_path: Path, head: str) -> None:
    model = graphs.detector(tmp_path / "model.onnx", metadata=YOLO)
    with pytest.raises(LoadError, match=f"head '{head}'.*output0"):
        ONNXVisionBackend(model, head=head)


@pytest.mark.parametrize("does", ["detect", "segment", "classify", "embed"])
def test_a_spec_in_the_projects_own_words_is_read_as_the_same(tmp_path: Path, does: str) -> None:
    if does in ("detect", "segment"):
        make = graphs.detector if does == "detect" else graphs.segmenter
        model, options = make(tmp_path / "model.onnx", metadata={**YOLO, "task": does}), {}
    else:
        model = graphs.colour_meter(tmp_path / "model.onnx")
        options = {"task": does, "mean": (0.5, 0.4, 0.3), "std": 0.25, "crop": 0.875}
        options |= {"labels": graphs.COLOURS} if does == "classify" else {}
    with ONNXVisionBackend(model, **options) as backend:
        spec = backend.spec
    (tmp_path / "config.json").write_text(json.dumps(as_config(spec)))
    with ONNXVisionBackend(model) as backend:
        assert backend.spec == spec


@pytest.mark.parametrize("task", ["obb", "depth"])
def test_other_yolo_tasks_are_unsupported(tmp_path: Path, task: str) -> None:
    model = graphs.detector(tmp_path / "model.onnx", metadata={**YOLO, "task": task})
    with pytest.raises(Unsupported, match=task):
        ONNXVisionBackend(model)


def test_metadata_that_nest_without_end_are_text(tmp_path: Path) -> None:
    """Python's reader of literals gives up with errors of its own."""
    deep = {"author": "-" * 100_000 + "1", "license": "(" * 100_000}
    model = graphs.detector(tmp_path / "model.onnx", metadata=YOLO | deep)
    assert _detect(model, graphs.scene(top_left="green")) == [("green", 2, 2, 30, 30)]


def test_an_ultralytics_classifier(tmp_path: Path) -> None:
    facts = {"names": NAMES, "task": "classify", "imgsz": "[64, 64]"}
    model = graphs.colour_meter(tmp_path / "cls.onnx", name="images", output="output0", softmax=True, metadata=facts)
    with ONNXVisionBackend(model) as backend:
        assert backend.spec.head == "probabilities"
        (named,) = backend.classify([Image(graphs.scene(top_left="blue"))])
    weights = np.exp([0.0, 0.0, 2.5])
    assert [one.label for one in named][0] == "blue"
    assert named[0].confidence == pytest.approx(weights[2] / weights.sum(), abs=1e-3)


def _clip(folder: Path, *, place: str = "onnx", mask: bool = True) -> Path:
    """A Hugging Face export of CLIP, in small."""
    graphs.colour_meter(folder / place / "vision_model.onnx", output="image_embeds", scale=1.0)
    graphs.word_meter(folder / place / "text_model.onnx", graphs.WORD_VECTORS, mask=mask)
    graphs.word_tokenizer(folder / "tokenizer.json")
    config = {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "text_config": {"max_position_embeddings": 8, "pad_token_id": 1},
        "vision_config": {"image_size": 64},
    }
    prepare = {
        "do_center_crop": True, "crop_size": {"height": 64, "width": 64}, "size": {"shortest_edge": 64},
        "do_normalize": True, "image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(prepare))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<end>"}))
    return folder


@pytest.mark.parametrize("place", ["onnx", "."])
def test_images_and_texts_meet_in_one_space(tmp_path: Path, place: str) -> None:
    with ONNXVisionBackend(_clip(tmp_path, place=place)) as backend:
        assert backend.spec.tasks == {"embed", "embed_text"}
        images = backend.embed([Image(graphs.scene(top_left=colour)) for colour in graphs.COLOURS])
        texts = backend.embed_text(["a red square", "Green circles!", "two blue circles"])
        assert (images @ texts.T).argmax(axis=1).tolist() == [0, 1, 2]


def test_padding_without_a_mask_uses_the_models_own_token(tmp_path: Path) -> None:
    vectors = graphs.WORD_VECTORS.copy()
    vectors[0] = 100.0  # were "<pad>" taken in place of "<end>", every text would look alike
    folder = _clip(tmp_path, mask=False)
    graphs.word_meter(folder / "onnx" / "text_model.onnx", vectors, mask=False)
    with ONNXVisionBackend(folder) as backend:
        texts = backend.embed_text(["red", "two green circles"])
        np.testing.assert_allclose(texts, np.eye(3)[:2], atol=1e-6)


def test_a_text_graph_of_fixed_length_is_padded_to_it(tmp_path: Path) -> None:
    folder = _clip(tmp_path)
    graphs.word_meter(folder / "onnx" / "text_model.onnx", graphs.WORD_VECTORS, length=8)
    with ONNXVisionBackend(folder) as backend:
        np.testing.assert_allclose(backend.embed_text(["blue"]), [[0, 0, 1]], atol=1e-6)


def test_a_text_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with ONNXVisionBackend(_clip(tmp_path)) as backend, pytest.raises(TooLarge, match="9 tokens.* 8") as raised:
        backend.embed_text(["red", "a a a a a a a"])
    assert raised.value.param == "input[1]"


def test_an_image_encoder_without_its_text_encoder(tmp_path: Path) -> None:
    folder = _clip(tmp_path)
    (folder / "onnx" / "text_model.onnx").unlink()
    with ONNXVisionBackend(folder) as backend:
        assert backend.spec.tasks == {"embed"}


def test_a_hugging_face_classifier(tmp_path: Path) -> None:
    graphs.colour_meter(tmp_path / "model.onnx", size="side")
    labels = {str(index): colour for index, colour in reversed(list(enumerate(graphs.COLOURS)))}
    (tmp_path / "config.json").write_text(
        json.dumps({"architectures": ["ViTForImageClassification"], "id2label": labels})
    )
    prepare = {
        "size": {"height": 48, "width": 32},
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(prepare))
    with ONNXVisionBackend(tmp_path) as backend:
        spec = backend.spec
        assert (spec.width, spec.height, spec.resize) == (32, 48, "stretch")
        assert (spec.mean, spec.std, spec.labels) == ((0.5,) * 3, (0.25,) * 3, graphs.COLOURS)
        (named,) = backend.classify([Image(graphs.scene(top_left="green"))])
    assert named[0].label == "green"


@pytest.mark.parametrize(
    ("prepare", "size", "crop"),
    [
        ({"size": {"shortest_edge": 80}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}}, 64, 0.8),
        ({"size": {"shortest_edge": 64}, "do_center_crop": True, "crop_size": 64}, 64, 1.0),
        ({"size": {"shortest_edge": 64}, "crop_pct": 0.875}, 64, 0.875),
        ({"size": 64}, 64, 1.0),
    ],
)
def test_a_hugging_face_crop(tmp_path: Path, prepare: dict, size: int, crop: float) -> None:
    graphs.colour_meter(tmp_path / "model.onnx", size="side")
    labels = {str(index): colour for index, colour in enumerate(graphs.COLOURS)}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet", "id2label": labels}))
    prepare |= {"do_normalize": True, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(prepare))
    with ONNXVisionBackend(tmp_path) as backend:
        assert (backend.spec.width, backend.spec.crop) == (size, crop)
        # A red frame that the crop cuts off: the wider it is, the less of it is seen.
        pixels = np.zeros((200, 200, 3), np.uint8)
        pixels[10:190, 10:190, 2] = 255
        pixels[:10, :, 0] = pixels[190:, :, 0] = pixels[:, :10, 0] = pixels[:, 190:, 0] = 255
        (named,) = backend.classify([Image(pixels)])
    chances = {one.label: one.confidence for one in named}
    assert (chances["red"] > 1.5 * chances["green"]) is (crop > 0.95)


@pytest.mark.parametrize("damage", [{"id2label": {"one": "red"}}, {"id2label": 3}, {"architectures": 3}])
def test_a_damaged_hugging_face_config(tmp_path: Path, damage: dict) -> None:
    graphs.colour_meter(tmp_path / "model.onnx")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", **damage}))
    with pytest.raises(LoadError, match="damaged"):
        ONNXVisionBackend(tmp_path)


def test_hugging_face_detectors_are_unsupported(tmp_path: Path) -> None:
    graphs.colour_meter(tmp_path / "model.onnx", output="pred_boxes")
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "detr", "architectures": ["DetrForObjectDetection"]})
    )
    with pytest.raises(Unsupported, match="DetrForObjectDetection"):
        ONNXVisionBackend(tmp_path)


def test_the_projects_own_description(tmp_path: Path) -> None:
    graphs.colour_meter(tmp_path / "model.onnx")
    config = {
        "task": "classification",
        "head": "logits",
        "input": {"width": 64, "height": 64, "resize": "center-crop", "mean": [0, 0, 0], "std": [1, 1, 1]},
        "labels": list(graphs.COLOURS),
        "graphs": {"image": "model.onnx"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with ONNXVisionBackend(tmp_path) as backend:
        assert backend.spec.resize == "crop"
        assert backend.classify([Image(graphs.scene(top_left="red"))])[0][0].label == "red"
    config["graphs"] = {"image": "../elsewhere.onnx"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadError, match="outside"):
        ONNXVisionBackend(tmp_path)
    del config["input"]["mean"], config["graphs"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadError, match="mean"):
        ONNXVisionBackend(tmp_path)


def test_nothing_tells_and_the_error_names_the_options(tmp_path: Path) -> None:
    model = graphs.colour_meter(tmp_path / "model.onnx", size="side")
    with pytest.raises(BadInput) as raised:
        ONNXVisionBackend(model)
    for option in ("task=", "labels=", "mean=", "std=", "size="):
        assert option in str(raised.value)
    with pytest.raises(BadInput) as raised:
        ONNXVisionBackend(model, task="classify", labels=graphs.COLOURS, size=64)
    assert "mean=" in str(raised.value)
    assert "task=" not in str(raised.value)


def test_labels_from_a_file(tmp_path: Path) -> None:
    model = graphs.colour_meter(tmp_path / "model.onnx")
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    with ONNXVisionBackend(model, task="classify", labels=tmp_path / "names.txt", mean=0, std=1) as backend:
        assert backend.spec.labels == graphs.COLOURS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "sing"}, "task"),
        ({"head": "softmax"}, "head"),
        ({"resize": "fit"}, "resize"),
        ({"std": 0}, "std"),
        ({"mean": (1, 2)}, "mean"),
        ({"size": 0}, "size"),
        ({"size": "64"}, "size"),
        ({"size": (64, 64, 3)}, "size"),
        ({"size": None, "mean": (1, None, 2)}, "float"),
        ({"crop": 1.5}, "crop"),
        ({"colour": "RGB"}, "colour"),
        ({"device": "quantum"}, "quantum"),
        ({"providers": "CPUExecutionProvider"}, "providers is a list of names"),
        ({"providers": []}, "providers is a list of names"),
        ({"threads": 0}, "threads"),
        ({"labels": "no-such-file.txt"}, "no-such-file"),
    ],
)
def test_senseless_options_are_named(tmp_path: Path, options: dict, message: str) -> None:
    model = graphs.colour_meter(tmp_path / "model.onnx")
    with pytest.raises(BadInput, match=message):
        ONNXVisionBackend(model, **{"task": "classify", "labels": graphs.COLOURS, "mean": 0, "std": 1, **options})


def test_labels_that_do_not_fit_the_graph(tmp_path: Path) -> None:
    model = graphs.colour_meter(tmp_path / "model.onnx")
    with pytest.raises(LoadError, match="3 classes.*2 labels"):
        ONNXVisionBackend(model, task="classify", labels=("a", "b"), mean=0, std=1)


def test_no_more_threads_than_a_container_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime itself would take every processor of the machine."""
    monkeypatch.setattr(_session, "usable_processors", lambda: 3)
    session = _session.Session(graphs.detector(tmp_path / "model.onnx", metadata=YOLO), device="cpu")
    assert session.raw.get_session_options().intra_op_num_threads == 3


def test_a_provider_that_is_not_there(tmp_path: Path) -> None:
    model = graphs.detector(tmp_path / "model.onnx", metadata=YOLO)
    with pytest.raises(LoadError, match="NoSuchExecutionProvider"):
        ONNXVisionBackend(model, providers=["NoSuchExecutionProvider"])
    with ONNXVisionBackend(model, providers=["CPUExecutionProvider"], threads=1) as backend:
        assert backend.details["device"] == "cpu"


class TestBrokenFiles:
    def test_cut_in_half(self, tmp_path: Path) -> None:
        model = graphs.detector(tmp_path / "model.onnx", metadata=YOLO)
        model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
        with pytest.raises(LoadError, match=r"model\.onnx"):
            ONNXVisionBackend(model)

    def test_bytes_flipped(self, tmp_path: Path) -> None:
        model = graphs.detector(tmp_path / "model.onnx", metadata=YOLO)
        good, rng = bytearray(model.read_bytes()), np.random.default_rng(0)
        for _ in range(60):
            damaged = bytearray(good)
            for place in rng.integers(16, len(good), 3):
                damaged[place] = int(rng.integers(256))
            model.write_bytes(damaged)
            with (
                suppress(BadInput, LoadError, Unsupported, InferenceError),
                ONNXVisionBackend(model, task="detect", size=64) as backend,
            ):
                backend.detect([Image(graphs.scene())])

    def test_text_and_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "model.onnx").write_text("no model")
        with pytest.raises(BadInput, match="no ONNX"):
            ONNXVisionBackend(tmp_path)
        (tmp_path / "model.onnx").write_bytes(b"")
        with pytest.raises(LoadError, match="empty"):
            ONNXVisionBackend(tmp_path)

    def test_weights_beside_it_are_missing_or_short(self, tmp_path: Path) -> None:
        shutil.copytree(STARTER / "classify", tmp_path / "model")
        weights = tmp_path / "model" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(LoadError, match=r"model\.safetensors"):
            ONNXVisionBackend(tmp_path / "model")
        weights.unlink()
        with pytest.raises(LoadError, match="missing"):
            ONNXVisionBackend(tmp_path / "model")

    def test_a_folder_without_a_graph(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match=r"no \.onnx"):
            ONNXVisionBackend(tmp_path)

    def test_a_folder_with_several(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            graphs.colour_meter(tmp_path / f"{name}.onnx")
        with pytest.raises(BadInput, match=r"one\.onnx, two\.onnx"):
            ONNXVisionBackend(tmp_path)

    def test_a_config_that_is_no_json(self, tmp_path: Path) -> None:
        graphs.colour_meter(tmp_path / "model.onnx")
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(LoadError, match=r"config\.json"):
            ONNXVisionBackend(tmp_path)

    def test_a_language_model(self, tmp_path: Path) -> None:
        model = graphs.word_meter(tmp_path / "model.onnx", graphs.WORD_VECTORS)
        with pytest.raises(Unsupported, match="takes no image"):
            ONNXVisionBackend(model)
