"""What moves elements without changing them: shapes, slices, joins, repeats and borders."""

from typing import Any, Final

import numpy as np

from llama_pajamas_run_coreml.export._mil import Var, is_symbolic, mb
from llama_pajamas_run_coreml.export.folding import product, quotient
from llama_pajamas_run_coreml.export.ops.elements import is_integer
from llama_pajamas_run_coreml.export.ops.table import Table
from llama_pajamas_run_coreml.export.values import Size, Step, for_builder, is_shape, shape_of

TABLE: Final = Table()


@TABLE.op("Reshape")
def _reshape(step: Step) -> Any:
    x = step.variable(0)
    wanted = step.input(1) if step.input(1) is not None else np.array(step.attribute("shape"), np.int64)
    if isinstance(wanted, Var):
        return mb.reshape(x=x, shape=wanted)
    return reshaped(step, x, wanted.tolist())


def reshaped(step: Step, x: Any, wanted: list[Size]) -> Any:
    """X in another shape, in which 0 keeps a size and -1 is what remains."""
    given = shape_of(x)
    if not step.attribute("allowzero", 0):
        wanted = [given[axis] if _is(size, 0) else size for axis, size in enumerate(wanted)]
    if any(_is(size, -1) for size in wanted):
        rest = quotient(product(given), product([size for size in wanted if not _is(size, -1)]))
        wanted = [(-1 if rest is None else rest) if _is(size, -1) else size for size in wanted]
    unknown = [axis for axis, size in enumerate(wanted) if is_symbolic(size)]
    if len(unknown) == 1 and not any(_is(size, -1) for size in wanted):
        wanted[unknown[0]] = -1
    return mb.reshape(x=x, shape=step.sizes.vector(wanted))


def _is(size: Size, number: int) -> bool:
    return not is_symbolic(size) and int(size) == number


@TABLE.op("Flatten")
def _flatten(step: Step) -> Any:
    x, axis = step.variable(0), step.attribute("axis", 1)
    sizes = shape_of(x)
    axis = axis % len(sizes) if axis < 0 else axis
    return reshaped(step, x, [product(sizes[:axis]), product(sizes[axis:])])


@TABLE.op("Transpose")
def _transpose(step: Step) -> Any:
    x = step.variable(0)
    return mb.transpose(x=x, perm=step.attribute("perm") or list(range(x.rank))[::-1])


@TABLE.op("Squeeze")
def _squeeze(step: Step) -> Any:
    axes = step.numbers("axes", 1)
    return mb.squeeze(x=step.variable(0), axes=list(axes) if axes else None)


@TABLE.op("Unsqueeze")
def _unsqueeze(step: Step) -> Any:
    axes = step.numbers("axes", 1)
    if axes is None:
        raise step.refusal("it names no axes")
    return mb.expand_dims(x=step.variable(0), axes=list(axes))


@TABLE.op("Concat")
def _concat(step: Step) -> Any:
    values = [step.variable(index) for index in range(len(step.inputs))]
    values = [value for value in values if 0 not in np.shape(value)] if not step.sizes.places else values
    return mb.concat(values=values, axis=step.attribute("axis", 0)) if len(values) > 1 else mb.identity(x=values[0])


