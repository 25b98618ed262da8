"""Vision through Core ML, computed by the reference evaluator: the contract, foreign packages, errors."""

import shutil

import numpy as np
import pytest
from support import coreml_models
from support.coreml_models import SIDE
from support.coreml_programs import builder, ct, program, save

from llama_pajamas_run_core.artifacts.formats import COREML, identify
from llama_pajamas_run_core.errors import BadInput, LoadError, TooLarge, Unsupported
from llama_pajamas_run_core.testing.vision import VisionContract
from llama_pajamas_run_core.types.vision import DetectOptions, Image
from llama_pajamas_run_coreml import CoreMLVisionBackend

mb = builder()


def loaded(path, **options):
    return CoreMLVisionBackend(path, compute_units="reference", **options)


def picture(color, side=SIDE):
    return Image(np.broadcast_to(np.array(color, np.uint8), (side, side, 3)).copy())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("models")
    coreml_models.detector(made / "detect.mlpackage")
    coreml_models.classifier(made / "classify.mlpackage")
    coreml_models.embedder(made / "embed")
    return made


class TestDetector(VisionContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, folder):
        return lambda: loaded(folder / "detect.mlpackage")


class TestClassifier(VisionContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, folder):
        return lambda: loaded(folder / "classify.mlpackage")


class TestEmbedder(VisionContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, folder):
        return lambda: loaded(folder / "embed")


def test_boxes_are_in_the_pictures_own_pixels(folder):
    assert identify(folder / "detect.mlpackage") is COREML
    pixels = np.full((64, 128, 3), 20, np.uint8)  # a quarter of its size when it is in the middle of 32 x 32
    pixels[0:32, 32:64] = (255, 255, 255)
    with loaded(folder / "detect.mlpackage") as backend:
        ((one,),) = backend.detect([Image(pixels)], DetectOptions(confidence=0.9, classes=(0,)))
        assert (one.label, one.box.x1, one.box.y1, one.box.x2, one.box.y2) == ("bright", 32, 0, 64, 32)
        assert backend.details["input"] == [2, 3, SIDE, SIDE]
        assert backend.details["compression"] == "none"


def test_classes_of_plain_pictures(folder):
    with loaded(folder / "classify.mlpackage") as backend:
        named = backend.classify([picture((250, 250, 250)), picture((5, 5, 5)), picture((255, 0, 0))], top=1)
    assert [one[0].label for one in named] == ["bright", "dark", "red"]


def test_texts_and_pictures_meet(folder):
    assert identify(folder / "embed") is COREML
    with loaded(folder / "embed") as backend:
        pictures = backend.embed([picture((200, 0, 0)), picture((0, 0, 90)), picture((0, 9, 0))])
        texts = backend.embed_text(["red", "blue", "green green"])
        with pytest.raises(TooLarge, match="6 tokens, but the model reads 5"):
            backend.embed_text(["red", "red red red red red red"])
    np.testing.assert_allclose(texts @ pictures.T, np.eye(3), atol=1e-6)


def test_an_image_encoder_alone_says_where_its_text_encoder_should_be(folder, tmp_path):
    with pytest.raises(LoadError, match="belongs to a text encoder"):
        loaded(folder / "embed" / "image.mlpackage")
    with pytest.raises(Unsupported, match="text-encoder, which does not look at images"):
        loaded(folder / "embed" / "text.mlpackage")
    swapped = shutil.copytree(folder / "embed", tmp_path / "swapped")
    shutil.rmtree(swapped / "text.mlpackage")
    shutil.copytree(swapped / "image.mlpackage", swapped / "text.mlpackage")
    with pytest.raises(LoadError, match="is a vision, not a text encoder"):
        loaded(swapped)
    shutil.rmtree(swapped / "text.mlpackage")
    with pytest.raises(BadInput, match=r"holds no text\.mlpackage"):
        loaded(swapped)
    shutil.copytree(folder / "embed" / "text.mlpackage", swapped / "text.mlpackage")
    (swapped / "tokenizer.json").write_text("{")
    with pytest.raises(LoadError, match="no tokenizer"):
        loaded(swapped)


