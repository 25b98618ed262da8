"""Plain NumPy and Pillow versions of what surrounds the networks: resizing, decoding, non-maximum suppression.

Recipes measure bare networks with these; a runtime brings its own.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .evaluate import Found, iou

Pixels = NDArray[np.float32]


def _planes(image: Image.Image, normalize: bool) -> Pixels:
    values = np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    return np.ascontiguousarray(
        (values - np.float32(0.5)) / np.float32(0.5) if normalize else values
    )


def letterbox(
    image: NDArray[np.uint8], size: int
) -> tuple[Pixels, float, tuple[int, int]]:
    """Fits an image into size x size with gray (114) around it.

    Returns:
        (3, size, size) float32 in 0 to 1, the scale, and the left and top margin in pixels.
    """
    height, width = image.shape[:2]
    scale = min(size / width, size / height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
    canvas = Image.new("RGB", (size, size), (114, 114, 114))
    canvas.paste(
        Image.fromarray(image).resize(inner, Image.Resampling.BILINEAR), (left, top)
    )
    return _planes(canvas, normalize=False), scale, (left, top)


def center_crop(image: NDArray[np.uint8], size: int) -> Pixels:
    """Resizes the shorter side to ``size``, cuts out the middle; mean and deviation 0.5."""
    height, width = image.shape[:2]
    scale = size / min(width, height)
    whole = Image.fromarray(image).resize(
        (round(width * scale), round(height * scale)), Image.Resampling.BILINEAR
    )
    left, top = (whole.width - size) // 2, (whole.height - size) // 2
    return _planes(whole.crop((left, top, left + size, top + size)), normalize=True)


def stretch(image: NDArray[np.uint8], size: int) -> Pixels:
    """Resizes to size x size whatever the shape; mean and deviation 0.5."""
    return _planes(
        Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR),
        normalize=True,
    )


def decode_yolov8(
    output: NDArray[np.floating[Any]],
    scale: float,
    offset: tuple[int, int],
    width: int,
    height: int,
    least: float = 0.01,
    same: float = 0.6,
) -> Found:
    """Boxes in the pixels of the original image from a YOLOv8 output (4 + classes, anchors).

    Args:
        output: centre x, centre y, width, height, then one score per class.
        scale: of the letterbox.
        offset: left and top margin of the letterbox.
        width: of the original image.
        height: of the original image.
        least: lower scores are dropped.
        same: two boxes of a class that overlap more than this are one object.
    """
    scores, labels = output[4:].max(axis=0), output[4:].argmax(axis=0)
    kept = scores >= least
    x, y, w, h = output[:4, kept]
    corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
    corners = (corners - np.array([*offset, *offset])) / scale
    corners = np.clip(corners, 0, np.array([width, height, width, height]))
    scores, labels = scores[kept], labels[kept]
    order = np.argsort(-scores, kind="stable")
    chosen: list[int] = []
    overlaps = iou(corners, corners)
    for index in order:
        if all(
            labels[index] != labels[other] or overlaps[index, other] <= same
            for other in chosen
        ):
            chosen.append(int(index))
    return Found(corners[chosen], scores[chosen], labels[chosen])
