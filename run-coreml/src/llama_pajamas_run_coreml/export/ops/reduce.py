"""Sums, means and extremes over axes."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from llama_pajamas_run_coreml.export._mil import Var, mb
from llama_pajamas_run_coreml.export.ops.elements import is_integer
from llama_pajamas_run_coreml.export.ops.table import Table
from llama_pajamas_run_coreml.export.values import Step

TABLE: Final = Table()

_NAMES: Final = {
    "ReduceSum": "reduce_sum", "ReduceMean": "reduce_mean", "ReduceMax": "reduce_max", "ReduceMin": "reduce_min",
    "ReduceProd": "reduce_prod", "ReduceL1": "reduce_l1_norm", "ReduceL2": "reduce_l2_norm",
    "ReduceSumSquare": "reduce_sum_square", "ReduceLogSumExp": "reduce_log_sum_exp",
}  # fmt: skip


def _reduced(name: str) -> Callable[[Step], Any]:
    def convert(step: Step) -> Any:
        axes = step.numbers("axes", 1)
        if not axes and step.attribute("noop_with_empty_axes", 0):
            return mb.identity(x=step.variable(0))
        keep = bool(step.attribute("keepdims", 1))
        return getattr(mb, name)(x=step.variable(0), axes=list(axes) if axes else None, keep_dims=keep)

    return convert


for onnx_name, mil_name in _NAMES.items():
    TABLE[onnx_name] = _reduced(mil_name)


@TABLE.op("ReduceLogSum")
def _log_sum(step: Step) -> Any:
    return mb.log(x=_reduced("reduce_sum")(step), epsilon=np.float32(0))


@TABLE.op("ArgMax", "ArgMin")
def _arg(step: Step) -> Any:
    if step.attribute("select_last_index", 0):
        raise step.refusal("Core ML finds the first of equals only")
    x, axis, keep = step.variable(0), step.attribute("axis", 0), bool(step.attribute("keepdims", 1))
    function = mb.reduce_argmax if step.op == "ArgMax" else mb.reduce_argmin
    return function(x=x, axis=axis, keep_dims=keep)


@TABLE.op("CumSum")
def _running(step: Step) -> Any:
    x = step.variable(0)
    if isinstance(x, Var) and is_integer(x):  # Core ML sums floats alone
        x = mb.cast(x=x, dtype="fp32")
        return mb.cast(x=_cumulative(step, x), dtype="int32")
    return _cumulative(step, x)


def _cumulative(step: Step, x: Any) -> Any:
    axis = int(step.constant(1, "axis").reshape(-1)[0]) % x.rank
    return mb.cumsum(
        x=x, axis=axis, exclusive=bool(step.attribute("exclusive", 0)), reverse=bool(step.attribute("reverse", 0))
    )
