import time

import numpy as np
import pytest

from llama_pajamas_run_core.dsp.heads import (
    class_probabilities,
    decode_boxes,
    read_candidates,
    suppress,
    top_classes,
    unit_vectors,
)
from llama_pajamas_run_core.errors import InferenceError
from llama_pajamas_run_core.types.vision import DetectOptions, VisionSpec

LABELS = ("cat", "dog", "llama")


def spec(head="yolov8", labels=LABELS):
    return VisionSpec(frozenset({"detect"}), 320, 320, "letterbox", labels=labels, head=head)


def yolo(*rows, places=40):
    """[4 + 3, places] from (cx, cy, w, h, class, score)."""
    output = np.zeros((7, places), np.float32)
    for place, (*box, class_id, score) in enumerate(rows):
        output[:4, place] = box
        output[4 + class_id, place] = score
    return output


ROWS = (100, 100, 40, 20, 2, 0.9), (102, 101, 40, 20, 2, 0.8), (101, 100, 40, 20, 1, 0.7), (200, 50, 10, 10, 0, 0.3)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_yolov8(turned, kind):
    output = yolo(*ROWS).astype(kind)
    found = decode_boxes([output.T if turned else output], spec(), DetectOptions())
    assert [(class_id, round(confidence, 2)) for class_id, confidence, _ in found] == [(2, 0.9), (1, 0.7), (0, 0.3)]
    assert [type(class_id) for class_id, _, _ in found] == [int] * 3
    np.testing.assert_allclose(found[0][2], [80, 90, 120, 110])
    assert found[0][2].dtype == np.float32


def test_a_square_output_is_read_as_channels_first():
    output = yolo(*ROWS, places=7)
    assert len(decode_boxes([output], spec(), DetectOptions())) == 3


def test_without_labels_the_shorter_side_is_the_channels():
    for output in (yolo(*ROWS), yolo(*ROWS).T):
        assert len(decode_boxes([output], spec(labels=()), DetectOptions())) == 3


def test_what_fills_a_list_up_is_no_object():
    table = np.array([[10, 10, 20, 20, 0.9, 1], [0, 0, 5, 5, 0.0, -1], [0, 0, 5, 5, 0.5, -1]], np.float32)
    assert ids(table, "nms", confidence=0.0) == [1]


def test_vectors_that_are_no_numbers_are_an_error():
    with pytest.raises(InferenceError, match="not finite"):
        unit_vectors(np.array([[1.0, np.inf]], np.float32))


def ids(output, head="yolov8", **options):
    return [class_id for class_id, _, _ in decode_boxes([output], spec(head), DetectOptions(**options))]


def test_options():
    output = yolo(*ROWS)
    assert ids(output, confidence=0.5) == [2, 1]
    assert ids(output, confidence=0.95) == []
    assert ids(output, iou=0.95) == [2, 2, 1, 0]
    assert ids(output, classes=(0, 1)) == [1, 0]
    assert ids(output, classes=()) == []
    assert ids(output, max_detections=1) == [2]
    assert ids(output, confidence=0.0, max_detections=3) == [2, 1, 0]  # places without a box are none


def test_end_to_end_boxes_are_taken_as_they_are():
    rows = [[10, 10, 50, 50, 0.5, 1], [11, 10, 50, 50, 0.9, 1], [0, 0, 5, 5, 0.1, 0], [0, 0, 0, 0, 0, 0]]
    found = decode_boxes([np.array(rows, np.float32)], spec("nms"), DetectOptions())
    assert [(class_id, round(confidence, 2)) for class_id, confidence, _ in found] == [(1, 0.9), (1, 0.5)]
    np.testing.assert_allclose(found[0][2], [11, 10, 50, 50])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_left_out(bad):
    output = yolo(*ROWS)
    output[0, 0] = bad
    output[5, 2] = bad
    output[:, 10] = bad
    found = decode_boxes([output], spec(), DetectOptions())
    assert [round(confidence, 2) for _, confidence, _ in found] == [0.8, 0.3]
    table = np.array([[bad, 0, 9, 9, 0.9, 1], [0, 0, 9, 9, bad, 1], [0, 0, 9, 9, 0.9, bad], [0, 0, 9, 9, 0.6, 2]])
    assert ids(table.astype(np.float32), "nms") == [2]


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        ("yolov8", (9, 40)),
        ("yolov8", (1, 7, 40)),
        ("yolov8", (40,)),
        ("nms", (5, 7)),
        ("nms", (6,)),
        ("logits", (7, 4)),
    ],
)
def test_shapes_that_do_not_fit_the_head(head, shape):
    with pytest.raises(InferenceError):
        decode_boxes([np.zeros(shape, np.float32)], spec(head), DetectOptions())


def chosen(outputs, head, labels=LABELS, **options):
    asked = DetectOptions(**options)
    return suppress(read_candidates(outputs, spec(head, labels), asked), spec(head, labels), asked)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("labels", [LABELS, ()])
def test_coefficients_follow_their_boxes(turned, labels):
    weights = np.random.default_rng(0).normal(0, 1, (5, 40)).astype(np.float32)
    table = np.concatenate([yolo(*ROWS), weights])
    prototypes = np.zeros((5, 4, 4), np.float16)
    found = chosen([table.T if turned else table, prototypes], "yolov8-seg", labels)
    assert found.classes.tolist() == [2, 1, 0]
    np.testing.assert_array_equal(found.coefficients, weights[:, [0, 2, 3]].T)
    assert found.prototypes is prototypes
    with pytest.raises(InferenceError, match="without the prototypes"):
        chosen([table], "yolov8-seg")
    with pytest.raises(InferenceError, match=r"\[m, h, w\]"):
        chosen([table, prototypes[0]], "yolov8-seg")
    with pytest.raises(InferenceError):
        chosen([table[:9], prototypes], "yolov8-seg")