def ultralytics(path):
    """As Ultralytics exports: an image goes in, scaled inside, and the metadata are Python literals."""

    def build(image):
        cells = mb.avg_pool(x=mb.mul(x=image, y=np.float32(1 / 255)), kernel_sizes=[16, 16], strides=[16, 16],
                            pad_type="valid")  # fmt: skip
        scores = mb.reshape(x=cells, shape=[1, 3, 4])
        boxes = np.array([[8, 24, 8, 24], [8, 8, 24, 24], [16] * 4, [16] * 4], np.float32)[None]
        return mb.concat(values=[boxes, scores], axis=1, name="var_914")

    save(program({"image": np.zeros((1, 3, SIDE, SIDE), np.float32)}, build), path)
    file = next(path.rglob("*.mlmodel"))
    spec = ct.proto.Model_pb2.Model()
    spec.ParseFromString(file.read_bytes())
    feature = spec.description.input[0].type
    feature.imageType.width = feature.imageType.height = SIDE
    feature.imageType.colorSpace = ct.proto.FeatureTypes_pb2.ImageFeatureType.RGB
    names = {0: "red", 1: "green", 2: "blue"}
    spec.description.metadata.userDefined.update(
        {"names": str(names), "task": "detect", "imgsz": f"[{SIDE}, {SIDE}]", "stride": "32", "batch": "1"}
    )
    file.write_bytes(spec.SerializeToString())
    return path


def test_a_package_of_ultralytics_is_understood(tmp_path):
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[16:, 16:] = (0, 255, 0)
    with loaded(ultralytics(tmp_path / "yolo.mlpackage")) as backend:
        assert backend.spec.labels == ("red", "green", "blue")
        assert not backend.spec.dynamic_batch
        ((one,),) = backend.detect([Image(pixels)], DetectOptions(confidence=0.5))
    assert (one.label, round(one.confidence, 3)) == ("green", 1.0)
    assert (one.box.x1, one.box.y1, one.box.x2, one.box.y2) == (16, 16, 32, 32)


def test_other_packages_need_options(tmp_path):
    made = program({"x": np.zeros((1, 3, 8, 8), np.float32)}, lambda x: mb.reduce_mean(x=x, axes=[2, 3]))
    path = save(made, tmp_path / "plain.mlpackage")
    with pytest.raises(BadInput, match='task="detect"'):
        loaded(path)
    with pytest.raises(BadInput, match="Unknown options: device.*compute_units"):
        loaded(path, device="gpu")
    with loaded(path, task="classify", labels=["r", "g", "b"], mean=0, std=1) as backend:
        assert backend.classify([picture((0, 0, 255))], top=1)[0][0].label == "b"


def test_a_package_that_describes_itself_takes_no_such_options(folder):
    with pytest.raises(BadInput, match="describes itself and takes no options labels"):
        loaded(folder / "detect.mlpackage", labels=["a"])


def test_damage_and_absence_are_named(folder, tmp_path):
    with pytest.raises(BadInput, match="no Core ML model"):
        loaded(tmp_path / "absent.mlpackage")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"holds no image\.mlpackage, but nothing"):
        loaded(tmp_path / "empty")
    broken = shutil.copytree(folder / "detect.mlpackage", tmp_path / "broken.mlpackage")
    file = next(broken.rglob("*.mlmodel"))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(LoadError, match="broken"):
        loaded(broken)


@pytest.mark.apple
@pytest.mark.parametrize("name", ["detect.mlpackage", "classify.mlpackage", "embed"])
def test_core_ml_itself_sees_what_the_evaluator_sees(folder, name):
    pictures = [picture((200, 30, 10)), picture((10, 250, 90))]
    with loaded(folder / name) as reference, CoreMLVisionBackend(folder / name) as backend:
        ours, theirs = (one._run(pictures) for one in (reference, backend))
        for (left, _), (right, _) in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(left[0], right[0], atol=2e-2)
