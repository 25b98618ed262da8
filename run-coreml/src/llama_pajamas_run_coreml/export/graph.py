"""ONNX files as plain nodes: constants loaded, what no output needs left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from llama_pajamas_run_core.artifacts.onnx import check_onnx
from llama_pajamas_run_core.errors import BadInput, LoadError, Unsupported

#: Domains of ONNX's own operators.
_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a graph.

    Attributes:
        name: in the graph.
        shape: a number for each size that the graph fixes; a name or None for any other.
        dtype: its NumPy type.
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: npt.DTypeLike

    def size(self, axis: int) -> int | None:
        """A size that the graph fixes; None for any other, and for an axis that there is not."""
        if not -len(self.shape) <= axis < len(self.shape):
            return None
        size = self.shape[axis]
        return size if isinstance(size, int) else None


@dataclass(frozen=True, slots=True)
class Node:
    """An operation.

    Attributes:
        op: by ONNX's name; of another domain than ONNX's own with the domain before it.
        name: in the graph.
        inputs: names of values, "" for one that is left out.
        outputs: names of values.
        attributes: numbers, texts, arrays, and graphs (:class:`Graph`) for the branches of an If.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Graph:
    """What is converted.

    Attributes:
        path: the file it was read from.
        nodes: in an order in which they can run.
        inputs: what goes in.
        outputs: what comes out.
        constants: known values by name.
        opset: the version of ONNX's operators.
        metadata: of the file.
    """

    path: Path
    nodes: tuple[Node, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    constants: Mapping[str, npt.NDArray[Any]]
    opset: int
    metadata: Mapping[str, str]

    def restricted(self, outputs: Sequence[str]) -> "Graph":
        """The graph with only what these outputs need.

        Raises:
            BadInput: there is no output of such a name.
        """
        known = {output.name: output for output in self.outputs}
        if missing := [name for name in outputs if name not in known]:
            raise BadInput(
                f"{self.path} has no output {missing[0]!r}.", hint=f"There are: {', '.join(known)}.", param="outputs"
            )
        needed, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                nodes.append(node)
                needed.update(_uses(node))
        return Graph(
            self.path,
            tuple(reversed(nodes)),
            tuple(given for given in self.inputs if given.name in needed),
            tuple(known[name] for name in outputs),
            {name: value for name, value in self.constants.items() if name in needed},
            self.opset,
            self.metadata,
        )


def read_graph(path: Path) -> Graph:
    """Read a file.

    Raises:
        BadInput: there is no such file, or it is no ONNX file.
        LoadError: it, or a file with its weights, is damaged.
        Unsupported: it is quantized in a way that cannot be read.
    """
    check_onnx(path)  # also refuses weights that lie outside its folder
    try:
        model = onnx.load(path)
        if model.functions:
            from onnx.inliner import inline_local_functions

            model = inline_local_functions(model)
        opset = next((one.version for one in model.opset_import if one.domain in _STANDARD), 1)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        return _graph(path, model.graph, opset, metadata)
    except (BadInput, LoadError, Unsupported):
        raise
    except Exception as error:  # protobuf's and onnx's own errors, which share no class
        raise LoadError(f"{path} could not be read: {error}.", hint="Fetch or export it again.") from error


def _graph(path: Path, graph: onnx.GraphProto, opset: int, metadata: Mapping[str, str]) -> Graph:
    if graph.sparse_initializer:
        raise Unsupported(f"{path} has sparse weights, which cannot be converted.", param="model")
    constants = {one.name: plain(numpy_helper.to_array(one)) for one in graph.initializer}
    nodes = tuple(_node(path, index, node, opset) for index, node in enumerate(graph.node))
    inputs = tuple(_tensor(value) for value in graph.input if value.name not in constants)
    return Graph(path, nodes, inputs, tuple(map(_tensor, graph.output)), constants, opset, metadata)


def _node(path: Path, index: int, node: onnx.NodeProto, opset: int) -> Node:
    op = node.op_type if node.domain in _STANDARD else f"{node.domain}.{node.op_type}"
    attributes = {one.name: _attribute(path, one, opset) for one in node.attribute}
    return Node(op, node.name or f"{op}_{index}", tuple(node.input), tuple(node.output), attributes)


def _attribute(path: Path, attribute: onnx.AttributeProto, opset: int) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return plain(numpy_helper.to_array(value))
    if isinstance(value, onnx.GraphProto):
        return _graph(path, value, opset, {})
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list | tuple):
        return [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in value]
    return value


def plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array as the conversion works on it: all floats are float32, which the precision is chosen from later."""
    if array.dtype.kind == "f" or array.dtype.name in ("bfloat16",):
        return array.astype(np.float32)
    return array


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    shape = tuple(
        size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else size.dim_param or None
        for size in kind.shape.dim
    )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) if kind.elem_type else np.float32
    return Tensor(value.name, shape, dtype)


def _uses(node: Node) -> set[str]:
    """The values that a node, or a branch inside it, takes."""
    names = {name for name in node.inputs if name}
    for value in node.attributes.values():
        if isinstance(value, Graph):
            for inner in value.nodes:
                names |= _uses(inner)
            names.update(output.name for output in value.outputs)
    return names
