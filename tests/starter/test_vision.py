"""The starter vision models: how scenes are drawn, how figures are made, what the shipped graphs answer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llama_pajamas_starter
from llama_pajamas_run_core.dsp.fit import fit
from llama_pajamas_run_core.types.vision import Box, Detection, Image, VisionSpec
from llama_pajamas_starter.vision import evaluate
from llama_pajamas_starter.vision.captions import Content, caption, captioned, random_content
from llama_pajamas_starter.vision.objects import PAINTERS, TILT
from llama_pajamas_starter.vision.scenes import (
    HELD_OUT_SEEDS,
    TRAIN_SEEDS,
    Thing,
    demo_scene,
    describe,
    render,
    scene,
    single_object,
)
from llama_pajamas_starter.vocabulary import OBJECTS

MODELS = Path(llama_pajamas_starter.__file__).parent / "models"
RECORDED = json.loads((Path(__file__).parent / "vision_recorded.json").read_text(encoding="utf-8"))


def test_a_seed_gives_the_same_scene_again() -> None:
    first, second = scene(41), scene(41)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.boxes, second.boxes)
    assert first.labels.tolist() == second.labels.tolist()
    assert not np.array_equal(first.image[:200, :120], scene(42).image[:200, :120])


@pytest.mark.parametrize("seed", [3, 17, HELD_OUT_SEEDS[5], HELD_OUT_SEEDS[11]])
def test_boxes_lie_inside_and_have_area(seed: int) -> None:
    drawn = scene(seed)
    height, width = drawn.image.shape[:2]
    assert drawn.image.dtype == np.uint8
    assert drawn.boxes.shape == (len(drawn.labels), 4)
    assert (drawn.boxes[:, :2] >= 0).all()
    assert (drawn.boxes[:, 2:] <= (width, height)).all()
    assert (drawn.boxes[:, 2:] - drawn.boxes[:, :2] >= 8).all()


@pytest.mark.parametrize("label", range(len(OBJECTS)))
def test_a_box_is_tight(label: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes when an object is drawn on a plain background is what its box encloses."""
    from PIL import Image as PillowImage

    from llama_pajamas_starter.vision import scenes

    monkeypatch.setattr(scenes, "background", lambda rng, size: PillowImage.new("RGB", size, (1, 2, 3)))
    drawn = render(np.random.default_rng(label), [Thing(label, 0, 60, 64, 30)], 128, 128, camera=False)
    rows, columns = np.nonzero((drawn.image != (1, 2, 3)).any(axis=-1))
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(drawn.boxes[0] - seen).max() <= 2


def test_training_and_held_out_seeds_are_disjoint() -> None:
    assert TRAIN_SEEDS.stop <= HELD_OUT_SEEDS.start
    assert HELD_OUT_SEEDS[0] not in TRAIN_SEEDS


def test_every_object_has_a_painter() -> None:
    assert len(PAINTERS) == len(OBJECTS) == len(TILT)


def test_demo_scene_shows_three_objects_left_to_right() -> None:
    drawn = demo_scene()
    assert describe(drawn) == ["yellow boat", "blue house", "green fish"]
    assert drawn.image.shape == (320, 480, 3)


def test_captions() -> None:
    red_car, house = OBJECTS.index("car"), OBJECTS.index("house")
    pair = Content(1, red_car, 0, "left of", house, 4)
    assert caption(pair) == "a red car left of a blue house"
    assert caption(pair, reverse=True) == "a blue house right of a red car"
    assert caption(Content(2, OBJECTS.index("fish"), 3)) == "two green fish"
    assert caption(Content(1, OBJECTS.index("box"), 1)) == "an orange box"


@pytest.mark.parametrize("seed", range(40))
def test_captioned_scenes_show_what_is_told(seed: int) -> None:
    drawn, content = captioned(seed, random_content(np.random.default_rng(seed)))
    if content.relation is None:
        assert drawn.labels.tolist() == [content.label] * content.count
        return
    x, y = ((drawn.boxes[:, :2] + drawn.boxes[:, 2:]) / 2).T
    along, across = (x, y) if content.relation == "left of" else (y, x)
    assert along[0] < along[1]
    assert abs(across[0] - across[1]) < along[1] - along[0]


def test_retrieval_captions_are_distinct() -> None:
    texts = [text for _, text in evaluate.retrieval_set(20)]
    assert len(set(texts)) == 20


def test_average_precision_of_a_known_ranking() -> None:
    right, scores = np.array([True, False, True]), np.array([0.9, 0.8, 0.7])
    # Precision 1 up to recall 1/2, then 2/3 up to recall 1.
    assert evaluate.average_precision(right, scores, 2) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert evaluate.average_precision(right, scores, 4) == pytest.approx(0.25 + 0.25 * 2 / 3)
    assert evaluate.average_precision(np.array([], dtype=bool), np.array([]), 3) == 0
    assert np.isnan(evaluate.average_precision(np.array([], dtype=bool), np.array([]), 0))


