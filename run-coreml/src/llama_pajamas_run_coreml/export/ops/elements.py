"""Arithmetic, comparisons and choices, element by element."""

from collections.abc import Callable
from functools import reduce
from typing import Any, Final

import numpy as np
from onnx import TensorProto

from llama_pajamas_run_coreml.export._mil import Var, mb, types
from llama_pajamas_run_coreml.export.ops.table import Table
from llama_pajamas_run_coreml.export.values import Step, shape_of

TABLE: Final = Table()

#: Operators of one input, with the builder's name for them.
_UNARY: Final = {
    "Abs": "abs", "Acos": "acos", "Asin": "asin", "Atan": "atan", "Atanh": "atanh", "Ceil": "ceil", "Cos": "cos",
    "Cosh": "cosh", "Erf": "erf", "Exp": "exp", "Floor": "floor", "Round": "round", "Sign": "sign", "Sin": "sin",
    "Sinh": "sinh", "Sqrt": "sqrt", "Tan": "tan", "Tanh": "tanh", "Not": "logical_not", "Identity": "identity",
    "Dropout": "identity",
}  # fmt: skip
#: Operators of two inputs.
_BINARY: Final = {
    "Add": "add", "Sub": "sub", "Pow": "pow", "Equal": "equal", "Less": "less", "Greater": "greater",
    "LessOrEqual": "less_equal", "GreaterOrEqual": "greater_equal",
}  # fmt: skip
#: Operators of truth values.
_LOGICAL: Final = {"And": "logical_and", "Or": "logical_or", "Xor": "logical_xor"}
#: Operators of any number of inputs.
_MANY: Final = {"Sum": "add", "Min": "minimum", "Max": "maximum"}
#: ONNX's element types, as the builder's.
_TYPES: Final = {
    TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp32", TensorProto.DOUBLE: "fp32", TensorProto.BFLOAT16: "fp32",
    TensorProto.INT64: "int32", TensorProto.INT32: "int32", TensorProto.INT16: "int32", TensorProto.INT8: "int32",
    TensorProto.UINT8: "int32", TensorProto.UINT16: "int32", TensorProto.UINT32: "int32", TensorProto.BOOL: "bool",
}  # fmt: skip


def _unary(name: str) -> Callable[[Step], Any]:
    return lambda step: getattr(mb, name)(x=step.variable(0))


def _binary(name: str) -> Callable[[Step], Any]:
    return lambda step: getattr(mb, name)(x=step.variable(0), y=step.variable(1))


def _logical(name: str) -> Callable[[Step], Any]:
    return lambda step: getattr(mb, name)(x=as_bool(step.variable(0)), y=as_bool(step.variable(1)))


def _many(name: str) -> Callable[[Step], Any]:
    function = getattr(mb, name)
    return lambda step: reduce(
        lambda left, right: function(x=left, y=right), [step.variable(index) for index in range(len(step.inputs))]
    )


for table, make in ((_UNARY, _unary), (_BINARY, _binary), (_LOGICAL, _logical), (_MANY, _many)):
    for onnx_name, mil_name in table.items():
        TABLE[onnx_name] = make(mil_name)


def is_integer(value: Any) -> bool:
    """Whether a variable or array holds whole numbers."""
    if isinstance(value, Var):
        return bool(types.is_int(value.dtype))
    return bool(np.asarray(value).dtype.kind in "iu")


def as_bool(value: Any) -> Any:
    """A variable or array as truth values."""
    if isinstance(value, Var):
        return value if types.is_bool(value.dtype) else mb.cast(x=value, dtype="bool")
    return np.asarray(value).astype(bool)


@TABLE.op("Mul")
def _multiply(step: Step) -> Any:
    left, right = step.variable(0), step.variable(1)
    for gate, x in ((left, right), (right, left)):
        # Exporters write SiLU as x * sigmoid(x), for which Core ML has an operator of its own.
        if isinstance(gate, Var) and gate.op is not None and gate.op.op_type == "sigmoid" and gate.op.inputs["x"] is x:
            return mb.silu(x=x)
    return mb.mul(x=left, y=right)


