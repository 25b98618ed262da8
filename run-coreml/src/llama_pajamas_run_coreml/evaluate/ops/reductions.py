"""Reductions along axes, the greatest and the smallest, and orders."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from llama_pajamas_run_coreml.evaluate.ops.registry import op
from llama_pajamas_run_coreml.evaluate.types import HELD, Array, Scalar

_Axes = tuple[int, ...] | None
_FUNCTIONS: Final[dict[str, Callable[[Array, _Axes, bool], Any]]] = {
    "reduce_sum": lambda x, axes, keep: x.sum(axis=axes, keepdims=keep, dtype=x.dtype),
    "reduce_mean": lambda x, axes, keep: x.mean(axis=axes, keepdims=keep, dtype=x.dtype),
    "reduce_prod": lambda x, axes, keep: x.prod(axis=axes, keepdims=keep, dtype=x.dtype),
    "reduce_l1_norm": lambda x, axes, keep: np.abs(x).sum(axis=axes, keepdims=keep, dtype=x.dtype),
    "reduce_l2_norm": lambda x, axes, keep: np.sqrt(np.square(x).sum(axis=axes, keepdims=keep, dtype=x.dtype)),
    "reduce_sum_square": lambda x, axes, keep: np.square(x).sum(axis=axes, keepdims=keep, dtype=x.dtype),
    "reduce_log_sum": lambda x, axes, keep: np.log(x.sum(axis=axes, keepdims=keep, dtype=x.dtype)),
    "reduce_log_sum_exp": lambda x, axes, keep: _log_sum_exp(x, axes, keep),
}
_EXACT: Final[dict[str, Callable[[Array, _Axes, bool], Any]]] = {
    "reduce_max": lambda x, axes, keep: x.max(axis=axes, keepdims=keep),
    "reduce_min": lambda x, axes, keep: x.min(axis=axes, keepdims=keep),
}


def _log_sum_exp(x: Array, axes: _Axes, keep: bool) -> Any:
    peak = x.max(axis=axes, keepdims=True)
    peak = np.where(np.isfinite(peak), peak, np.float32(0))
    total = np.log(np.exp(x - peak).sum(axis=axes, keepdims=True)) + peak
    return total if keep else np.squeeze(total, axes)


def _enter(name: str, function: Callable[[Array, _Axes, bool], Any], exact: bool) -> None:
    @op(name, exact=exact)
    def reduce(x: Array, axes: Array | None = None, keep_dims: Scalar = False) -> Any:
        over = None if axes is None else tuple(int(axis) for axis in np.atleast_1d(axes))
        with np.errstate(divide="ignore"):
            return function(x, over, bool(keep_dims))


for _is_exact, _table in ((False, _FUNCTIONS), (True, _EXACT)):
    for _name, _one in _table.items():
        _enter(_name, _one, _is_exact)


def _enter_place(name: str, find: Callable[..., Any]) -> None:
    @op(name, exact=True)
    def place(x: Array, axis: Scalar = -1, keep_dims: Scalar = False, output_dtype: str = "int32") -> Array:
        return np.asarray(find(x, axis=int(axis), keepdims=bool(keep_dims))).astype(HELD[output_dtype])


_enter_place("reduce_argmax", np.argmax)
_enter_place("reduce_argmin", np.argmin)


@op("argsort", exact=True)
def argsort(x: Array, axis: Scalar = -1, ascending: Scalar = False) -> Array:
    return _order(x, int(axis), bool(ascending)).astype(np.int32)


@op("topk", exact=True, ignored=("sort",))
def topk(
    x: Array,
    k: Scalar = 1,
    axis: Scalar = -1,
    ascending: Scalar = False,
    return_indices: Scalar = True,
    output_indices_dtype: str = "int32",
) -> Any:
    along = int(axis)
    count = x.shape[along] if int(k) == -1 else int(k)
    if count > x.shape[along]:
        raise ValueError(f"k is {count}, but there are {x.shape[along]}")
    order = np.take(_order(x, along, bool(ascending)), np.arange(count), axis=along)
    values = np.take_along_axis(x, order, along)
    return (values, order.astype(HELD[output_indices_dtype])) if bool(return_indices) else values


def _order(x: Array, axis: int, ascending: bool) -> Array:
    """The order of values along an axis; of equal ones the first comes first."""
    if ascending:
        return np.argsort(x, axis=axis, kind="stable")
    turned = np.flip(x, axis)
    return x.shape[axis] - 1 - np.flip(np.argsort(turned, axis=axis, kind="stable"), axis)
