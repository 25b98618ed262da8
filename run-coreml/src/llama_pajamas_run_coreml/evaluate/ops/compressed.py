"""Compressed constants of both generations (iOS 16 and iOS 18), and 8-bit activations."""

import math

import numpy as np

from llama_pajamas_run_coreml.evaluate.ops.registry import op
from llama_pajamas_run_coreml.evaluate.types import HELD, Array, Scalar


def _along(values: Array, axis: int, rank: int) -> Array:
    """A number, or one for each place of an axis, as float32 that goes with an array of a rank."""
    numbers = values.astype(np.float32)
    if numbers.ndim == 0:
        return numbers
    shape = [1] * rank
    shape[axis] = -1
    return numbers.reshape(shape)


@op("constexpr_affine_dequantize")
def constexpr_affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: Scalar) -> Array:
    rank, along = quantized_data.ndim, int(axis)
    return (quantized_data.astype(np.float32) - _along(zero_point, along, rank)) * _along(scale, along, rank)


@op("constexpr_cast")
def constexpr_cast(source_val: Array, output_dtype: str) -> Array:
    return source_val.astype(HELD[output_dtype])


@op("constexpr_lut_to_dense", exact=True)
def constexpr_lut_to_dense(
    indices: Array, lut: Array, shape: Array | None = None, vector_axis: Array | None = None
) -> Array:
    if shape is not None:  # iOS 16: packed bits and one table
        sizes = [int(size) for size in shape]
        bits, count = int(math.log2(len(lut))), math.prod(sizes)
        return lut[_numbers(indices, bits, count)].reshape(sizes)
    rank = indices.ndim
    tables = lut
    for axis in range(rank):
        if indices.shape[axis] % lut.shape[axis]:
            raise ValueError(f"{lut.shape[axis]} tables do not share {indices.shape[axis]} places")
        tables = np.repeat(tables, indices.shape[axis] // lut.shape[axis], axis=axis)
    chosen = np.take_along_axis(tables, indices.astype(np.int64)[..., None, None], axis=rank)[..., 0, :]
    if lut.shape[-1] == 1:
        return chosen[..., 0]
    if vector_axis is None:
        raise ValueError("a table of vectors has no axis along which they lie")
    along = int(vector_axis) % rank
    moved = np.moveaxis(chosen, -1, along + 1)
    sizes = list(indices.shape)
    sizes[along] *= lut.shape[-1]
    return moved.reshape(sizes)


@op("constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    values = data.astype(np.float32)
    factors, shifts = scale, None if offset is None else offset.astype(np.float32)
    for axis in range(data.ndim):
        if data.shape[axis] % scale.shape[axis]:
            raise ValueError(f"{scale.shape[axis]} scales do not share {data.shape[axis]} places")
        block = data.shape[axis] // scale.shape[axis]
        if block > 1:
            factors = np.repeat(factors, block, axis=axis)
            shifts = None if shifts is None else np.repeat(shifts, block, axis=axis)
    return (values if shifts is None else values - shifts) * factors


@op("constexpr_sparse_to_dense", exact=True)
def constexpr_sparse_to_dense(nonzero_data: Array, mask: Array, shape: Array | None = None) -> Array:
    if shape is not None:  # iOS 16: packed bits
        sizes = [int(size) for size in shape]
        mask = _numbers(mask, 1, math.prod(sizes)).reshape(sizes)
    present = mask.astype(np.bool_)
    if int(present.sum()) != nonzero_data.size:
        raise ValueError(f"the mask keeps {int(present.sum())} values, but there are {nonzero_data.size}")
    made = np.zeros(mask.shape, nonzero_data.dtype)
    made[present] = nonzero_data
    return made


@op("constexpr_lut_to_sparse", exact=True)
def constexpr_lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: Array | None = None
) -> tuple[Array, Array]:
    whole = constexpr_sparse_to_dense(indices_nonzero_data, indices_mask)
    dense = constexpr_lut_to_dense(whole, lut, None, vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1:
        assert vector_axis is not None
        mask = np.repeat(indices_mask, lut.shape[-1], axis=int(vector_axis))
    return mask, dense[mask.astype(np.bool_)]


@op("constexpr_sparse_blockwise_shift_scale")
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    dense = constexpr_blockwise_shift_scale(constexpr_sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask.astype(np.bool_)]


@op("quantize")
def quantize(
    input: Array, scale: Array, output_dtype: str, zero_point: Array | None = None, axis: Array | None = None
) -> Array:
    rank, along = input.ndim, 0 if axis is None else int(axis)
    limits = np.iinfo(np.dtype(HELD[output_dtype]))
    shift = 0 if zero_point is None else _along(zero_point, along, rank)
    numbers = np.round(input / _along(scale, along, rank)) + shift
    return np.clip(numbers, limits.min, limits.max).astype(HELD[output_dtype])


@op("dequantize")
def dequantize(input: Array, scale: Array, zero_point: Array | None = None, axis: Array | None = None) -> Array:
    rank, along = input.ndim, 0 if axis is None else int(axis)
    shift = 0 if zero_point is None else _along(zero_point, along, rank)
    return (input.astype(np.float32) - shift) * _along(scale, along, rank)


def _numbers(packed: Array, bits: int, count: int) -> Array:
    """Numbers of some bits each in bytes, the lowest bit first."""
    loose = np.unpackbits(packed.astype(np.uint8), count=count * bits, bitorder="little").reshape(count, bits)
    return (loose.astype(np.int64) << np.arange(bits)).sum(axis=1)
