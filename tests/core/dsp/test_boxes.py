import numpy as np
import pytest

from llama_pajamas_run_core.dsp.boxes import iou_matrix, nms


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def test_overlaps():
    made = iou_matrix(boxes([0, 0, 10, 10]), boxes([0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [10, 0, 20, 10]))
    np.testing.assert_allclose(made, [[1, 1 / 3, 0, 0]], atol=1e-6)
    assert made.dtype == np.float32


def test_boxes_without_area_overlap_nothing():
    flat = boxes([5, 5, 5, 9], [9, 9, 2, 2])
    assert (iou_matrix(flat, boxes([0, 0, 10, 10])) == 0).all()
    assert (iou_matrix(flat, flat) == 0).all()
    assert iou_matrix(boxes(), flat).shape == (0, 2)


def slow_nms(boxes, scores, iou, classes):
    """The definition, box by box."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        same = [j for j in kept if classes[j] == classes[i]]
        if all(iou_matrix(boxes[[i]], boxes[[j]])[0, 0] <= iou for j in same):
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_greedy_definition(seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (80, 2))
    many = np.concatenate([corners, corners + rng.uniform(5, 40, (80, 2))], axis=1).astype(np.float32)
    scores = rng.uniform(0, 1, 80).astype(np.float32)
    classes = rng.integers(0, 3, 80)
    expected = slow_nms(many, scores, 0.4, classes)
    assert nms(many, scores, 0.4, classes=classes).tolist() == expected
    assert nms(many, scores, 0.4, classes=classes, limit=5).tolist() == expected[:5]
    assert nms(many, scores, 0.4).tolist() == slow_nms(many, scores, 0.4, np.zeros(80))
    assert nms(many, scores, 0.4, classes=classes, limit=0).tolist() == []
    assert nms(many, np.round(scores, 1), 0.4, classes=classes).tolist() == slow_nms(
        many, np.round(scores, 1), 0.4, classes
    )


def test_ties_stay_in_order_and_nothing_is_nothing():
    apart = boxes([0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 10, 10])
    assert nms(apart, np.full(3, 0.5, np.float32), 0.5).tolist() == [0, 1, 2]
    assert nms(boxes(), np.zeros(0, np.float32), 0.5).tolist() == []
