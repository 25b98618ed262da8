"""What moves numbers about and leaves them as they are: shapes, slices, joins, paddings; and what is told of shapes."""

from typing import Any, Final

import numpy as np

from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_coreml.evaluate.ops.convolution import numbers
from llama_pajamas_run_coreml.evaluate.ops.registry import op
from llama_pajamas_run_coreml.evaluate.types import Array, Scalar


@op("shape", exact=True)
def shape(x: Array) -> Array:
    return np.array(x.shape, np.int32)


@op("reshape", exact=True)
def reshape(x: Array, shape: Array) -> Array:
    wanted = [int(size) for size in shape]
    if 0 in wanted:  # stands for the size of the axis that is as far from the end
        shift = x.ndim - len(wanted)
        wanted = [
            (x.shape[axis + shift] if axis + shift >= 0 else 1) if size == 0 else size
            for axis, size in enumerate(wanted)
        ]
    return x.reshape(wanted)


@op("reshape_like", exact=True, lists=("ref_tensors", "begins", "ends", "end_masks"))
def reshape_like(
    x: Array,
    ref_tensors: tuple[Array, ...],
    begins: tuple[Array, ...],
    ends: tuple[Array, ...],
    end_masks: tuple[Array, ...],
) -> Array:
    sizes: list[int] = []
    for reference, begin, end, to_the_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        sizes += reference.shape[int(begin) : None if bool(to_the_end) else int(end)]
    return x.reshape(sizes)


@op("flatten2d", exact=True)
def flatten2d(x: Array, axis: Scalar = 1) -> Array:
    at = int(axis) % (x.ndim + 1) if int(axis) < 0 else int(axis)
    return x.reshape(int(np.prod(x.shape[:at], dtype=np.int64)), -1)


@op("transpose", exact=True)
def transpose(x: Array, perm: Array) -> Array:
    return x.transpose([int(axis) for axis in perm])


@op("expand_dims", exact=True)
def expand_dims(x: Array, axes: Array) -> Array:
    return np.expand_dims(x, tuple(int(axis) for axis in np.atleast_1d(axes)))


@op("squeeze", exact=True)
def squeeze(x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, None if axes is None else tuple(int(axis) for axis in np.atleast_1d(axes)))


@op("concat", exact=True, lists=("values",))
def concat(values: tuple[Array, ...], axis: Scalar, interleave: Scalar = False) -> Array:
    if not bool(interleave):
        return np.concatenate(values, axis=int(axis))
    along = int(axis) % values[0].ndim
    mixed = np.stack(values, axis=along + 1)
    sizes = list(values[0].shape)
    sizes[along] *= len(values)
    return mixed.reshape(sizes)


@op("stack", exact=True, lists=("values",))
def stack(values: tuple[Array, ...], axis: Scalar) -> Array:
    return np.stack(values, axis=int(axis))


@op("split", exact=True)
def split(
    x: Array, axis: Scalar, num_splits: Array | None = None, split_sizes: Array | None = None
) -> tuple[Array, ...]:
    along = int(axis)
    if split_sizes is not None:
        places = np.cumsum([int(size) for size in split_sizes])
        if places[-1] != x.shape[along]:
            raise ValueError(f"parts of {[int(size) for size in split_sizes]} do not make {x.shape[along]}")
        return tuple(np.split(x, places[:-1], axis=along))
    if num_splits is None:
        raise ValueError("neither the number of parts nor their sizes are given")
    return tuple(np.split(x, int(num_splits), axis=along))


def _slices(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None,
    begin_mask: Array | None,
    end_mask: Array | None,
    squeeze_mask: Array | None,
) -> tuple[Any, ...]:
    """What stands between the brackets in numpy."""
    none = np.zeros(x.ndim, np.bool_)
    from_start = none if begin_mask is None else begin_mask
    to_end = none if end_mask is None else end_mask
    single = none if squeeze_mask is None else squeeze_mask
    steps = numbers(stride, x.ndim, 1)
    made: list[Any] = []
    for axis in range(x.ndim):
        first = None if bool(from_start[axis]) else int(begin[axis])
        last = None if bool(to_end[axis]) else int(end[axis])
        made.append((first or 0) if bool(single[axis]) else slice(first, last, steps[axis]))
    return tuple(made)