def test_mean_average_precision_counts_a_double_as_wrong() -> None:
    truth = (np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32), np.array([0, 1]))
    twice = evaluate.Found(
        np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
        np.array([0, 0, 1]),
    )
    assert evaluate.mean_average_precision([twice], [truth], 2) == {0.5: 1.0}
    wrong_first = twice._replace(scores=np.array([0.5, 0.8, 0.7], np.float32))
    # At IoU 0.95 only the exact box counts, and the sloppy one stands before it.
    assert evaluate.mean_average_precision([wrong_first], [truth], 2, (0.95,)) == {0.95: pytest.approx(0.75)}
    moved = twice._replace(labels=np.array([1, 1, 0]))
    assert evaluate.mean_average_precision([moved], [truth], 2) == {0.5: 0.0}


def test_precision_and_recall_at_a_confidence() -> None:
    truth = (np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32), np.array([0, 1]))
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30]], np.float32)
    found = evaluate.Found(boxes, np.array([0.9, 0.5, 0.1], np.float32), np.array([0, 0, 1]))
    assert evaluate.precision_and_recall([found], [truth]) == (0.5, 0.5)
    assert evaluate.precision_and_recall([found], [truth], confidence=0.05) == (pytest.approx(2 / 3), 1.0)


def test_detections_become_arrays() -> None:
    found = evaluate.as_found([Detection(3, "tree", 0.5, Box(1, 2, 3, 4))])
    assert found.boxes.tolist() == [[1, 2, 3, 4]]
    assert found.labels.tolist() == [3]
    assert evaluate.as_found([]).boxes.shape == (0, 4)


def _session(path: str) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(MODELS / path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("path", sorted(RECORDED))
def test_graphs_answer_as_the_trained_networks_did(path: str) -> None:
    """The recipe recorded PyTorch's outputs for inputs that NumPy makes the same everywhere."""
    session, recorded = _session(path), RECORDED[path]
    given = session.get_inputs()[0]
    rng = np.random.default_rng(recorded["seed"])
    if given.type == "tensor(int64)":
        values = rng.integers(4, recorded["tokens"], (2, given.shape[1]))
    else:
        values = rng.random((2, *given.shape[1:]), dtype=np.float32)
    (output,) = session.run(None, {given.name: values})
    assert list(output.shape) == recorded["shape"]
    flat = output.reshape(-1)[:: recorded["step"]]
    np.testing.assert_allclose(flat, recorded["values"], rtol=2e-3, atol=2e-3)


def test_graphs_hold_no_second_copy_of_the_weights() -> None:
    for graph in MODELS.glob("*/*.onnx"):
        assert graph.stat().st_size < 100_000
    shipped = sum(file.stat().st_size for name in ("detect", "classify", "embed") for file in (MODELS / name).iterdir())
    assert shipped <= 3_500_000


def _config(name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((MODELS / name / "config.json").read_text(encoding="utf-8"))
    return config


def test_the_classifier_knows_held_out_objects() -> None:
    session, config = _session("classify/model.onnx"), _config("classify")
    spec = VisionSpec(frozenset({"classify"}), 96, 96, "crop", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), OBJECTS, "logits")
    assert config["labels"] == list(OBJECTS)
    scenes = [single_object(HELD_OUT_SEEDS[5000 + index]) for index in range(40)]
    batch = np.stack([fit(Image(one.image), spec)[0] for one in scenes])
    (logits,) = session.run(None, {"images": batch})
    assert np.mean(logits.argmax(axis=1) == [one.labels[0] for one in scenes]) >= 0.95


def test_the_detector_finds_the_demo_scene() -> None:
    session, drawn = _session("detect/model.onnx"), demo_scene()
    spec = VisionSpec(frozenset({"detect"}), 320, 320, "letterbox", labels=OBJECTS)
    pixels, placement = fit(Image(drawn.image), spec)
    (output,) = session.run(None, {"images": pixels[None]})
    for box, label in zip(drawn.boxes, drawn.labels, strict=True):
        best = output[0, :, output[0, 4 + label].argmax()]
        assert best[4 + label] > 0.5
        x, y, width, height = best[:4]
        corners = placement.restore(np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2]))
        assert np.abs(np.array([corners.x1, corners.y1, corners.x2, corners.y2]) - box).max() < 8


def test_the_embedder_finds_the_image_of_a_caption() -> None:
    pytest.importorskip("onnxruntime")
    from llama_pajamas_run_onnx.vision import ONNXVisionBackend

    with ONNXVisionBackend(MODELS / "embed") as backend:
        found = evaluate.embedder(backend, groups=1, count=40)
        near, far = backend.embed_text(["a grey car", "three yellow flowers"]) @ backend.embed_text(["a gray car"])[0]
    assert found["text-to-image R@1"] >= 0.9
    assert near > 0.9 > far


def test_the_detector_finds_held_out_objects_through_its_backend() -> None:
    pytest.importorskip("onnxruntime")
    from llama_pajamas_run_onnx.vision import ONNXVisionBackend

    with ONNXVisionBackend(MODELS / "detect") as backend:
        assert evaluate.detector(backend, 20)["mAP50"] >= 0.95
