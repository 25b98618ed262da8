"""What can be worked out while converting: nodes whose inputs are known, and arithmetic on shapes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from llama_pajamas_run_coreml.export._mil import is_symbolic
from llama_pajamas_run_coreml.export.graph import plain
from llama_pajamas_run_coreml.export.values import (
    Array,
    Step,
    Value,
    as_size,
    is_known,
    is_shape,
    shape_of,
    sizes_array,
)

#: Nodes whose results differ each time.
_RANDOM: Final = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def fold(step: Step) -> list[Value] | None:
    """The results of a node that can be worked out now, or None."""
    if step.op == "Shape":
        return [_part_of_shape(step)]
    if step.op == "Size":
        return [sizes_array([product(shape_of(step.inputs[0]))]).reshape(())]
    if any(is_shape(value) for value in step.inputs):
        return _fold_shape(step)
    if step.op not in _RANDOM and all(value is None or is_known(value) for value in step.inputs):
        return _evaluate(step)
    return None


def product(sizes: Sequence[Any]) -> Any:
    """The product of sizes."""
    made: Any = 1
    for size in sizes:
        made = made * size
    return as_size(made)


def quotient(whole: Any, part: Any) -> Any | None:
    """A size divided by another, or None where symbols do not cancel."""
    if not is_symbolic(whole) and not is_symbolic(part):
        return whole // part if part else None
    exact = whole / part
    return as_size(exact) if exact.as_numer_denom()[1] == 1 else None


def _part_of_shape(step: Step) -> Array:
    sizes = shape_of(step.inputs[0])
    return sizes_array(sizes[step.attribute("start", 0) : step.attribute("end", len(sizes))])


def _evaluate(step: Step) -> list[Value] | None:
    """What onnx's reference implementation makes of a node; None where it has none for it."""
    names = [f"in{index}" if value is not None else "" for index, value in enumerate(step.inputs)]
    outputs = [f"out{index}" for index in range(step.outputs)]
    given = {name: value for name, value in zip(names, step.inputs, strict=True) if name}
    try:
        node = helper.make_node(step.op, names, outputs, **_attributes(step.attributes))
        graph = helper.make_graph(
            [node],
            "one",
            [helper.make_tensor_value_info(name, _kind(value), value.shape) for name, value in given.items()],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", step.opset)])
        return [plain(np.asarray(value)) for value in ReferenceEvaluator(model).run(None, given)]
    except Exception:  # whatever the reference cannot do is left to the converter, which says so
        return None


def _kind(value: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(value.dtype))


def _attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in attributes.items():
        if isinstance(value, np.ndarray):
            value = numpy_helper.from_array(value)
        if name == "to" and value in (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE):
            value = TensorProto.FLOAT
        made[name] = value
    return made


def _fold_shape(step: Step) -> list[Value] | None:
    """Arithmetic on shapes with symbols in them; None where it needs the program."""
    rule = _RULES.get(step.op)
    if rule is None or not all(value is None or isinstance(value, np.ndarray) for value in step.inputs):
        return None
    made = rule(step)
    if made is None:
        return None
    return [_tidy(one) for one in made] if isinstance(made, list) else [_tidy(made)]


def _tidy(array: Any) -> Array:
    """An array of numbers again where no symbol is left."""
    array = np.asarray(array, object) if not isinstance(array, np.ndarray) else array
    if array.dtype != object:
        return array
    sizes = [size if isinstance(size, bool | np.bool_) else as_size(size) for size in array.reshape(-1).tolist()]
    if any(is_symbolic(size) for size in sizes):
        made = np.empty(len(sizes), object)
        made[:] = sizes
        return made.reshape(array.shape)
    return np.array(sizes, bool if sizes and isinstance(sizes[0], bool | np.bool_) else np.int64).reshape(array.shape)


def _gather(step: Step) -> Array:
    return np.take(step.inputs[0], step.inputs[1].astype(np.int64), axis=step.attribute("axis", 0))


def _slice(step: Step) -> Array | None:
    starts, ends = step.numbers("starts", 1), step.numbers("ends", 2)
    axes, steps = step.numbers("axes", 3), step.numbers("steps", 4)
    if starts is None or ends is None or len(starts) != 1 or (axes or (0,))[0] not in (0, -1):
        return None
    return step.inputs[0][slice(starts[0], ends[0], (steps or (1,))[0])]


def _concat(step: Step) -> Array:
    return np.concatenate([value.astype(object) for value in step.inputs], axis=step.attribute("axis", 0))


def _unsqueeze(step: Step) -> Array:
    return np.expand_dims(step.inputs[0], step.numbers("axes", 1) or (0,))


def _squeeze(step: Step) -> Array:
    return np.squeeze(step.inputs[0], step.numbers("axes", 1))


def _reshape(step: Step) -> Array:
    return step.inputs[0].reshape([int(size) for size in step.constant(1, "shape")])


def _split(step: Step) -> list[Array]:
    sizes = step.numbers("split", 1) or (len(step.inputs[0]) // step.outputs,) * step.outputs
    return np.split(step.inputs[0], np.cumsum([int(size) for size in sizes])[:-1])


def _divide(step: Step) -> Array | None:
    left, right = np.broadcast_arrays(step.inputs[0], step.inputs[1])
    parts = [quotient(as_size(a), as_size(b)) for a, b in zip(left.reshape(-1), right.reshape(-1), strict=True)]
    return None if any(part is None for part in parts) else sizes_array(parts).reshape(left.shape)


def _equal(step: Step) -> Array:
    # A symbol is a size of the input, and equals no number that a graph compares sizes with (-1 and 0).
    left, right = np.broadcast_arrays(step.inputs[0], step.inputs[1])
    same = [bool(a == b) for a, b in zip(left.reshape(-1).tolist(), right.reshape(-1).tolist(), strict=True)]
    return np.array(same, bool).reshape(left.shape)


def _calculated(function: Callable[[Any, Any], Any]) -> Callable[[Step], Array]:
    return lambda step: function(step.inputs[0].astype(object), step.inputs[1].astype(object))


_RULES: Final[Mapping[str, Callable[[Step], Any]]] = {
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Split": _split,
    "Cast": lambda step: step.inputs[0] if step.attribute("to") in (TensorProto.INT32, TensorProto.INT64) else None,
    "Identity": lambda step: step.inputs[0],
    "Add": _calculated(lambda a, b: a + b),
    "Sub": _calculated(lambda a, b: a - b),
    "Mul": _calculated(lambda a, b: a * b),
    "Div": _divide,
    "Neg": lambda step: -step.inputs[0],
    "Equal": _equal,
    "ReduceProd": lambda step: np.array(product(step.inputs[0].tolist()), object).reshape(
        (1,) if step.attribute("keepdims", 1) else ()
    ),
    "Where": lambda step: np.where(step.inputs[0].astype(bool), step.inputs[1], step.inputs[2]),
}