@TABLE.op("Split")
def _split(step: Step) -> list[Any]:
    x, axis = step.variable(0), step.attribute("axis", 0)
    sizes = step.numbers("split", 1)
    whole = shape_of(x)[axis]
    if sizes is None:
        if is_symbolic(whole):
            return list(mb.split(x=x, num_splits=step.outputs, axis=axis))
        each = -(-whole // step.outputs)
        sizes = (*(each,) * (step.outputs - 1), whole - each * (step.outputs - 1))
    made = mb.split(x=x, split_sizes=[int(size) for size in sizes], axis=axis) if len(sizes) > 1 else mb.identity(x=x)
    return list(made) if isinstance(made, tuple | list) else [made]


@TABLE.op("Slice")
def _slice(step: Step) -> Any:
    x = step.variable(0)
    starts, ends = step.numbers("starts", 1), step.numbers("ends", 2)
    if starts is None or ends is None:
        raise step.refusal("it says not from where to where")
    axes = step.numbers("axes", 3) or tuple(range(len(starts)))
    steps = step.numbers("steps", 4) or (1,) * len(starts)
    sizes = shape_of(x)
    begin: list[Size] = [0] * x.rank
    end: list[Size] = [0] * x.rank
    stride = [1] * x.rank
    from_first, to_last = [True] * x.rank, [True] * x.rank
    for axis, start, stop, by in zip(axes, starts, ends, steps, strict=True):
        axis = int(axis) % x.rank
        begin[axis], from_first[axis] = _bound(step, start, sizes[axis], first=True, forward=by > 0)
        end[axis], to_last[axis] = _bound(step, stop, sizes[axis], first=False, forward=by > 0)
        stride[axis] = int(by)
    return mb.slice_by_index(
        x=x,
        begin=step.sizes.vector(begin),
        end=step.sizes.vector(end),
        stride=stride,
        begin_mask=from_first,
        end_mask=to_last,
    )


def _bound(step: Step, value: Size, size: Size, *, first: bool, forward: bool) -> tuple[Size, bool]:
    """One end of a slice, and whether it is that of the axis itself."""
    if is_symbolic(value):
        return (0, True) if not first and value == size else (value, False)
    value = int(value)
    if is_symbolic(size):
        if value < 0 or not forward:
            # A size in the range of the input: from far behind it is the end, as far as ONNX counts.
            return (value, False) if abs(value) < 1 << 30 else (0, True)
        return (value, False) if value < 1 << 30 else (0, True)
    low, high = (0, size) if forward else (-1, size - 1)
    place = max(low, min(value + size if value < 0 else value, high))
    whole = (0 if forward else size - 1) if first else (size if forward else -1)
    return place, place == whole


@TABLE.op("Expand")
def _expand(step: Step) -> Any:
    x, wanted = step.variable(0), step.input(1)
    if isinstance(wanted, Var):
        raise step.refusal("the shape that it makes is known only when the model runs")
    return broadcast(step, x, wanted.tolist())


def broadcast(step: Step, x: Any, wanted: list[Size]) -> Any:
    """X repeated along the axes of size 1 until it has the wanted shape, by NumPy's rule."""
    given = shape_of(x)
    if len(wanted) > len(given):
        given = (*(1,) * (len(wanted) - len(given)), *given)
        x = mb.reshape(x=x, shape=step.sizes.vector(list(given))) if shape_of(x) != given else x
    wanted = [*given[: len(given) - len(wanted)], *wanted]
    repeats = [size if has == 1 else 1 for has, size in zip(given, wanted, strict=True)]
    if all(_is(size, 1) for size in repeats):
        return mb.identity(x=x)
    return mb.tile(x=x, reps=step.sizes.vector(repeats))


@TABLE.op("Tile")
def _tile(step: Step) -> Any:
    repeats = step.numbers("repeats", 1)
    assert repeats is not None
    return mb.tile(x=step.variable(0), reps=step.sizes.vector(list(repeats)))


@TABLE.op("ConstantOfShape")
def _filled(step: Step) -> Any:
    value = step.attribute("value", np.zeros(1, np.float32)).reshape(-1)[0]
    return mb.fill(shape=step.variable(0), value=for_builder(value))


@TABLE.op("Range")
def _range(step: Step) -> Any:
    start, end, by = (_scalar(step, index) for index in range(3))
    return mb.range_1d(start=start, end=end, step=by)


def _scalar(step: Step, index: int) -> Any:
    value = step.input(index)
    if is_shape(value):
        return step.sizes.variable(value.reshape(-1)[0])
    if isinstance(value, Var):
        return mb.squeeze(x=value, axes=[0]) if value.rank == 1 else value
    return for_builder(value.reshape(()))


@TABLE.op("Pad")
def _pad(step: Step) -> Any:
    x, mode = step.variable(0), step.attribute("mode", "constant")
    pads = step.numbers("pads", 1) or step.numbers("paddings", 1)
    assert pads is not None
    axes = step.numbers("axes", 3) or tuple(range(x.rank))
    before, after = [0] * x.rank, [0] * x.rank
    for index, axis in enumerate(axes):
        before[int(axis)], after[int(axis)] = int(pads[index]), int(pads[index + len(axes)])
    if min(*before, *after) < 0:
        x = _cropped(x, before, after)
        before, after = [max(0, one) for one in before], [max(0, one) for one in after]
    value = step.attribute("value", 0.0)
    if step.input(2) is not None:
        value = step.constant(2, "value").reshape(-1)[0]
    return padded(step, x, before, after, mode, value)


def _cropped(x: Any, before: list[int], after: list[int]) -> Any:
    """Negative borders cut."""
    return mb.slice_by_index(
        x=x,
        begin=[max(0, -one) for one in before],
        end=[min(0, one) for one in after],
        begin_mask=[one >= 0 for one in before],
        end_mask=[one >= 0 for one in after],
    )


def padded(step: Step, x: Any, before: list[int], after: list[int], mode: str, value: Any = 0.0) -> Any:
    """X with a border."""
    if not any((*before, *after)):
        return mb.identity(x=x)
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
    if mode not in modes:
        raise step.refusal(f"Core ML has no border of the kind {mode}")
    first = next(axis for axis in range(x.rank) if before[axis] or after[axis])
    if mode != "constant" and x.rank - first > 2:
        raise step.refusal(f"Core ML makes borders of the kind {mode} on the last two axes alone")
    axes = range(first if mode == "constant" else max(0, x.rank - 2), x.rank)
    pad = [one for axis in axes for one in (before[axis], after[axis])]
    filler = np.int32(value) if is_integer(x) else np.float32(value)
    return mb.pad(x=x, pad=pad, mode=modes[mode], constant_val=filler)


@TABLE.op("DepthToSpace")
def _depth_to_space(step: Step) -> Any:
    x, block = step.variable(0), step.attribute("blocksize")
    if step.attribute("mode", "DCR") == "CRD":
        return mb.pixel_shuffle(x=x, upscale_factor=block)
    return mb.depth_to_space(x=x, block_size=block)


@TABLE.op("SpaceToDepth")
def _space_to_depth(step: Step) -> Any:
    return mb.space_to_depth(x=step.variable(0), block_size=step.attribute("blocksize"))
