"""What flows through a graph while it is converted: known arrays, and variables of the program being built.

A size that is only known when the model runs (the number of images) is a symbol. An array that holds one has the dtype
object; all arithmetic on shapes works on it as it does on numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_coreml.export._mil import Var, is_symbolic, mb

Array = npt.NDArray[Any]
#: A known array, or a variable of the program.
Value = Any
#: A number, or a symbol.
Size = Any


@dataclass(slots=True)
class Sizes:
    """Where the sizes that are known only when the model runs can be read.

    Attributes:
        places: for each symbol a variable with that size, and its axis.
    """

    places: dict[Any, tuple[Var, int]] = field(default_factory=dict)
    _made: dict[Any, Var] = field(default_factory=dict)

    def add(self, variable: Var) -> None:
        """Learn the symbols in a variable's shape."""
        for axis, size in enumerate(variable.shape):
            if is_symbolic(size):
                self.places.setdefault(size, (variable, axis))

    def variable(self, size: Size) -> Var | np.int32:
        """A size as int32 []: what the program reads when it runs, or a known number.

        Raises:
            Unsupported: it is neither a number nor one of the program's own symbols.
        """
        if not is_symbolic(size):
            return np.int32(size)
        if size not in self.places:
            return self._product(size)
        if size not in self._made:
            variable, axis = self.places[size]
            self._made[size] = mb.slice_by_index(
                x=mb.shape(x=variable), begin=[axis], end=[axis + 1], squeeze_mask=[True]
            )
        return self._made[size]

    def vector(self, sizes: Sequence[Size]) -> Var | Array:
        """Sizes as int32 [n]."""
        if not any(is_symbolic(size) for size in sizes):
            return np.array([int(size) for size in sizes], np.int32)
        parts = [self.variable(size) for size in sizes]
        return mb.concat(
            values=[mb.expand_dims(x=part, axes=[0]) if isinstance(part, Var) else np.array([part]) for part in parts],
            axis=0,
        )

    def _product(self, size: Size) -> Var:
        """A multiple or a sum of symbols."""
        combine = mb.mul if getattr(size, "is_Mul", False) else mb.add if getattr(size, "is_Add", False) else None
        if combine is None or not all(one.is_Integer or one.is_Symbol or one.args for one in size.args):
            raise Unsupported(f"The size {size} depends on the input in a way that cannot be converted.")
        parts = [self.variable(int(one) if one.is_Integer else one) for one in size.args]
        made = parts[0]
        for part in parts[1:]:
            made = combine(x=made, y=part)
        return made


@dataclass(frozen=True, slots=True)
class Step:
    """One node of a graph with what goes into it.

    Attributes:
        op: what it does, by ONNX's name.
        name: its name in the graph.
        attributes: of the node.
        inputs: what goes in; None for one that is left out.
        outputs: how many results are wanted.
        opset: the version of ONNX's operators.
        sizes: of the program being built.
    """

    op: str
    name: str
    attributes: Mapping[str, Any]
    inputs: tuple[Value, ...]
    outputs: int
    opset: int
    sizes: Sizes

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(name, default)

    def input(self, index: int) -> Value:
        """An input, or None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def variable(self, index: int) -> Value:
        """An input as the builder takes it: a variable, or an array of float32, int32 or bool.

        Raises:
            Unsupported: it is left out.
        """
        value = self.input(index)
        if value is None:
            raise self.refusal(f"its input {index} is left out")
        if not is_shape(value):
            return for_builder(value)
        if value.ndim == 0:
            return self.sizes.variable(value.item())
        made = self.sizes.vector(value.reshape(-1).tolist())
        return made if value.ndim == 1 else mb.reshape(x=made, shape=value.shape)

    def constant(self, index: int, what: str) -> Array:
        """An input that must be known beforehand.

        Raises:
            Unsupported: it is known only when the model runs.
        """
        value = self.input(index)
        if not isinstance(value, np.ndarray):
            raise self.refusal(f"its {what} is known only when the model runs")
        return value

    def numbers(self, name: str, index: int) -> tuple[Size, ...] | None:
        """Numbers that older versions have as an attribute and newer ones as an input; None where they are left out."""
        if name in self.attributes:
            value = self.attributes[name]
            return tuple(value) if isinstance(value, list | tuple) else (value,)
        if self.input(index) is None:
            return None
        return tuple(as_size(one) for one in self.constant(index, name).reshape(-1).tolist())

    def refusal(self, reason: str) -> Unsupported:
        """That this node cannot be converted."""
        return Unsupported(f"The node {self.name} ({self.op}) cannot be converted: {reason}.", param="model")


def is_shape(value: Value) -> bool:
    """Whether a value is an array that holds symbols."""
    return isinstance(value, np.ndarray) and value.dtype == object


def is_known(value: Value) -> bool:
    """Whether a value is an array of numbers."""
    return isinstance(value, np.ndarray) and value.dtype != object


def shape_of(value: Value) -> tuple[Size, ...]:
    """The sizes of a value, numbers or symbols."""
    return tuple(as_size(size) for size in (value.shape if isinstance(value, Var) else np.shape(value)))


def as_size(size: Size) -> Size:
    """A size as a Python number where it is one."""
    if is_symbolic(size):
        return int(size) if getattr(size, "is_Integer", False) else size
    return int(size)


def for_builder(value: Value) -> Value:
    """A value as the builder takes it: arrays as float32, int32 or bool."""
    if isinstance(value, Var):
        return value
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype.kind in "iu":
        limits = np.iinfo(np.int32)
        array = np.clip(array.astype(np.int64), limits.min, limits.max).astype(np.int32)
    return array[()] if array.ndim == 0 else array


def sizes_array(sizes: Sequence[Size]) -> Array:
    """Sizes as an array: int64, or object where there are symbols."""
    if any(is_symbolic(size) for size in sizes):
        made = np.empty(len(sizes), object)
        made[:] = list(sizes)
        return made
    return np.array([int(size) for size in sizes], np.int64)
