"""Products of matrices, and attention."""

import math

import numpy as np

from llama_pajamas_run_coreml.evaluate.ops.activations import normalized_exponentials
from llama_pajamas_run_coreml.evaluate.ops.registry import op
from llama_pajamas_run_coreml.evaluate.types import Array, Scalar


@op("linear")
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    made = (x.reshape(-1, x.shape[-1]) @ weight.T).reshape(*x.shape[:-1], len(weight))  # one product is much faster
    return made if bias is None else made + bias


@op("matmul")
def matmul(x: Array, y: Array, transpose_x: Scalar = False, transpose_y: Scalar = False) -> Array:
    left = np.swapaxes(x, -1, -2) if bool(transpose_x) and x.ndim > 1 else x
    right = np.swapaxes(y, -1, -2) if bool(transpose_y) and y.ndim > 1 else y
    return left @ right


@op("einsum", lists=("values",))
def einsum(values: tuple[Array, ...], equation: str) -> Array:
    return np.einsum(equation, *values, optimize=True)


@op("scaled_dot_product_attention")
def attention(query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> Array:
    scores = query @ np.swapaxes(key, -1, -2) * np.float32(1 / math.sqrt(query.shape[-1]))
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == np.bool_ else scores + attn_mask
    return normalized_exponentials(scores) @ value
