"""Convolutions."""

from typing import Any, Final

import numpy as np

from llama_pajamas_run_coreml.export._mil import is_symbolic, mb
from llama_pajamas_run_coreml.export.ops.table import Table
from llama_pajamas_run_coreml.export.values import Array, Step, shape_of

TABLE: Final = Table()


@TABLE.op("Conv")
def _convolve(step: Step) -> Any:
    weight, bias = _weights(step)
    window = weight.shape[2:]
    kind, pads = borders(step, window, step.attribute("dilations") or [1] * len(window))
    return mb.conv(
        x=step.variable(0),
        weight=weight,
        strides=step.attribute("strides") or [1] * len(window),
        pad_type=kind,
        **({"pad": pads} if kind == "custom" else {}),
        dilations=step.attribute("dilations") or [1] * len(window),
        groups=step.attribute("group", 1),
        **({} if bias is None else {"bias": bias}),
    )


def _weights(step: Step) -> tuple[Array, Array | None]:
    weight = step.constant(1, "weights").astype(np.float32)
    bias = None if step.input(2) is None else step.constant(2, "bias").astype(np.float32)
    return weight, bias


def borders(step: Step, window: tuple[int, ...], dilations: list[int]) -> tuple[str, list[int]]:
    """The builder's kind of border, and its widths as [begin, end] for each axis.

    SAME_UPPER and SAME_LOWER are worked out where the sizes are known: the builder's own "same" counts as SAME_UPPER
    does, and has no other.
    """
    auto = step.attribute("auto_pad", "NOTSET")
    if auto == "VALID":
        return "valid", []
    if auto in ("NOTSET", ""):
        pads = step.attribute("pads") or [0] * (2 * len(window))
        return "custom", [pads[index + half * len(window)] for index in range(len(window)) for half in (0, 1)]
    sizes = shape_of(step.input(0))[2:]
    if any(is_symbolic(size) for size in sizes):
        return ("same" if auto == "SAME_UPPER" else "same_lower"), []
    strides = step.attribute("strides") or [1] * len(window)
    widths = []
    for size, reach, by, apart in zip(sizes, window, strides, dilations, strict=True):
        whole = max(0, (-(-size // by) - 1) * by + (reach - 1) * apart + 1 - size)
        small, large = whole // 2, whole - whole // 2
        widths += [small, large] if auto == "SAME_UPPER" else [large, small]
    return "custom", widths


@TABLE.op("ConvTranspose")
def _transposed(step: Step) -> Any:
    weight, bias = _weights(step)
    window = weight.shape[2:]
    strides = step.attribute("strides") or [1] * len(window)
    dilations = step.attribute("dilations") or [1] * len(window)
    begins, ends = _cuts(step, window, strides, dilations)
    x = step.variable(0)
    missing = [max(0, -end) for end in ends]
    late = any(missing) and bias is not None
    made = mb.conv_transpose(
        x=x,
        weight=weight,
        strides=strides,
        pad_type="custom",
        pad=[one for begin, end in zip(begins, ends, strict=True) for one in (begin, max(0, end))],
        dilations=dilations,
        groups=step.attribute("group", 1),
        **({} if bias is None or late else {"bias": bias}),
    )
    if any(missing):  # rows beyond all that the kernel reaches are the bias alone
        pads = [one for end in missing for one in (0, end)]
        made = mb.pad(x=made, pad=pads, mode="constant", constant_val=np.float32(0))
    return mb.add(x=made, y=bias.reshape(1, -1, *(1,) * len(window))) if late and bias is not None else made


def _cuts(step: Step, window: tuple[int, ...], strides: list[int], dilations: list[int]) -> tuple[list[int], list[int]]:
    """How much of the whole result is cut off at the beginning and at the end of each axis."""
    extra = step.attribute("output_padding") or [0] * len(window)
    auto, wanted = step.attribute("auto_pad", "NOTSET"), step.attribute("output_shape")
    if auto in ("NOTSET", "", "VALID") and not wanted:
        pads = step.attribute("pads") if auto != "VALID" else None
        pads = pads or [0] * (2 * len(window))
        return pads[: len(window)], [end - more for end, more in zip(pads[len(window) :], extra, strict=True)]
    begins, ends = [], []
    sizes = shape_of(step.input(0))[2:]
    if any(is_symbolic(size) for size in sizes):
        raise step.refusal("its border follows from a size that is known only when the model runs")
    for axis, size in enumerate(sizes):
        full = (size - 1) * strides[axis] + (window[axis] - 1) * dilations[axis] + 1 + extra[axis]
        target = wanted[-len(window) :][axis] if wanted else size * strides[axis]
        whole = full - target
        small, large = whole // 2, whole - whole // 2
        begin, end = (small, large) if auto == "SAME_UPPER" else (large, small)
        begins.append(begin)
        ends.append(end - extra[axis])
    return begins, ends