@TABLE.op("Div")
def _divide(step: Step) -> Any:
    left, right = step.variable(0), step.variable(1)
    if not is_integer(left) or not is_integer(right):
        return mb.real_div(x=left, y=right)
    # ONNX divides whole numbers towards 0, the builder downwards: where the signs differ, with what is opposite.
    size = mb.floor_div(x=mb.abs(x=left), y=mb.abs(x=right))
    return mb.mul(x=size, y=mb.mul(x=mb.sign(x=left), y=mb.sign(x=right)))


@TABLE.op("Mod")
def _remainder(step: Step) -> Any:
    if step.attribute("fmod", 0):
        raise step.refusal("the remainder with the dividend's sign has no counterpart in Core ML")
    return mb.mod(x=step.variable(0), y=step.variable(1))


@TABLE.op("Neg")
def _negate(step: Step) -> Any:
    x = step.variable(0)
    return mb.mul(x=x, y=np.int32(-1) if is_integer(x) else np.float32(-1))


@TABLE.op("Reciprocal")
def _reciprocal(step: Step) -> Any:
    return mb.real_div(x=np.float32(1), y=step.variable(0))


@TABLE.op("Log")
def _logarithm(step: Step) -> Any:
    return mb.log(x=step.variable(0), epsilon=np.float32(0))


@TABLE.op("Mean")
def _average(step: Step) -> Any:
    return mb.mul(x=_many("add")(step), y=np.float32(1 / len(step.inputs)))


@TABLE.op("Where")
def _choose(step: Step) -> Any:
    return select(as_bool(step.variable(0)), step.variable(1), step.variable(2))


def select(condition: Any, a: Any, b: Any) -> Any:
    """Takes a where a condition holds, else b. The builder's own select takes three of one shape only."""
    shapes = [shape_of(value) for value in (condition, a, b)]
    if shapes[0] == shapes[1] == shapes[2]:
        return mb.select(cond=condition, a=a, b=b)
    number = np.int32 if is_integer(a) else np.float32
    zeros = None  # of the shape that all three have together
    for value, shape in zip((condition, a, b), shapes, strict=True):
        if shape and (zeros is None or shape != shape_of(zeros)):
            filled = mb.fill_like(ref_tensor=value, value=number(0))
            zeros = filled if zeros is None else mb.add(x=zeros, y=filled)
    a, b = (value if shape_of(value) == shape_of(zeros) else _like(value, zeros) for value in (a, b))
    if shapes[0] != shape_of(zeros):
        condition = mb.cast(x=mb.add(x=mb.cast(x=condition, dtype=_name(number)), y=zeros), dtype="bool")
    return mb.select(cond=condition, a=a, b=b)


def _like(value: Any, zeros: Any) -> Any:
    """A value repeated until it has a shape."""
    if not isinstance(value, Var) and np.ndim(value) == 0:
        return mb.fill_like(ref_tensor=zeros, value=value)
    return mb.add(x=value, y=zeros)


def _name(number: Any) -> str:
    return "int32" if number is np.int32 else "fp32"


@TABLE.op("Cast", "CastLike")
def _cast(step: Step) -> Any:
    x = step.variable(0)
    if step.op == "CastLike":
        like = step.variable(1)
        truth = types.is_bool(like.dtype) if isinstance(like, Var) else np.asarray(like).dtype == bool
        dtype = "int32" if is_integer(like) else "bool" if truth else "fp32"
    else:
        kind = step.attribute("to")
        if kind not in _TYPES:
            raise step.refusal(f"Core ML has no elements of ONNX's type {kind}")
        dtype = _TYPES[kind]
    return x if isinstance(x, Var) and types.builtin_to_string(x.dtype) == dtype else mb.cast(x=x, dtype=dtype)


@TABLE.op("IsNaN")
def _is_nan(step: Step) -> Any:
    x = step.variable(0)
    return mb.not_equal(x=x, y=x)
