"""Masks of objects from prototypes, as YOLO's segmentation models give them."""

from math import ceil

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.dsp.fit import Placement
from llama_pajamas_run_core.dsp.heads import Candidates
from llama_pajamas_run_core.errors import InferenceError
from llama_pajamas_run_core.types.vision import Box, Mask, VisionSpec


def assemble_masks(found: Candidates, boxes: list[Box], placement: Placement, spec: VisionSpec) -> list[Mask]:
    """The mask of each object, in the image's own pixels.

    A mask is the sum of the prototypes, weighted by the object's coefficients; a pixel of the image belongs to the
    object where that sum, between the prototypes' samples interpolated bilinearly at the pixel's centre, is above 0
    and the centre lies within the object's box.

    Args:
        found: the objects, with coefficients and prototypes.
        boxes: their boxes in the image's own pixels.
        placement: where the image lies in the model's input.
        spec: the input's size.

    Returns:
        for each object its mask.

    Raises:
        InferenceError: the coefficients do not fit the prototypes.
    """
    if not len(found):
        return []
    if found.coefficients is None or found.prototypes is None:
        raise InferenceError("The model gave no masks.")
    prototypes = found.prototypes.astype(np.float32, copy=False)
    count, height, width = prototypes.shape
    if found.coefficients.shape != (len(found), count):
        raise InferenceError(f"The model gives {found.coefficients.shape[1]} mask coefficients for {count} prototypes.")
    logits = (found.coefficients @ prototypes.reshape(count, -1)).reshape(-1, height, width)
    made = []
    for layer, box in zip(logits, boxes, strict=True):
        left, right = _centres(box.x1, box.x2)
        top, bottom = _centres(box.y1, box.y2)
        columns = _samples(left, right, placement.left, placement.scale_x, width / spec.width, width)
        rows = _samples(top, bottom, placement.top, placement.scale_y, height / spec.height, height)
        made.append(Mask(_interpolate(layer, rows, columns) > 0, left, top, placement.width, placement.height))
    return made


def _centres(low: float, high: float) -> tuple[int, int]:
    """First and last (exclusive) of the pixels whose centres lie at or after ``low`` and before ``high``."""
    first = max(0, ceil(low - 0.5))
    return first, max(first, ceil(high - 0.5))


def _samples(
    first: int, last: int, offset: int, scale: float, step: float, size: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """For each pixel of the image the prototype samples before and after its centre, and how near it is to the later.

    Args:
        first: the first pixel.
        last: one past the last pixel.
        offset: where the image begins in the input.
        scale: input pixels for each of the image's.
        step: prototype samples for each input pixel.
        size: prototype samples in all.
    """
    places = ((np.arange(first, last) + 0.5) * scale + offset) * step - 0.5
    places = np.clip(places, 0.0, size - 1.0)
    before = places.astype(np.intp)
    return before, np.minimum(before + 1, size - 1), (places - before).astype(np.float32)


def _interpolate(
    layer: npt.NDArray[np.float32],
    rows: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]],
    columns: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]],
) -> npt.NDArray[np.float32]:
    above, below, down = rows
    before, after, across = columns
    if not len(above) or not len(before):
        return np.zeros((len(above), len(before)), np.float32)
    # Only the samples that the columns reach are blended downwards.
    low, high = int(before[0]), int(after[-1]) + 1
    part = layer[:, low:high]
    blended = part[above]
    blended += (part[below] - blended) * down[:, None]
    made: npt.NDArray[np.float32] = blended[:, before - low]
    made += (blended[:, after - low] - made) * across
    return made
