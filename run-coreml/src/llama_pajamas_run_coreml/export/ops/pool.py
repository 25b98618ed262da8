"""Pools."""

from typing import Any, Final

from llama_pajamas_run_coreml.export._mil import mb
from llama_pajamas_run_coreml.export.ops.convolve import borders
from llama_pajamas_run_coreml.export.ops.table import Table
from llama_pajamas_run_coreml.export.values import Step, shape_of

TABLE: Final = Table()


@TABLE.op("MaxPool", "AveragePool")
def _pool(step: Step) -> Any:
    window = step.attribute("kernel_shape")
    if any(by != 1 for by in step.attribute("dilations") or [1]):
        raise step.refusal("Core ML has no dilated pools")
    if step.outputs > 1:
        raise step.refusal("Core ML's pools tell no places")
    kind, pads = borders(step, tuple(window), [1] * len(window))
    arguments: dict[str, Any] = {
        "x": step.variable(0),
        "kernel_sizes": window,
        "strides": step.attribute("strides") or [1] * len(window),
        "pad_type": kind,
        "ceil_mode": False,
    }
    if kind == "custom":
        arguments["pad"] = pads
    counted = bool(step.attribute("count_include_pad", 0))
    if step.attribute("ceil_mode", 0):
        _widen(step, arguments)
        if step.op == "AveragePool" and counted and arguments["pad"] != pads:
            raise step.refusal("Core ML cannot count one border of an average and leave out the other")
    if step.op == "MaxPool":
        return mb.max_pool(**arguments)
    return mb.avg_pool(**arguments, exclude_padding_from_average=not counted)


def _widen(step: Step, arguments: dict[str, Any]) -> None:
    """Round sizes up by a wider border at the end: the builder's own rounding knows symmetric borders alone."""
    if arguments["pad_type"] != "custom":
        return
    sizes, window, strides = shape_of(step.input(0))[2:], arguments["kernel_sizes"], arguments["strides"]
    pads = list(arguments["pad"])
    for axis, size in enumerate(sizes):
        if not isinstance(size, int):
            raise step.refusal("it rounds up a size that is known only when the model runs")
        begin, end = pads[2 * axis : 2 * axis + 2]
        rest = (size + begin + end - window[axis]) % strides[axis]
        places = -(-(size + begin + end - window[axis]) // strides[axis]) + 1
        inside = (places - 1) * strides[axis] < size + begin  # a window that begins behind all is left out
        if rest and inside:
            pads[2 * axis + 1] = end + strides[axis] - rest
    arguments["pad"] = pads


@TABLE.op("GlobalAveragePool")
def _mean(step: Step) -> Any:
    x = step.variable(0)
    return mb.reduce_mean(x=x, axes=list(range(2, x.rank)), keep_dims=True)


@TABLE.op("GlobalMaxPool")
def _most(step: Step) -> Any:
    x = step.variable(0)
    return mb.reduce_max(x=x, axes=list(range(2, x.rank)), keep_dims=True)


@TABLE.op("LpPool", "GlobalLpPool")
def _norm(step: Step) -> Any:
    if step.op == "LpPool" or step.attribute("p", 2) != 2:
        raise step.refusal("Core ML pools norms over a whole image, and of the second order, alone")
    x = step.variable(0)
    return mb.reduce_l2_norm(x=x, axes=list(range(2, x.rank)), keep_dims=True)