def test_end_to_end_boxes_with_coefficients():
    rows = np.array([[10, 10, 50, 50, 0.5, 1, 7, 8], [11, 10, 50, 50, 0.9, 2, 5, 6]], np.float32)
    found = chosen([rows, np.zeros((2, 4, 4), np.float32)], "nms-seg")
    assert found.classes.tolist() == [2, 1]
    assert found.coefficients.tolist() == [[5, 6], [7, 8]]
    with pytest.raises(InferenceError):
        chosen([rows, np.zeros((3, 4, 4), np.float32)], "nms-seg")


BOXES = np.array([[10, 10, 50, 50], [0, 0, 5, 5], [11, 10, 50, 50], [4, 4, 4, 9], [1, 1, np.nan, 9]], np.float32)
KINDS, SCORES = np.array([1, 0, 1, 2, 2], np.int64), np.array([0.5, 0.9, 0.8, 0.95, 0.99], np.float32)


def test_boxes_labels_and_scores_in_outputs_of_their_own():
    found = chosen([BOXES, KINDS, SCORES], "boxes")
    assert found.classes.tolist() == [0, 1, 1]  # the model has suppressed its doubles itself
    np.testing.assert_array_equal(found.boxes, BOXES[[1, 2, 0]])
    assert chosen([BOXES, KINDS, SCORES], "boxes", classes=(1,), max_detections=1).classes.tolist() == [1]
    assert len(chosen([BOXES[:0], KINDS[:0], SCORES[:0]], "boxes")) == 0
    floats = chosen([BOXES, KINDS.astype(np.float32), SCORES.astype(np.float16)], "boxes")
    assert floats.classes.dtype == np.int64
    assert floats.scores.dtype == np.float32


def test_only_the_boxes_that_count():
    for count, classes in ((np.array([2], np.int32), [0, 1]), (np.array(9), [0, 1, 1]), (np.array([-1]), [])):
        found = chosen([count, BOXES, SCORES, KINDS.astype(np.int32)], "efficient-nms")
        assert found.classes.tolist() == classes


@pytest.mark.parametrize(
    ("head", "outputs"),
    [
        ("boxes", [BOXES, KINDS]),
        ("boxes", [BOXES, KINDS[:3], SCORES]),
        ("boxes", [BOXES[:, :3], KINDS, SCORES]),
        ("boxes", [KINDS, BOXES, SCORES]),
        ("efficient-nms", [BOXES, KINDS, SCORES]),
        ("efficient-nms", [np.array([1, 2]), BOXES, SCORES, KINDS]),
    ],
)
def test_outputs_that_do_not_fit_together(head, outputs):
    with pytest.raises(InferenceError):
        chosen(outputs, head)


def test_a_crowd_is_read_quickly():
    rng = np.random.default_rng(0)
    output = np.concatenate([rng.uniform(20, 600, (4, 8400)), rng.uniform(0, 1, (80, 8400))]).astype(np.float32)
    labels = tuple(str(i) for i in range(80))
    start = time.thread_time()
    found = decode_boxes([output], spec(labels=labels), DetectOptions(confidence=0.001))
    assert time.thread_time() - start < 1.0
    assert len(found) == 300


def test_softmax():
    made = class_probabilities(np.array([[1e4, 0, -1e4], [1, 2, 3]]), spec("logits"))
    np.testing.assert_allclose(made, [[1, 0, 0], [0.09003057, 0.24472848, 0.66524094]], atol=1e-6)
    assert made.dtype == np.float32
    given = np.array([[0.2, 0.3, 0.5]], np.float16)
    np.testing.assert_allclose(class_probabilities(given, spec("probabilities")), given)
    assert class_probabilities(np.zeros((2, 3, 1, 1), np.float32), spec("logits")).shape == (2, 3)


def test_probabilities_leave_the_output_alone():
    output = np.array([[1, 2, 3]], np.float32)
    class_probabilities(output, spec("logits"))
    assert output.tolist() == [[1, 2, 3]]


def test_logits_that_are_not_finite():
    with pytest.raises(InferenceError, match="not finite"):
        class_probabilities(np.array([[1, np.nan, 3]], np.float32), spec("logits"))


def test_unit_vectors():
    made = unit_vectors(np.array([[3, 4], [0, 0], [1e-30, 0], [3e38, 3e38]], np.float32))
    np.testing.assert_allclose(np.linalg.norm(made, axis=1)[[0, 3]], 1, atol=1e-6)
    assert made[1].tolist() == [0, 0]
    assert np.isfinite(made).all()
    assert unit_vectors(np.ones((2, 5, 1, 1), np.float16)).shape == (2, 5)


@pytest.mark.parametrize("classes", [1, 2, 7, 1000])
@pytest.mark.parametrize("top", [1, 5, 999, 2000])
def test_the_likeliest_classes(classes, top):
    rng = np.random.default_rng(classes)
    for probabilities in (rng.random((6, classes), np.float32), rng.integers(0, 4, (6, classes)).astype(np.float32)):
        expected = [np.argsort(-row, kind="stable")[:top].tolist() for row in probabilities]
        assert [one.tolist() for one in top_classes(probabilities, top)] == expected
