"""What takes elements by their place."""

from typing import Any, Final

import numpy as np

from llama_pajamas_run_coreml.export._mil import Var, is_symbolic, mb
from llama_pajamas_run_coreml.export.ops.elements import is_integer
from llama_pajamas_run_coreml.export.ops.table import Table
from llama_pajamas_run_coreml.export.values import Step, for_builder, is_known, shape_of

TABLE: Final = Table()


@TABLE.op("Gather")
def _gather(step: Step) -> Any:
    x, indices, axis = step.variable(0), step.input(1), step.attribute("axis", 0)
    axis = axis % len(shape_of(x))
    size = shape_of(x)[axis]
    if is_known(indices):
        if indices.ndim == 0:
            return _one(x, axis, int(indices), size)
        if not is_symbolic(size):
            indices = np.where(indices < 0, indices + size, indices)
    return mb.gather(x=x, indices=for_builder(indices), axis=axis, validate_indices=False)


def _one(x: Any, axis: int, index: int, size: Any) -> Any:
    """One place of an axis, without that axis."""
    begin, end = [0] * x.rank, [0] * x.rank
    begin[axis] = index + size if index < 0 and not is_symbolic(size) else index
    end[axis] = begin[axis] + 1
    others = [place != axis for place in range(x.rank)]
    return mb.slice_by_index(
        x=x, begin=begin, end=end, begin_mask=others, end_mask=others, squeeze_mask=[not other for other in others]
    )


@TABLE.op("GatherElements")
def _gather_elements(step: Step) -> Any:
    x, axis = step.variable(0), step.attribute("axis", 0)
    indices = _positive(step, step.variable(1), shape_of(x)[axis])
    return mb.gather_along_axis(x=x, indices=indices, axis=axis, validate_indices=False)


def _positive(step: Step, indices: Any, size: Any) -> Any:
    """Places counted from the beginning, where they are known."""
    if isinstance(indices, Var):
        return indices
    if np.min(indices, initial=0) >= 0:
        return indices
    if is_symbolic(size):
        raise step.refusal("it counts from the end of an axis whose size is known only when the model runs")
    return np.where(indices < 0, indices + size, indices).astype(np.int32)


@TABLE.op("GatherND")
def _gather_nd(step: Step) -> Any:
    x, indices = step.variable(0), step.variable(1)
    return mb.gather_nd(x=x, indices=indices, batch_dims=step.attribute("batch_dims", 0), validate_indices=False)


@TABLE.op("ScatterND")
def _scatter_nd(step: Step) -> Any:
    modes = {"none": "update", "add": "add", "mul": "mul", "min": "min", "max": "max"}
    mode = modes[step.attribute("reduction", "none")]
    return mb.scatter_nd(
        data=step.variable(0), indices=step.variable(1), updates=step.variable(2), mode=mode, validate_indices=False
    )


@TABLE.op("ScatterElements")
def _scatter_elements(step: Step) -> Any:
    modes = {"none": "update", "add": "add", "mul": "mul", "min": "min", "max": "max"}
    return mb.scatter_along_axis(
        data=step.variable(0),
        indices=step.variable(1),
        updates=step.variable(2),
        axis=step.attribute("axis", 0),
        mode=modes[step.attribute("reduction", "none")],
        validate_indices=False,
    )


@TABLE.op("TopK")
def _top(step: Step) -> list[Any]:
    count = int(step.constant(1, "k").reshape(-1)[0]) if step.input(1) is not None else step.attribute("k")
    ascending = not step.attribute("largest", 1)
    values, indices = mb.topk(
        x=step.variable(0), k=count, axis=step.attribute("axis", -1), ascending=ascending, sort=True
    )
    return [values, indices]


@TABLE.op("OneHot")
def _one_hot(step: Step) -> Any:
    depth = int(step.constant(1, "depth").reshape(-1)[0])
    off, on = step.constant(2, "values").reshape(-1)
    return mb.one_hot(
        indices=step.variable(0),
        one_hot_vector_size=depth,
        axis=step.attribute("axis", -1),
        on_value=for_builder(np.asarray(on)),
        off_value=for_builder(np.asarray(off)),
    )


@TABLE.op("Trilu")
def _triangle(step: Step) -> Any:
    x = step.variable(0)
    offset = 0 if step.input(1) is None else int(step.constant(1, "k").reshape(-1)[0])
    rows, columns = shape_of(x)[-2:]
    if is_symbolic(rows) or is_symbolic(columns):
        raise step.refusal("the size of its matrix is known only when the model runs")
    ones = np.ones((rows, columns), bool)
    kept = np.triu(ones, offset) if step.attribute("upper", 1) else np.tril(ones, offset)
    nothing = np.int32(0) if is_integer(x) else np.float32(0)
    return mb.select(cond=np.broadcast_to(kept, (*(1,) * (x.rank - 2), rows, columns)).copy(), a=x, b=nothing)
