"""Images brought to a model's input size, and boxes brought back."""

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.types.vision import Box, Image, VisionSpec

#: The gray that fills what a letterboxed image leaves free, as ultralytics has it.
PAD_VALUE = 114.0
#: Output rows that are computed as one matrix product.
_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image lies in a model's input.

    Attributes:
        scale_x: input pixels for each of the image's pixels, across.
        scale_y: the same, down.
        left: x of the image's left edge in the input; negative where it was cropped.
        top: y of the image's upper edge in the input.
        width: the image's width in its own pixels.
        height: the image's height in its own pixels.
        across: its width in the input, with what a crop cuts off.
        down: its height in the input.
    """

    scale_x: float
    scale_y: float
    left: int
    top: int
    width: int
    height: int
    across: int
    down: int

    def restore(self, box: npt.NDArray[np.float32]) -> Box:
        """A box in the image's own pixels.

        Args:
            box: float32 [4], x1, y1, x2, y2 in input pixels.

        Returns:
            the box, clipped to the image.
        """
        return self.restore_all(box[None])[0]

    def restore_all(self, boxes: npt.NDArray[np.float32]) -> list[Box]:
        """Boxes in the image's own pixels.

        Args:
            boxes: float32 [n, 4], x1, y1, x2, y2 in input pixels.

        Returns:
            the boxes, clipped to the image.
        """
        return [Box(*row) for row in self.restored(boxes).tolist()]

    def restored(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Boxes in the image's own pixels, as an array.

        Args:
            boxes: float32 [n, 4], x1, y1, x2, y2 in input pixels.

        Returns:
            float64 [n, 4], clipped to the image.
        """
        edges = boxes.astype(np.float64)
        edges -= (self.left, self.top, self.left, self.top)
        edges /= (self.scale_x, self.scale_y, self.scale_x, self.scale_y)
        np.clip(edges, 0.0, (self.width, self.height, self.width, self.height), out=edges)
        return edges


def fit(image: Image, spec: VisionSpec) -> tuple[npt.NDArray[np.float32], Placement]:
    """Bring an image to a model's input.

    Bilinear; where the image shrinks, every pixel counts (the triangle filter widens with the scale, as in Pillow).

    Args:
        image: any size.
        spec: the input's size, how to get there, mean and deviation.

    Returns:
        float32 [3, height, width], scaled to 0..1 and then normalized, and where the image lies in it.
    """
    placed = place(image.width, image.height, spec)
    width, height, left, top = placed.width, placed.height, placed.left, placed.top
    across, down = placed.across, placed.down
    columns = _Axis(width, across, max(0, -left), min(across, spec.width - left))
    rows = _Axis(height, down, max(0, -top), min(down, spec.height - top))
    made = np.full((3, spec.height, spec.width), PAD_VALUE, np.float32)
    x, y = max(left, 0), max(top, 0)
    made[:, y : y + rows.count, x : x + columns.count] = _resize(image.pixels, rows, columns)

    factors, offsets = normalization(spec)
    made *= factors[:, None, None]
    made -= offsets[:, None, None]
    return made, placed


def place(width: int, height: int, spec: VisionSpec) -> Placement:
    """Where an image will lie in a model's input.

    Args:
        width: the image's width in pixels.
        height: the image's height in pixels.
        spec: the input's size and how to get there.
    """
    if spec.resize == "letterbox":
        ratio = min(spec.height / height, spec.width / width)
        across, down = max(1, round(width * ratio)), max(1, round(height * ratio))
        # The 0.1 makes a half round to the side that ultralytics' training code rounds it to.
        left, top = round((spec.width - across) / 2 - 0.1), round((spec.height - down) / 2 - 0.1)
    elif spec.resize == "crop":
        ratio = max(spec.height / height, spec.width / width) / spec.crop
        across, down = max(spec.width, round(width * ratio)), max(spec.height, round(height * ratio))
        left, top = -round((across - spec.width) / 2), -round((down - spec.height) / 2)
    else:
        across, down, left, top = spec.width, spec.height, 0, 0
    return Placement(across / width, down / height, left, top, width, height, across, down)


def normalization(spec: VisionSpec) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Factor and offset of each channel, float32 [3]: an input value is the pixel's times the one, less the other."""
    std = np.array(spec.std, np.float32)
    return 1.0 / (255.0 * std), np.array(spec.mean, np.float32) / std


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a resize: from ``size`` samples to ``resized``, of which ``first`` to ``last`` are wanted.

    Only those are computed, so that an extreme crop (a picture one pixel wide) costs no more than its result.
    """

    size: int
    resized: int
    first: int
    last: int

    @property
    def count(self) -> int:
        return self.last - self.first

    def needs(self, first: int, last: int) -> tuple[int, int]:
        """The input samples that outputs ``first`` to ``last`` depend on."""
        scale = self.size / self.resized
        support = max(1.0, scale)
        low = max(0, floor((first + 0.5) * scale - support))
        return low, min(self.size, ceil((last - 0.5) * scale + support))

    def weights(self, first: int, last: int) -> tuple[int, int, npt.NDArray[np.float32]]:
        """The input samples (low, high) and the weights [outputs, inputs] for outputs ``first`` to ``last``."""
        scale = self.size / self.resized
        low, high = self.needs(first, last)
        centres = (np.arange(first, last) + 0.5) * scale
        distance = np.abs(np.arange(low, high)[None, :] + 0.5 - centres[:, None]) / max(1.0, scale)
        weights = np.maximum(0.0, 1.0 - distance)
        return low, high, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _resize(pixels: npt.NDArray[np.uint8], rows: _Axis, columns: _Axis) -> npt.NDArray[np.float32]:
    """uint8 [height, width, 3] to float32 [3, rows.count, columns.count], 0 to 255."""
    top, bottom = rows.needs(rows.first, rows.last)
    left, right = columns.needs(columns.first, columns.last)
    part: npt.NDArray[np.uint8 | np.float32] = pixels[:, left:right]
    if rows.count * (right - left) <= (bottom - top) * columns.count:  # the order with less in between
        part = _resize_rows(part, rows, 0)
        return _resize_rows(part.transpose(1, 0, 2), columns, left).transpose(2, 1, 0)
    part = _resize_rows(pixels[top:bottom, left:right].transpose(1, 0, 2), columns, left)
    return _resize_rows(part.transpose(1, 0, 2), rows, top).transpose(2, 0, 1)


def _resize_rows(pixels: npt.NDArray[np.uint8 | np.float32], axis: _Axis, origin: int) -> npt.NDArray[np.float32]:
    """[n, m, 3], whose first row is input row ``origin``, to float32 [axis.count, m, 3]."""
    flat = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    if axis.size == axis.resized:
        same = flat[axis.first - origin : axis.last - origin].astype(np.float32)
        return same.reshape(axis.count, *pixels.shape[1:])
    out = np.empty((axis.count, flat.shape[1]), np.float32)
    for first in range(axis.first, axis.last, _BLOCK):
        last = min(first + _BLOCK, axis.last)
        low, high, weights = axis.weights(first, last)
        source = flat[low - origin : high - origin].astype(np.float32, copy=False)
        np.matmul(weights, source, out=out[first - axis.first : last - axis.first])
    return out.reshape(axis.count, *pixels.shape[1:])