@op("slice_by_index", exact=True)
def slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    return np.asarray(x[_slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)])


@op("slice_update", exact=True)
def slice_update(
    x: Array,
    update: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    made = x.copy()
    place = _slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    if np.shape(made[place]) != update.shape:
        raise ValueError(f"{list(update.shape)} is written where {list(np.shape(made[place]))} is")
    made[place] = update
    return made


@op("slice_by_size", exact=True)
def slice_by_size(x: Array, begin: Array, size: Array) -> Array:
    place = []
    for axis in range(x.ndim):
        first, count = int(begin[axis]), int(size[axis])
        last = x.shape[axis] if count == -1 else first + count
        if not 0 <= first <= last <= x.shape[axis]:
            raise ValueError(f"{first} to {last} is not within an axis of {x.shape[axis]}")
        place.append(slice(first, last))
    return x[tuple(place)]


@op("sliding_windows", exact=True)
def sliding_windows(x: Array, axis: Scalar, size: Scalar, stride: Scalar = 1) -> Array:
    along = int(axis) % x.ndim
    seen = np.lib.stride_tricks.sliding_window_view(x, int(size), axis=along)
    chosen = seen[(slice(None),) * along + (slice(None, None, int(stride)),)]
    return np.moveaxis(chosen, -1, along + 1)


@op("tile", exact=True)
def tile(x: Array, reps: Array) -> Array:
    return np.tile(x, [int(count) for count in reps])


_MODES: Final = {"reflect": "reflect", "replicate": "edge"}


@op("pad", exact=True)
def pad(x: Array, pad: Array, mode: str = "constant", constant_val: Scalar = 0.0) -> Array:
    around = np.asarray(pad).reshape(-1, 2)
    whole = [(0, 0)] * (x.ndim - len(around)) + [(int(before), int(behind)) for before, behind in around]
    if mode == "constant":
        return np.pad(x, whole, constant_values=np.asarray(constant_val).astype(x.dtype))
    if mode not in _MODES:
        raise Unsupported(f"The operation pad has the mode {mode}, which is not known here.")
    return np.pad(x, whole, mode=_MODES[mode])  # type: ignore[call-overload]


@op("crop", exact=True)
def crop(x: Array, crop_height: Array, crop_width: Array) -> Array:
    (top, bottom), (left, right) = ([int(n) for n in crop_height], [int(n) for n in crop_width])
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


@op("reverse", exact=True)
def reverse(x: Array, axes: Array | None = None) -> Array:
    return np.flip(x, None if axes is None else tuple(int(axis) for axis in np.atleast_1d(axes)))


@op("reverse_sequence", exact=True)
def reverse_sequence(x: Array, lengths: Array, seq_axis: Scalar = 0, batch_axis: Scalar = 0) -> Array:
    made = np.moveaxis(x.copy(), (int(batch_axis), int(seq_axis)), (0, 1))
    for row, length in zip(made, lengths, strict=True):
        row[: int(length)] = row[: int(length)][::-1].copy()
    return np.moveaxis(made, (0, 1), (int(batch_axis), int(seq_axis)))


@op("fill", exact=True)
def fill(shape: Array, value: Scalar = 0.0) -> Array:
    given = np.asarray(value)
    held = np.float32 if given.dtype == np.float64 else given.dtype
    return np.full([int(size) for size in shape], given, held)


@op("fill_like", exact=True)
def fill_like(ref_tensor: Array, value: Scalar = 0.0) -> Array:
    return fill(np.array(ref_tensor.shape), value)


@op("range_1d")
def range_1d(end: Array, start: Array, step: Array) -> Array:
    return np.arange(start.item(), end.item(), step.item()).astype(start.dtype)


@op("band_part", exact=True)
def band_part(x: Array, lower: Scalar = -1, upper: Scalar = -1) -> Array:
    row, column = np.indices(x.shape[-2:])
    below, above = int(lower), int(upper)
    inside = ((below < 0) | (row - column <= below)) & ((above < 0) | (column - row <= above))
    return np.where(inside, x, np.zeros((), x.dtype))


@op("non_zero", exact=True)
def non_zero(x: Array) -> Array:
    return np.argwhere(x).astype(np.int32)


@op("one_hot", exact=True)
def one_hot(
    indices: Array, one_hot_vector_size: Scalar, axis: Scalar = -1, on_value: Scalar = 1, off_value: Scalar = 0
) -> Array:
    on, off = np.asarray(on_value), np.asarray(off_value)
    hit = indices[..., None] == np.arange(int(one_hot_vector_size))
    held = np.int32 if on.dtype == np.int64 else on.dtype
    return np.moveaxis(np.where(hit, on, off).astype(held), -1, int(axis))


@op("depth_to_space", exact=True)
def depth_to_space(x: Array, block_size: Scalar) -> Array:
    side, (batch, channels, height, width) = int(block_size), x.shape
    parts = x.reshape(batch, side, side, channels // side**2, height, width)
    return parts.transpose(0, 3, 4, 1, 5, 2).reshape(batch, channels // side**2, height * side, width * side)


@op("space_to_depth", exact=True)
def space_to_depth(x: Array, block_size: Scalar) -> Array:
    side, (batch, channels, height, width) = int(block_size), x.shape
    parts = x.reshape(batch, channels, height // side, side, width // side, side)
    return parts.transpose(0, 3, 5, 1, 2, 4).reshape(batch, channels * side**2, height // side, width // side)


@op("pixel_shuffle", exact=True)
def pixel_shuffle(x: Array, upscale_factor: Scalar) -> Array:
    side, (batch, channels, height, width) = int(upscale_factor), x.shape
    parts = x.reshape(batch, channels // side**2, side, side, height, width)
    return parts.transpose(0, 1, 4, 2, 5, 3).reshape(batch, channels // side**2, height * side, width * side)


@op("pixel_unshuffle", exact=True)
def pixel_unshuffle(x: Array, downscale_factor: Scalar) -> Array:
    side, (batch, channels, height, width) = int(downscale_factor), x.shape
    parts = x.reshape(batch, channels, height // side, side, width // side, side)
    return parts.transpose(0, 1, 3, 5, 2, 4).reshape(batch, channels * side**2, height // side, width // side)


@op("space_to_batch", exact=True)
def space_to_batch(x: Array, block_shape: Array, paddings: Array) -> Array:
    blocks = [int(size) for size in block_shape]
    rank = len(blocks)
    around = [(int(before), int(behind)) for before, behind in paddings]
    padded = np.pad(x, [(0, 0), (0, 0), *around, *[(0, 0)] * (x.ndim - 2 - rank)])
    batch, channels, sizes = padded.shape[0], padded.shape[1], padded.shape[2:]
    split_sizes: list[int] = []
    for size, block in zip(sizes, blocks, strict=True):
        split_sizes += [size // block, block]
    parts = padded.reshape(batch, channels, *split_sizes)
    inner = [3 + 2 * axis for axis in range(rank)]
    outer = [2 + 2 * axis for axis in range(rank)]
    moved = parts.transpose(*inner, 0, 1, *outer)
    return moved.reshape(-1, channels, *(size // block for size, block in zip(sizes, blocks, strict=True)))


@op("batch_to_space", exact=True)
def batch_to_space(x: Array, block_shape: Array, crops: Array) -> Array:
    blocks = [int(size) for size in block_shape]
    rank, batch = len(blocks), x.shape[0] // int(np.prod(blocks))
    parts = x.reshape(*blocks, batch, *x.shape[1:])
    order = [rank, rank + 1]
    for axis in range(rank):
        order += [rank + 2 + axis, axis]
    joined = parts.transpose(order)
    whole = joined.reshape(batch, x.shape[1], *(size * block for size, block in zip(x.shape[2:], blocks, strict=True)))
    place = [slice(int(before), whole.shape[2 + axis] - int(behind)) for axis, (before, behind) in enumerate(crops)]
    return whole[(slice(None), slice(None), *place)]
