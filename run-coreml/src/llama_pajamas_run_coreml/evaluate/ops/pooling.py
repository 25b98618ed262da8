"""Pooling over one, two or three axes."""

import numpy as np

from llama_pajamas_run_coreml.evaluate.ops.convolution import numbers, paddings, windows
from llama_pajamas_run_coreml.evaluate.ops.registry import op
from llama_pajamas_run_coreml.evaluate.types import Array, Scalar


def _windows(
    x: Array, kernel: Array, strides: Array | None, kind: str, pad: Array | None, ceil: bool, fill: float
) -> tuple[Array, Array]:
    """The windows of the padded picture, and those of a picture that is 1 where the real one is."""
    rank = x.ndim - 2
    sizes, step = numbers(kernel, rank, 1), numbers(strides, rank, 1)
    around = paddings(kind, pad, x.shape[2:], sizes, step, (1,) * rank)
    if ceil:
        around = [
            (before, behind + _missing(size, before, behind, width, stride))
            for (before, behind), size, width, stride in zip(around, x.shape[2:], sizes, step, strict=True)
        ]
    padded = np.pad(x, ((0, 0), (0, 0), *around), constant_values=fill)
    real = np.pad(np.ones((1, 1, *x.shape[2:]), np.float32), ((0, 0), (0, 0), *around))
    return windows(padded, sizes, step, (1,) * rank), windows(real, sizes, step, (1,) * rank)


def _missing(size: int, before: int, behind: int, width: int, stride: int) -> int:
    """What is to be added behind an axis so that a last window that hangs over the end counts too."""
    total = size + before + behind
    places = -(-(total - width) // stride) + 1
    if (before or behind) and (places - 1) * stride >= size + before:
        places -= 1
    return max(0, (places - 1) * stride + width - total)


def _combined(seen: Array, rank: int, combine: np.ufunc) -> Array:
    """What an operation makes of all places of each window."""
    # One call on whole pictures for each place in the window: much faster than a reduction over strided axes.
    places = [seen[(slice(None), slice(None), *offset)] for offset in np.ndindex(*seen.shape[2 : 2 + rank])]
    made = places[0].copy()
    for place in places[1:]:
        combine(made, place, out=made)
    return made


@op("max_pool", exact=True)
def max_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    ceil_mode: Scalar = False,
) -> Array:
    seen, _ = _windows(x, kernel_sizes, strides, pad_type, pad, bool(ceil_mode), -np.inf)
    return _combined(seen, x.ndim - 2, np.maximum)


@op("avg_pool")
def avg_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    exclude_padding_from_average: Scalar = False,
    ceil_mode: Scalar = False,
) -> Array:
    seen, real = _windows(x, kernel_sizes, strides, pad_type, pad, bool(ceil_mode), 0.0)
    total = _combined(seen, x.ndim - 2, np.add)
    if bool(exclude_padding_from_average):
        return total / _combined(real, x.ndim - 2, np.add)
    return total / np.float32(np.prod(kernel_sizes))


@op("l2_pool")
def l2_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    ceil_mode: Scalar = False,
) -> Array:
    seen, _ = _windows(np.square(x), kernel_sizes, strides, pad_type, pad, bool(ceil_mode), 0.0)
    return np.sqrt(_combined(seen, x.ndim - 2, np.add))
