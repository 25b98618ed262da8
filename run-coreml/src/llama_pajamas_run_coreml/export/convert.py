"""An ONNX graph as an ML Program, node by node through coremltools' builder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from llama_pajamas_run_core.errors import PajamasError, Unsupported
from llama_pajamas_run_coreml.export._mil import Function, Program, Var, ct, get_new_symbol, mb, types
from llama_pajamas_run_coreml.export.folding import fold
from llama_pajamas_run_coreml.export.graph import Graph, Node
from llama_pajamas_run_coreml.export.ops import CONVERTERS
from llama_pajamas_run_coreml.export.targets import opset
from llama_pajamas_run_coreml.export.values import Sizes, Step, Value, for_builder, is_shape

#: Axes that Core ML's tensors can have.
_MOST_AXES: Final = 5
_LENGTHS: Final = "Core ML neither draws numbers nor has sizes that follow from them: serve the model by ONNX Runtime."
#: Operators that are left out on purpose, with what to do instead.
_HINTS: Final = {
    "NonMaxSuppression": "Export the model without suppression of doubles: the runtime does that itself.",
    "NonZero": _LENGTHS,
    "RandomNormalLike": _LENGTHS,
    "RandomUniformLike": _LENGTHS,
    "Loop": "Export the model with its loops unrolled.",
    "LSTM": "Only networks without recurrent layers are converted.",
    "GRU": "Only networks without recurrent layers are converted.",
    "DynamicQuantizeLinear": "Convert the model before it was quantized, and compress the package instead.",
    "DequantizeLinear": "Convert the model before it was quantized, and compress the package instead.",
    "QuantizeLinear": "Convert the model before it was quantized, and compress the package instead.",
}


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the program.

    Attributes:
        name: in the package.
        shape: numbers; the one at ``flexible`` is any of ``sizes``.
        dtype: "fp32", "fp16" or "int32".
        flexible: the axis whose size may differ, or None.
        sizes: what that size may be, rising; two or more.
        ranged: whether it may be anything between the first and the last of them.
        image: whether apps give an image in place of an array.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "fp32"
    flexible: int | None = None
    sizes: tuple[int, ...] = ()
    ranged: bool = False
    image: bool = False

    def declared(self, symbol: Any) -> Any:
        """Coremltools' own declaration of it."""
        if self.image:
            return ct.ImageType(name=self.name, shape=self.shape, color_layout=ct.colorlayout.RGB)
        dtype = {"fp32": np.float32, "fp16": np.float16, "int32": np.int32}[self.dtype]
        return ct.TensorType(name=self.name, shape=self._shape(symbol), dtype=dtype)

    def _shape(self, symbol: Any) -> Any:
        if self.flexible is None:
            return self.shape
        if self.ranged:
            first, last = self.sizes[0], self.sizes[-1]
            span = ct.RangeDim(lower_bound=first, upper_bound=last, default=first)
            span.symbol = symbol
            return ct.Shape([span if axis == self.flexible else size for axis, size in enumerate(self.shape)])
        made = ct.EnumeratedShapes(
            shapes=[
                tuple(each if axis == self.flexible else size for axis, size in enumerate(self.shape))
                for each in self.sizes
            ]
        )
        made.symbolic_shape[self.flexible] = symbol
        return made


