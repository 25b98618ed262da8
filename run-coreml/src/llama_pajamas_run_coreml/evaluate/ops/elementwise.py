"""Arithmetic and comparisons, element by element."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from llama_pajamas_run_coreml.evaluate.ops.activations import error_function
from llama_pajamas_run_coreml.evaluate.ops.registry import op
from llama_pajamas_run_coreml.evaluate.types import HELD, Array, Scalar

_UNARY: Final[dict[str, Callable[[Array], Any]]] = {
    "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "atanh": np.arctanh, "cos": np.cos, "cosh": np.cosh,
    "exp": np.exp, "exp2": np.exp2, "sin": np.sin, "sinh": np.sinh, "sqrt": np.sqrt, "square": np.square,
    "tan": np.tan, "tanh": np.tanh, "erf": lambda x: error_function(x).astype(np.float32),
}  # fmt: skip
#: Those whose results are as exact as what they are given.
_UNARY_EXACT: Final[dict[str, Callable[[Array], Any]]] = {
    "abs": np.abs, "ceil": np.ceil, "floor": np.floor, "round": np.round, "sign": np.sign, "identity": lambda x: x,
    "logical_not": np.logical_not,
}  # fmt: skip
_BINARY: Final[dict[str, Callable[[Array, Array], Any]]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "pow": np.power, "mod": np.mod, "floor_div": np.floor_divide,
}  # fmt: skip
_BINARY_EXACT: Final[dict[str, Callable[[Array, Array], Any]]] = {
    "maximum": np.maximum, "minimum": np.minimum, "equal": np.equal, "not_equal": np.not_equal, "less": np.less,
    "less_equal": np.less_equal, "greater": np.greater, "greater_equal": np.greater_equal,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
}  # fmt: skip


def _enter_unary(name: str, function: Callable[[Array], Any], exact: bool) -> None:
    @op(name, exact=exact)
    def apply(x: Array) -> Any:
        with np.errstate(all="ignore"):
            return function(x)


def _enter_binary(name: str, function: Callable[[Array, Array], Any], exact: bool) -> None:
    @op(name, exact=exact)
    def apply(x: Array, y: Array) -> Any:
        with np.errstate(all="ignore"):
            return function(x, y)


for _exact, _unary, _binary in ((False, _UNARY, _BINARY), (True, _UNARY_EXACT, _BINARY_EXACT)):
    for _name, _function in _unary.items():
        _enter_unary(_name, _function, _exact)
    for _name, _both in _binary.items():
        _enter_binary(_name, _both, _exact)


@op("real_div")
def real_div(x: Array, y: Array) -> Array:
    with np.errstate(all="ignore"):
        if np.issubdtype(x.dtype, np.integer):  # Core ML divides whole numbers as C does
            return np.trunc(np.true_divide(x, y)).astype(x.dtype)
        return np.true_divide(x, y)


@op("clip", exact=True)
def clip(x: Array, alpha: Array, beta: Array) -> Array:
    return np.minimum(np.maximum(x, alpha), beta)


@op("threshold", exact=True)
def threshold(x: Array, alpha: Array) -> Array:
    return np.maximum(x, alpha)


@op("inverse")
def inverse(x: Array, epsilon: Scalar = 1e-4) -> Array:
    with np.errstate(divide="ignore"):
        return 1 / (x + epsilon)


@op("rsqrt")
def rsqrt(x: Array, epsilon: Scalar = 1e-12) -> Array:
    with np.errstate(all="ignore"):
        return 1 / np.sqrt(x + epsilon)


@op("log")
def log(x: Array, epsilon: Scalar = 1e-45) -> Array:
    with np.errstate(all="ignore"):
        return np.log(x + epsilon)


@op("cast")
def cast(x: Array, dtype: str) -> Array:
    held = HELD[dtype]
    if dtype == "bool":
        return x != 0
    if np.issubdtype(held, np.integer) and np.issubdtype(x.dtype, np.floating):
        limits = np.iinfo(np.dtype(held))
        whole = np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0)
        return np.clip(whole, limits.min, limits.max).astype(held)
    return x.astype(held)


@op("select", exact=True)
def select(cond: Array, a: Array, b: Array) -> Array:
    return np.where(cond, a, b)


@op("cumsum")
def cumsum(x: Array, axis: Scalar = 0, exclusive: Scalar = False, reverse: Scalar = False) -> Array:
    along = int(axis)
    turned = np.flip(x, along) if bool(reverse) else x
    total = np.cumsum(turned, axis=along, dtype=x.dtype)
    if bool(exclusive):
        total = total - turned
    return np.flip(total, along) if bool(reverse) else total
