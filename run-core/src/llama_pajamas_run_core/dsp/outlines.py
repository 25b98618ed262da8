"""Masks told in other ways: COCO's run lengths, and outlines as polygons."""

from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.vision import Mask

#: Steps to the right, down, left and up, in this order: the next one is a turn to the right.
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def run_lengths(mask: Mask) -> npt.NDArray[np.int64]:
    """COCO's run lengths: pixels outside and inside by turns, column by column, beginning outside.

    Returns:
        int64 [n]; the first may be 0, and they sum to the image's pixels.
    """
    height, width = mask.part.shape
    total = mask.height * mask.width
    if not mask.part.any():
        return np.array([total], np.int64)
    # A row of nothing under each column keeps runs apart at the part's lower edge.
    padded = np.zeros((width, height + 1), np.int8)
    padded[:, :height] = mask.part.T
    steps = np.diff(padded.reshape(-1), prepend=0)
    starts, ends = (np.flatnonzero(steps == sign) for sign in (1, -1))
    starts, ends = (
        (mask.left + at // (height + 1)) * mask.height + mask.top + at % (height + 1) for at in (starts, ends)
    )
    apart = starts[1:] != ends[:-1]  # a run that goes on at the top of the next column is one run
    starts = starts[np.concatenate([[True], apart])]
    ends = ends[np.concatenate([apart, [True]])]
    edges = np.stack([starts, ends], axis=1).reshape(-1)
    return np.diff(edges, prepend=0, append=total)[: len(edges) + (1 if edges[-1] < total else 0)]


def coco_rle(mask: Mask) -> dict[str, Any]:
    """COCO's compressed run lengths, as its tools read them: ``{"size": [height, width], "counts": "..."}``."""
    lengths = run_lengths(mask)
    values = lengths.copy()
    values[3:] -= lengths[1:-2]  # from the fourth on, the difference to the one before last
    groups = np.zeros((len(values), 13), np.uint8)
    more = np.ones(len(values), np.bool_)
    sizes = np.zeros(len(values), np.intp)
    rest = values
    for index in range(groups.shape[1]):
        low = rest & 0x1F
        rest = rest >> 5
        sizes += more
        goes_on = more & np.where(low & 0x10, rest != -1, rest != 0)
        groups[:, index] = low | np.where(goes_on, 0x20, 0)
        more = goes_on
        if not more.any():
            break
    chosen = groups[np.arange(groups.shape[1])[None, :] < sizes[:, None]] + 48
    return {"size": [mask.height, mask.width], "counts": chosen.tobytes().decode("ascii")}


def from_coco_rle(encoded: dict[str, Any]) -> Mask:
    """The mask of COCO's run lengths, compressed (a string) or plain (a list of numbers).

    Raises:
        BadInput: they are damaged.
    """
    try:
        height, width = (int(side) for side in encoded["size"])
        counts = encoded["counts"]
        lengths = _expanded(counts) if isinstance(counts, str) else [int(count) for count in counts]
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"These run lengths of a mask are damaged: {error}.") from error
    if min(height, width) < 1 or min(lengths, default=-1) < 0 or sum(lengths) != height * width:
        raise BadInput("These run lengths of a mask are damaged: they do not add up to its size.")
    inside = np.arange(len(lengths)) % 2 == 1
    return Mask(np.repeat(inside, lengths).reshape(width, height).T, 0, 0, width, height)


def _expanded(text: str) -> list[int]:
    lengths: list[int] = []
    value = shift = 0
    for code in text.encode("ascii"):
        group = code - 48
        if not 0 <= group < 64:
            raise ValueError(f"the character {chr(code)!r} does not occur in them")
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("they end in the middle of a number")
    return lengths


def outlines(mask: Mask, *, tolerance: float = 0.0) -> list[npt.NDArray[np.float32]]:
    """The outer borders of a mask's connected parts, along the pixels' edges.

    Holes are left out (:func:`coco_rle` keeps them). Pixels that touch at a corner alone are parts of their own.

    Args:
        mask: the mask.
        tolerance: pixels by which an outline may be off, so that it needs fewer corners; 0 is exact.

    Returns:
        for each part float32 [n, 2] of x and y in the image's pixels, clockwise, the largest part first.
    """
    rings = [ring for ring in _rings(mask.part) if _area(ring) > 0]
    rings.sort(key=_area, reverse=True)
    offset = np.array([mask.left, mask.top], np.float32)
    return [(_simplified(ring, tolerance) if tolerance > 0 else ring).astype(np.float32) + offset for ring in rings]


def _rings(part: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """Closed borders, int64 [n, 2], with what is inside on their right."""
    height, width = part.shape
    padded = np.zeros((height + 2, width + 2), np.bool_)
    padded[1:-1, 1:-1] = part
    # Which borders leave a corner in each of the four directions; a corner is the upper left one of its pixel.
    here, above = padded[1:, 1:], padded[:-1, 1:]
    before, aslant = padded[1:, :-1], padded[:-1, :-1]
    leaving = np.stack([here & ~above, before & ~here, aslant & ~before, above & ~aslant])
    stride = width + 1
    borders = [plane.tobytes() for plane in leaving]
    unseen = [bytearray(plane) for plane in borders]
    jumps = tuple(x + y * stride for x, y in _STEPS)
    rings = []
    for start in np.flatnonzero(leaving[0]).tolist():
        if not unseen[0][start]:
            continue
        corners, at, heading = [], start, 0
        while unseen[heading][at]:
            unseen[heading][at] = 0
            at += jumps[heading]
            # To the right first: pixels that touch at a corner stay apart.
            onward = next(side for turn in (1, 0, 3) if borders[side := (heading + turn) % 4][at])
            if onward != heading:
                corners.append(at)
                heading = onward
        flat = np.array(corners, np.int64)
        rings.append(np.stack([flat % stride, flat // stride], axis=1))
    return rings


def _area(ring: npt.NDArray[Any]) -> float:
    """Twice the area inside, negative for a hole."""
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _simplified(ring: npt.NDArray[np.int64], tolerance: float) -> npt.NDArray[np.int64]:
    """Douglas and Peucker's fewer corners, from two corners far from each other on."""
    far = int(((ring - ring[0]) ** 2).sum(axis=1).argmax())
    closed = np.concatenate([ring, ring[:1]])
    keep = np.zeros(len(closed), np.bool_)
    keep[[0, far, -1]] = True
    open_spans = [(0, far), (far, len(closed) - 1)]
    while open_spans:
        first, last = open_spans.pop()
        if last - first < 2:
            continue
        start, along = closed[first], closed[last] - closed[first]
        beside = closed[first + 1 : last] - start
        length = float(np.hypot(*along))
        if length:
            distances = np.abs(along[0] * beside[:, 1] - along[1] * beside[:, 0]) / length
        else:
            distances = np.hypot(beside[:, 0], beside[:, 1])
        worst = int(distances.argmax())
        if distances[worst] > tolerance:
            middle = first + 1 + worst
            keep[middle] = True
            open_spans += [(first, middle), (middle, last)]
    kept = closed[:-1][keep[:-1]]
    return kept if len(kept) >= 3 else ring