def program(
    inputs: Sequence[Input],
    target: str,
    build: Callable[[Mapping[str, Var], Sizes], Mapping[str, Var]],
    states: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[Any, list[Any]]:
    """Build a program.

    Args:
        inputs: what goes in.
        target: the oldest system that runs it.
        build: makes the outputs, by name, of the inputs and states, by name.
        states: shapes of what the program keeps between predictions, float16, by name.

    Returns:
        the program, and coremltools' declarations of its inputs.
    """
    symbol = get_new_symbol()  # one for all inputs: there are as many masks as there are texts
    declared = [one.declared(symbol) for one in inputs]
    placeholders = {}
    for given, one in zip(inputs, declared, strict=True):
        shape = tuple(one.shape.symbolic_shape) if hasattr(one.shape, "symbolic_shape") else tuple(given.shape)
        placeholders[given.name] = mb.placeholder(shape=shape, dtype=types.string_to_builtin(given.dtype))
    for name, shape in (states or {}).items():
        placeholders[name] = mb.state_tensor_placeholder(shape=shape, dtype=types.fp16)
    made = Program()
    sizes = Sizes()
    with Function(placeholders, opset_version=opset(target)) as function:
        for given in inputs:
            sizes.add(function.inputs[given.name])
        outputs = build(function.inputs, sizes)
        function.set_outputs(_named(outputs))
    made.add_function("main", function)
    return made, declared


def _named(outputs: Mapping[str, Var]) -> list[Var]:
    """The outputs under their names; one that is an input, or is wanted twice, is a copy."""
    made: list[Var] = []
    for name, value in outputs.items():
        if value.op is None or any(value is other for other in made):
            value = mb.identity(x=value, name=name)
        value.name = name
        made.append(value)
    return made


class Conversion:
    """Turns nodes into operations of the program being built.

    Args:
        graph: what is converted.
        sizes: of the program.
        values: what is known of the graph's inputs.
    """

    def __init__(self, graph: Graph, sizes: Sizes, values: Mapping[str, Value]) -> None:
        self._graph, self._sizes = graph, sizes
        self._values: dict[str, Value] = {**graph.constants, **values}

    def run(self) -> dict[str, Var]:
        """Convert every node; the outputs by name.

        Raises:
            Unsupported: a node cannot be converted; the message names it and its operator.
        """
        self._run(self._graph.nodes)
        return {output.name: self._output(output.name) for output in self._graph.outputs}

    def _run(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            results = self._branch(node) if node.op == "If" else self._convert(node)
            self._values.update({name: value for name, value in zip(node.outputs, results, strict=False) if name})

    def _convert(self, node: Node) -> list[Value]:
        inputs = tuple(self._values[name] if name else None for name in node.inputs)
        wanted = max((index + 1 for index, name in enumerate(node.outputs) if name), default=0)
        step = Step(node.op, node.name, node.attributes, inputs, wanted, self._graph.opset, self._sizes)
        try:
            if (known := fold(step)) is not None:
                return known
            if node.op not in CONVERTERS:
                raise Unsupported(
                    f"The node {node.name} cannot be converted: its operator {node.op} is not known.",
                    hint=_HINTS.get(node.op),
                    param="model",
                )
            made = CONVERTERS[node.op](step)
        except PajamasError:
            raise
        except Exception as error:  # the builder raises errors of every kind on what it cannot do
            raise step.refusal(str(error).strip().rstrip(".") or repr(error)) from error
        results = made if isinstance(made, list) else [made]
        for one in results:
            if isinstance(one, Var):
                if one.rank > _MOST_AXES:
                    raise step.refusal(f"Core ML's tensors have at most {_MOST_AXES} axes, and its result has more")
                self._sizes.add(one)
        return results

    def _branch(self, node: Node) -> list[Value]:
        """The branch of an If that is taken, where that is known."""
        condition = self._values[node.inputs[0]]
        if not isinstance(condition, np.ndarray) or is_shape(condition):
            raise Unsupported(
                f"The node {node.name} (If) cannot be converted: its branch is chosen only when the model runs.",
                param="model",
            )
        branch = node.attributes["then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"]
        self._values.update(branch.constants)
        self._run(branch.nodes)
        return [self._values[output.name] for output in branch.outputs]

    def _output(self, name: str) -> Var:
        value = self._values[name]
        if isinstance(value, Var):
            return value
        if is_shape(value):
            return self._sizes.vector(value.reshape(-1).tolist())
        return mb.const(val=for_builder(value))
