"""Convolutions over one, two or three axes, as products of matrices."""

import math
from collections.abc import Sequence

import numpy as np

from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_coreml.evaluate.ops.registry import op
from llama_pajamas_run_coreml.evaluate.types import Array, Scalar


def numbers(values: Array | None, count: int, default: int) -> tuple[int, ...]:
    """A parameter with a number for each axis, or the default for each."""
    return (default,) * count if values is None else tuple(int(value) for value in np.atleast_1d(values))


def paddings(
    kind: str,
    pad: Array | None,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[tuple[int, int]]:
    """How much is added before and behind each axis."""
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    if kind == "custom":
        given = numbers(pad, 2 * len(sizes), 0)
        return [(given[2 * axis], given[2 * axis + 1]) for axis in range(len(sizes))]
    if kind not in ("same", "same_lower"):
        raise Unsupported(f"The padding {kind} is not known here.")
    made = []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, stride * (math.ceil(size / stride) - 1) + (width - 1) * dilation + 1 - size)
        less, more = total // 2, total - total // 2
        made.append((more, less) if kind == "same_lower" else (less, more))
    return made


def windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Array:
    """Every window of the last axes, as a view: [n, channels, *kernel, *places]."""
    rank = len(kernel)
    lead, steps = x.shape[:-rank], x.strides[-rank:]
    places = [
        (size - (width - 1) * dilation - 1) // stride + 1
        for size, width, stride, dilation in zip(x.shape[-rank:], kernel, strides, dilations, strict=True)
    ]
    if min(places) < 1:
        raise ValueError(f"a window of {list(kernel)} does not fit into {list(x.shape[-rank:])}")
    inner = [step * dilation for step, dilation in zip(steps, dilations, strict=True)]
    outer = [step * stride for step, stride in zip(steps, strides, strict=True)]
    shape = (*lead, *kernel, *places)
    return np.lib.stride_tricks.as_strided(x, shape, (*x.strides[:-rank], *inner, *outer), writeable=False)


@op("conv")
def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    dilations: Array | None = None,
    groups: Scalar = 1,
) -> Array:
    rank, group = x.ndim - 2, int(groups)
    kernel, step, spread = weight.shape[2:], numbers(strides, rank, 1), numbers(dilations, rank, 1)
    if x.shape[1] != weight.shape[1] * group or weight.shape[0] % group:
        raise ValueError(f"weights {weight.shape} in {group} groups do not fit {x.shape[1]} channels")
    around = paddings(pad_type, pad, x.shape[2:], kernel, step, spread)
    if any(before or behind for before, behind in around):
        x = np.pad(x, ((0, 0), (0, 0), *around))
    seen = windows(x, kernel, step, spread)
    places = seen.shape[2 + rank :]
    if weight.shape[1] == 1 and group > 1:
        made = _channel_by_channel(seen, weight, rank)
    else:
        made = _by_products(seen, weight, group, math.prod(places))
    made = made.reshape(x.shape[0], weight.shape[0], *places)
    return made if bias is None else made + bias.reshape(-1, *[1] * rank)


def _by_products(seen: Array, weight: Array, group: int, places: int) -> Array:
    """One product of matrices for each picture and group."""
    batch, out = seen.shape[0], weight.shape[0]
    matrix = weight.reshape(group, out // group, -1)
    made = np.empty((batch, group, out // group, places), np.float32)
    for index in range(batch):  # one at a time, or the copy of all windows would not fit a cache
        np.matmul(matrix, seen[index].reshape(group, matrix.shape[2], places), out=made[index])
    return made


def _channel_by_channel(seen: Array, weight: Array, rank: int) -> Array:
    """Where each channel is a group of its own: the sum of its shifted copies."""
    batch, channels = seen.shape[:2]
    many = weight.shape[0] // channels
    made = np.zeros((batch, channels, many, *seen.shape[2 + rank :]), np.float32)
    factors = weight.reshape(channels, many, *weight.shape[2:])
    for offset in np.ndindex(*weight.shape[2:]):
        factor = factors[(slice(None), slice(None), *offset)].reshape(channels, many, *[1] * rank)
        made += seen[(slice(None), slice(None), *offset)][:, :, None] * factor
    return made


@op("conv_transpose")
def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Array | None = None,
    output_shape: Array | None = None,
    pad_type: str = "valid",
    strides: Array | None = None,
    dilations: Array | None = None,
    groups: Scalar = 1,
) -> Array:
    rank, group = x.ndim - 2, int(groups)
    batch, channels = x.shape[:2]
    kernel, step, spread = weight.shape[2:], numbers(strides, rank, 1), numbers(dilations, rank, 1)
    out = weight.shape[1] * group
    full = [(size - 1) * s + (k - 1) * d + 1 for size, s, k, d in zip(x.shape[2:], step, kernel, spread, strict=True)]
    # Each input spreads its value, times the kernel, over the output: the products first, then the sum where they fall.
    matrix = weight.reshape(group, channels // group, -1).transpose(0, 2, 1)
    spreadings = np.matmul(matrix, x.reshape(batch, group, channels // group, -1))
    spreadings = spreadings.reshape(batch, out, *kernel, *x.shape[2:])
    made = np.zeros((batch, out, *full), np.float32)
    for offset in np.ndindex(*kernel):
        place = tuple(
            slice(o * d, o * d + (size - 1) * s + 1, s)
            for o, d, size, s in zip(offset, spread, x.shape[2:], step, strict=True)
        )
        made[(slice(None), slice(None), *place)] += spreadings[(slice(None), slice(None), *offset)]
    made = _cut(made, pad_type, pad, output_shape, [n * s for n, s in zip(x.shape[2:], step, strict=True)])
    return made if bias is None else made + bias.reshape(-1, *[1] * rank)


def _cut(made: Array, kind: str, pad: Array | None, wanted: Array | None, same: list[int]) -> Array:
    """The part of a transposed convolution's result that is asked for."""
    rank, full = made.ndim - 2, made.shape[2:]
    before = [0] * rank
    sizes = list(full)
    if kind == "custom":
        given = numbers(pad, 2 * rank, 0)
        before = list(given[::2])
        sizes = [n - given[2 * i] - given[2 * i + 1] for i, n in enumerate(full)]
    if wanted is not None:
        sizes = [int(size) for size in wanted[-rank:]]
    if kind in ("same", "same_lower"):
        sizes = sizes if wanted is not None else same
        total = [max(0, n - size) for n, size in zip(full, sizes, strict=True)]
        before = [(n + 1) // 2 if kind == "same_lower" else n // 2 for n in total]
    behind = [max(0, first + size - n) for first, size, n in zip(before, sizes, full, strict=True)]
    if any(behind):  # places behind the last that anything reaches
        made = np.pad(made, ((0, 0), (0, 0), *((0, n) for n in behind)))
    return made[(slice(None), slice(None), *(slice(b, b + n) for b, n in zip(before, sizes, strict=True)))]
