"""Normalizations."""

import numpy as np

from llama_pajamas_run_coreml.evaluate.ops.registry import op
from llama_pajamas_run_coreml.evaluate.types import Array, Scalar


def _scaled(x: Array, factor: Array | None, shift: Array | None, shape: tuple[int, ...]) -> Array:
    if factor is not None:
        x = x * factor.reshape(shape)
    return x if shift is None else x + shift.reshape(shape)


@op("layer_norm")
def layer_norm(
    x: Array,
    axes: Array | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Scalar = 1e-5,
) -> Array:
    chosen = sorted(int(axis) % x.ndim for axis in (range(x.ndim) if axes is None else axes))
    over = tuple(chosen)
    centred = x - x.mean(axis=over, keepdims=True, dtype=np.float32)
    spread = np.square(centred).mean(axis=over, keepdims=True, dtype=np.float32)
    shape = tuple(size if axis in over else 1 for axis, size in enumerate(x.shape))
    return _scaled(centred / np.sqrt(spread + epsilon), gamma, beta, shape)


@op("instance_norm")
def instance_norm(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Scalar = 1e-5,
) -> Array:
    over = tuple(range(2, x.ndim))
    centred = x - x.mean(axis=over, keepdims=True, dtype=np.float32)
    spread = np.square(centred).mean(axis=over, keepdims=True, dtype=np.float32)
    return _scaled(centred / np.sqrt(spread + epsilon), gamma, beta, (1, -1, *[1] * (x.ndim - 2)))


@op("batch_norm")
def batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Scalar = 1e-5,
) -> Array:
    shape = (1, -1, *[1] * (x.ndim - 2))
    standard = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + epsilon)
    return _scaled(standard, gamma, beta, shape)


@op("l2_norm")
def l2_norm(x: Array, epsilon: Scalar = 1e-6) -> Array:
    return x / np.sqrt(np.square(x).sum(axis=(-3, -2, -1), keepdims=True, dtype=np.float32) + epsilon)


@op("local_response_norm")
def local_response_norm(
    x: Array,
    size: Array,
    alpha: Scalar = 1e-4,
    beta: Scalar = 0.75,
    k: Scalar = 1,
) -> Array:
    width = int(size)
    squares = np.pad(np.square(x), ((0, 0), (width // 2, (width - 1) // 2), *[(0, 0)] * (x.ndim - 2)))
    near = np.lib.stride_tricks.sliding_window_view(squares, width, axis=1).sum(axis=-1, dtype=np.float32)
    return x / np.power(k + alpha / width * near, beta)
