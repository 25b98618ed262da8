import time

import numpy as np
import pytest

from llama_pajamas_run_core.dsp.fit import place
from llama_pajamas_run_core.dsp.heads import Candidates
from llama_pajamas_run_core.dsp.masks import assemble_masks
from llama_pajamas_run_core.errors import InferenceError
from llama_pajamas_run_core.types.vision import Mask, VisionSpec

SPEC = VisionSpec(frozenset({"detect", "segment"}), 64, 64, "letterbox", labels=("a", "b"), head="yolov8-seg")


def found(boxes, coefficients, prototypes):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    count = len(boxes)
    return Candidates(
        boxes,
        np.ones(count, np.float32),
        np.zeros(count, np.int64),
        np.array(coefficients, np.float32),
        np.asarray(prototypes, np.float32),
    )


def slow(candidates, boxes, placement, spec):
    """The definition, pixel by pixel."""
    count, height, width = candidates.prototypes.shape
    made = []
    for weights, box in zip(candidates.coefficients, boxes, strict=True):
        layer = sum(weights[i] * candidates.prototypes[i].astype(np.float64) for i in range(count))
        mask = np.zeros((placement.height, placement.width), bool)
        for row in range(placement.height):
            for column in range(placement.width):
                x, y = column + 0.5, row + 0.5
                if not (box.x1 <= x < box.x2 and box.y1 <= y < box.y2):
                    continue
                u = (x * placement.scale_x + placement.left) * width / spec.width - 0.5
                v = (y * placement.scale_y + placement.top) * height / spec.height - 0.5
                u, v = min(max(u, 0), width - 1), min(max(v, 0), height - 1)
                i, j = int(v), int(u)
                i2, j2 = min(i + 1, height - 1), min(j + 1, width - 1)
                a, b = v - i, u - j
                value = (layer[i, j] * (1 - b) + layer[i, j2] * b) * (1 - a)
                value += (layer[i2, j] * (1 - b) + layer[i2, j2] * b) * a
                mask[row, column] = value > 0
        made.append(mask)
    return made


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("size", [(64, 64), (90, 40), (31, 77), (1, 1)])
def test_it_is_the_definition(resize, size):
    spec = VisionSpec(SPEC.tasks, 64, 48, resize, labels=("a",), head="yolov8-seg")
    rng = np.random.default_rng(size[0])
    placement = place(*size, spec)
    candidates = found(
        [[2, 2, 60, 40], [-5, 10, 30.7, 90], [33.3, 20.2, 34.1, 20.9], [70, 70, 90, 90]],
        rng.normal(0, 1, (4, 5)),
        rng.normal(0, 1, (5, 12, 16)),
    )
    boxes = placement.restore_all(candidates.boxes)
    masks = assemble_masks(candidates, boxes, placement, spec)
    for mask, expected in zip(masks, slow(candidates, boxes, placement, spec), strict=True):
        assert (mask.width, mask.height) == size
        different = mask.full() != expected
        assert different.sum() <= 0.002 * expected.size  # a sum of just zero, rounded


def test_a_square_is_a_square():
    prototypes = np.full((2, 16, 16), -1.0)
    prototypes[1, 4:12, 2:6] = 1.0
    placement = place(64, 64, SPEC)
    candidates = found([[0, 0, 64, 64], [0, 0, 16, 64]], [[0, 1], [0, 1]], prototypes)
    whole, part = assemble_masks(candidates, placement.restore_all(candidates.boxes), placement, SPEC)
    rows, columns = np.nonzero(whole.full())
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (16, 48, 8, 24)
    assert whole.area == 32 * 16 - 4  # between samples the corners are round
    assert part.area == 32 * 8 - 2
    assert part.part.shape == (64, 16)


def test_what_does_not_fit_is_an_error():
    placement = place(64, 64, SPEC)
    assert assemble_masks(found([], np.zeros((0, 2)), np.zeros((2, 4, 4))), [], placement, SPEC) == []
    wrong = found([[0, 0, 9, 9]], [[1, 2, 3]], np.zeros((2, 4, 4)))
    with pytest.raises(InferenceError, match="3 mask coefficients for 2"):
        assemble_masks(wrong, placement.restore_all(wrong.boxes), placement, SPEC)
    bare = Candidates(wrong.boxes, wrong.scores, wrong.classes)
    with pytest.raises(InferenceError, match="no masks"):
        assemble_masks(bare, placement.restore_all(wrong.boxes), placement, SPEC)


def test_a_crowd_takes_moments():
    spec = VisionSpec(SPEC.tasks, 640, 640, "letterbox", head="yolov8-seg")
    rng, placement = np.random.default_rng(0), place(1280, 720, spec)
    corners = rng.uniform(0, 500, (100, 2))
    candidates = found(
        np.concatenate([corners, corners + rng.uniform(20, 140, (100, 2))], axis=1),
        rng.normal(0, 1, (100, 32)),
        rng.normal(0, 1, (32, 160, 160)),
    )
    boxes = placement.restore_all(candidates.boxes)
    start = time.thread_time()
    assert len(assemble_masks(candidates, boxes, placement, spec)) == 100
    assert time.thread_time() - start < 1.0


def test_masks_compare_by_what_they_show():
    part = np.ones((2, 3), bool)
    one, same = Mask(part, 1, 2, 10, 10), Mask(part.copy(), 1, 2, 10, 10)
    assert one == same
    assert hash(one) == hash(same)
    assert one != Mask(part, 2, 2, 10, 10)
    assert one != "a mask"
    assert one.area == 6
    assert one.full()[2:4, 1:4].all()
    assert one.full().sum() == 6
    with pytest.raises(ValueError, match="inside"):
        Mask(part, 8, 0, 10, 10)
    with pytest.raises(TypeError, match="bool"):
        Mask(np.ones((2, 2), np.uint8), 0, 0, 10, 10)
