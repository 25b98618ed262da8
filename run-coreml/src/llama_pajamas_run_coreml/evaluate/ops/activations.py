"""Activation functions."""

import math

import numpy as np

from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_coreml.evaluate.ops.registry import op
from llama_pajamas_run_coreml.evaluate.types import Array, Scalar

#: Abramowitz and Stegun, Handbook of Mathematical Functions, is too coarse for erf: this is the rational approximation
#: of Cody (1969) as in many C libraries, in float64.
_SMALL_P = (3.20937758913846947e03, 3.77485237685302021e02, 1.13864154151050156e02, 3.16112374387056560e00,
            1.85777706184603153e-1)  # fmt: skip
_SMALL_Q = (2.84423683343917062e03, 1.28261652607737228e03, 2.44024637934444173e02, 2.36012909523441209e01, 1.0)
_MIDDLE_P = (1.23033935479799725e03, 2.05107837782607147e03, 1.71204761263407058e03, 8.81952221241769090e02,
             2.98635138197400131e02, 6.61191906371416295e01, 8.88314979438837594e00, 5.64188496988670089e-1,
             2.15311535474403846e-8)  # fmt: skip
_MIDDLE_Q = (1.23033935480374942e03, 3.43936767414372164e03, 4.36261909014324716e03, 3.29079923573345963e03,
             1.62138957456669019e03, 5.37181101862009858e02, 1.17693950891312499e02, 1.57449261107098347e01,
             1.0)  # fmt: skip
_LARGE_P = (-6.58749161529837803e-4, -1.60837851487422766e-2, -1.25781726111229246e-1, -3.60344899949804439e-1,
            -3.05326634961232344e-1, -1.63153871373020978e-2)  # fmt: skip
_LARGE_Q = (2.33520497626869185e-3, 6.05183413124413191e-2, 5.27905102951428412e-1, 1.87295284992346725e00,
            2.56852019228982242e00, 1.0)  # fmt: skip


def error_function(x: Array) -> Array:
    """The error function, float64, to about 1e-15."""
    value = x.astype(np.float64)
    size = np.abs(value)
    result = np.ones_like(size)
    small, middle = size <= 0.46875, (size > 0.46875) & (size <= 4)
    large = (size > 4) & (size < 6)
    z = size[small] ** 2
    result[small] = size[small] * np.polyval(_SMALL_P[::-1], z) / np.polyval(_SMALL_Q[::-1], z)
    y = size[middle]
    result[middle] = 1 - np.exp(-(y**2)) * np.polyval(_MIDDLE_P[::-1], y) / np.polyval(_MIDDLE_Q[::-1], y)
    y = size[large]
    z = 1 / y**2
    tail = (1 / math.sqrt(math.pi) + z * np.polyval(_LARGE_P[::-1], z) / np.polyval(_LARGE_Q[::-1], z)) / y
    result[large] = 1 - np.exp(-(y**2)) * tail
    result[np.isnan(value)] = np.nan
    return np.copysign(result, value)


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)), float32."""
    with np.errstate(over="ignore"):
        result = np.exp(-x)
        result += np.float32(1)
        return np.reciprocal(result, out=result) if result.ndim else 1 / result


@op("sigmoid")
def sigmoid(x: Array) -> Array:
    return logistic(x)


@op("silu")
def silu(x: Array) -> Array:
    return x * logistic(x)


@op("relu", exact=True)
def relu(x: Array) -> Array:
    return np.maximum(x, np.float32(0))


@op("relu6", exact=True)
def relu6(x: Array) -> Array:
    return np.clip(x, np.float32(0), np.float32(6))


@op("clamped_relu")
def clamped_relu(x: Array, alpha: Array, beta: Array) -> Array:
    return np.minimum(np.maximum(x, 0) + alpha * np.minimum(x, 0), beta)


@op("leaky_relu")
def leaky_relu(x: Array, alpha: Scalar = 0.01) -> Array:
    return np.where(x >= 0, x, alpha * x)


@op("prelu")
def prelu(x: Array, alpha: Array) -> Array:
    return np.where(x >= 0, x, _by_channel(alpha, x) * x)


@op("elu")
def elu(x: Array, alpha: Scalar = 1) -> Array:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))


@op("gelu")
def gelu(x: Array, mode: str = "EXACT") -> Array:
    if mode == "EXACT":
        return (0.5 * x * (1 + error_function(x / np.float32(math.sqrt(2))))).astype(np.float32)
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)))
    if mode == "SIGMOID_APPROXIMATION":
        return x * logistic(np.float32(1.702) * x)
    raise Unsupported(f"The operation gelu has the mode {mode}, which is not known here.")


@op("linear_activation")
def linear_activation(x: Array, alpha: Array, beta: Scalar = 0) -> Array:
    return alpha * x + beta


@op("scaled_tanh")
def scaled_tanh(x: Array, alpha: Scalar = 1, beta: Scalar = 1) -> Array:
    return alpha * np.tanh(beta * x)


@op("sigmoid_hard")
def sigmoid_hard(x: Array, alpha: Scalar = 0.2, beta: Scalar = 0.5) -> Array:
    return np.clip(alpha * x + beta, 0, 1)


@op("softplus")
def softplus(x: Array) -> Array:
    return np.logaddexp(x, np.float32(0))


@op("softplus_parametric")
def softplus_parametric(x: Array, alpha: Array, beta: Array) -> Array:
    return _by_channel(alpha, x) * np.logaddexp(_by_channel(beta, x) * x, np.float32(0))


@op("softsign")
def softsign(x: Array) -> Array:
    return x / (1 + np.abs(x))


@op("thresholded_relu", exact=True)
def thresholded_relu(x: Array, alpha: Scalar = 1) -> Array:
    return np.where(x >= alpha, x, np.float32(0))


@op("softmax")
def softmax(x: Array, axis: Scalar = -1) -> Array:
    return normalized_exponentials(x, int(axis))


def normalized_exponentials(x: Array, axis: int = -1) -> Array:
    """The softmax, float32; rows that are -inf throughout give what is no number, as in PyTorch."""
    with np.errstate(invalid="ignore"):
        result = np.exp(x - x.max(axis=axis, keepdims=True))
    result /= result.sum(axis=axis, keepdims=True)
    return result


def _by_channel(values: Array, x: Array) -> Array:
    """Numbers of the channels, so that they go with [n, channels, ...]."""
    return values.reshape(-1, *[1] * (x.ndim - 2))
