import numpy as np
import pytest

from llama_pajamas_run_core.dsp.outlines import coco_rle, from_coco_rle, outlines, run_lengths
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.vision import Mask


def random_mask(rng, most=14):
    height, width = (int(size) for size in rng.integers(1, most, 2))
    whole_height, whole_width = height + int(rng.integers(0, 4)), width + int(rng.integers(0, 4))
    part = rng.random((height, width)) < rng.choice([0.0, 0.2, 0.5, 0.8, 1.0])
    left, top = int(rng.integers(0, whole_width - width + 1)), int(rng.integers(0, whole_height - height + 1))
    return Mask(part, left, top, whole_width, whole_height)


def slow_lengths(mask):
    lengths, inside, count = [], False, 0
    for value in mask.full().T.reshape(-1):
        if value == inside:
            count += 1
        else:
            lengths.append(count)
            inside, count = value, 1
    return [*lengths, count]


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_those_of_the_whole_image(seed):
    rng = np.random.default_rng(seed)
    for _ in range(150):
        mask = random_mask(rng)
        assert run_lengths(mask).tolist() == slow_lengths(mask)
        back = from_coco_rle(coco_rle(mask))
        assert (back.full() == mask.full()).all()
        again = from_coco_rle({"size": [mask.height, mask.width], "counts": slow_lengths(mask)})
        assert again == back


def test_the_text_is_cocos():
    """Strings that pycocotools makes of the same masks."""
    square = np.zeros((9, 7), bool)
    square[2:5, 3:6] = True
    assert coco_rle(Mask(square, 0, 0, 7, 9)) == {"size": [9, 7], "counts": "m0360007"}
    assert coco_rle(Mask(np.ones((4, 5), bool), 0, 0, 5, 4))["counts"] == "0d0"
    assert coco_rle(Mask(np.zeros((0, 0), bool), 0, 0, 30, 30))["counts"] == "Tl0"
    assert from_coco_rle({"size": [30, 30], "counts": "Tl0"}).area == 0


def coco_by_hand(mask):
    """rleToString of COCO's maskApi.c, word for word."""
    counts = slow_lengths(Mask(mask, 0, 0, mask.shape[1], mask.shape[0]))
    text = ""
    for i, count in enumerate(counts):
        x = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            c = x & 0x1F
            x >>= 5
            more = x != -1 if c & 0x10 else x != 0
            if more:
                c |= 0x20
            text += chr(c + 48)
    return text


@pytest.mark.parametrize("seed", range(3))
def test_the_text_is_cocos_for_anything(seed):
    rng = np.random.default_rng(seed)
    for size in (3, 20, 300):
        mask = rng.random((size, size + 1)) < 0.4
        mask[size // 2 :] = True
        assert coco_rle(Mask(mask, 0, 0, size + 1, size))["counts"] == coco_by_hand(mask)


@pytest.mark.parametrize(
    "damaged",
    [
        {"size": [4, 4], "counts": [3, 4]},
        {"size": [4, 4], "counts": [20, -4]},
        {"size": [4, 4], "counts": "P"},
        {"size": [4, 4], "counts": " 0"},
        {"size": [4], "counts": [16]},
        {"counts": [16]},
        {"size": [0, 0], "counts": []},
    ],
)
def test_damaged_run_lengths(damaged):
    with pytest.raises(BadInput, match="damaged"):
        from_coco_rle(damaged)


def filled(rings, width, height):
    """Pixels inside of rings, by the even-odd rule at their centres."""
    inside = np.zeros((height, width), bool)
    for ring in rings:
        for row in range(height):
            for column in range(width):
                x, y, odd = column + 0.5, row + 0.5, False
                for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                    if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                        odd = not odd
                inside[row, column] ^= odd
    return inside


def without_holes(mask):
    """A mask whose holes are filled: what the outside does not reach, over edges alone, is inside."""
    outside = np.zeros(np.add(mask.shape, 2), bool)
    outside[0] = outside[-1] = True
    outside[:, 0] = outside[:, -1] = True
    free = np.ones_like(outside)
    free[1:-1, 1:-1] = ~mask
    while True:
        spread = outside.copy()
        spread[1:] |= outside[:-1]
        spread[:-1] |= outside[1:]
        spread[:, 1:] |= outside[:, :-1]
        spread[:, :-1] |= outside[:, 1:]
        # Pixels that touch at a corner do not hold the outside back.
        spread[1:, 1:] |= outside[:-1, :-1]
        spread[1:, :-1] |= outside[:-1, 1:]
        spread[:-1, 1:] |= outside[1:, :-1]
        spread[:-1, :-1] |= outside[1:, 1:]
        spread &= free
        if (spread == outside).all():
            return ~outside[1:-1, 1:-1]
        outside = spread


@pytest.mark.parametrize("seed", range(4))
def test_outlines_enclose_the_mask(seed):
    rng = np.random.default_rng(seed)
    for _ in range(20):
        mask = random_mask(rng, 9)
        rings = outlines(mask)
        assert (filled(rings, mask.width, mask.height) == without_holes(mask.full())).all()
        for ring in rings:
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps == 0).sum(axis=1) == 1).all()  # along the pixels' edges
            assert (np.abs(np.roll(steps, -1, axis=0) * steps).sum(axis=1) == 0).all()  # and each point a corner


def test_outlines_of_shapes():
    part = np.zeros((6, 8), bool)
    part[1:3, 1:5] = True
    part[4, 6] = True
    large, small = outlines(Mask(part, 10, 20, 100, 100))
    assert large.tolist() == [[15, 21], [15, 23], [11, 23], [11, 21]]
    assert small.tolist() == [[17, 24], [17, 25], [16, 25], [16, 24]]
    assert large.dtype == np.float32
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    assert len(outlines(Mask(ring, 0, 0, 5, 5))) == 1  # the hole is left out
    touching = np.eye(2, dtype=bool)
    assert len(outlines(Mask(touching, 0, 0, 2, 2))) == 2
    assert outlines(Mask(np.zeros((3, 3), bool), 0, 0, 3, 3)) == []


def test_tolerance_leaves_corners_out():
    y, x = np.mgrid[:200, :200]
    disc = Mask((x - 100) ** 2 + (y - 100) ** 2 < 80**2, 0, 0, 200, 200)
    (exact,), (rough,) = outlines(disc), outlines(disc, tolerance=2.0)
    assert len(rough) < len(exact) / 5
    radius = np.hypot(*(rough - 100).T)
    assert np.abs(radius - 80).max() < 2
    (square,) = outlines(Mask(np.ones((4, 4), bool), 0, 0, 4, 4), tolerance=1.0)
    assert len(square) == 4
