"""A graph in the making: nodes are added in order, and each returns the name of its output."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

#: What TensorRT 8.6 reads at most.
OPSET: Final = 17
_IR_VERSION: Final = 8
#: Weights past this many bytes lie in a file of their own: protobuf ends at 2 GiB.
_LARGE: Final = 1_500_000_000
_KINDS: Final = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int64": TensorProto.INT64}

Size = int | str


class Graph:
    """A graph in the making.

    Args:
        name: of the graph.
        half: whether the weights of matrices and convolutions are stored in float16; they are computed with in float32.
    """

    def __init__(self, name: str, *, half: bool = False) -> None:
        self._name, self._half = name, half
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._bytes = self._made = 0

    def input(self, name: str, shape: Sequence[Size], dtype: str = "float32") -> str:
        """Declare an input; a string in the shape names a free size."""
        self._inputs.append(helper.make_tensor_value_info(name, _KINDS[dtype], list(shape)))
        return name

    def output(self, value: str, name: str, shape: Sequence[Size], dtype: str = "float32") -> None:
        """Declare a value as an output."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"output/{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, _KINDS[dtype], list(shape)))

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output."""
        return self.nodes(kind, inputs, 1, **attributes)[0]

    def nodes(self, kind: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        self._made += 1
        names = [f"{kind}_{self._made}" + (f"_{index}" if count > 1 else "") for index in range(count)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=f"{kind}_{self._made}", **attributes))
        return names

    def weight(self, name: str, array: npt.NDArray[Any]) -> str:
        """A weight, stored once for each name. Floats become float32, or float16 where they are many and it is asked.

        Raises:
            ValueError: another weight has that name.
        """
        if name in self._weights:
            return name if self._weights[name].dims == list(array.shape) else _taken(name)
        if not np.issubdtype(array.dtype, np.floating):
            return self._store(name, array)
        if not self._half or array.ndim < 2:
            return self._store(name, array.astype(np.float32))
        stored = self._store(f"{name}/half", np.clip(array, -65504, 65504).astype(np.float16))
        self._nodes.append(helper.make_node("Cast", [stored], [name], name=f"{name}/cast", to=TensorProto.FLOAT))
        self._weights[name] = self._weights.pop(stored)
        return name

    def constant(self, value: Sequence[int] | npt.NDArray[Any] | float) -> str:
        """A small constant: integers as int64 (shapes, axes), a float as a scalar of float32."""
        array = np.float32(value) if isinstance(value, float) else np.asarray(value)
        array = np.asarray(array, np.int64 if np.issubdtype(array.dtype, np.integer) else np.float32)
        key = f"constant/{array.dtype}/{'x'.join(map(str, array.shape))}/{'_'.join(map(str, array.ravel().tolist()))}"
        return self._store(key, array) if key not in self._weights else key

    def linear(
        self, x: str, name: str, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32] | None = None
    ) -> str:
        """Multiply by the transposed weight and add the bias; the weight is [out, in] as PyTorch has it."""
        made = self.node("MatMul", [x, self.weight(f"{name}.weight_t", np.ascontiguousarray(weight.T))])
        return made if bias is None else self.node("Add", [made, self.weight(f"{name}.bias", bias)])

    def layer_norm(
        self, x: str, name: str, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32], epsilon: float = 1e-5
    ) -> str:
        """Layer normalization over the last axis."""
        inputs = [x, self.weight(f"{name}.weight", weight), self.weight(f"{name}.bias", bias)]
        return self.node("LayerNormalization", inputs, axis=-1, epsilon=epsilon)

    def gelu(self, x: str) -> str:
        """The exact GELU, with the error function."""
        erf = self.node("Erf", [self.node("Mul", [x, self.constant(float(np.sqrt(0.5)))])])
        return self.node(
            "Mul", [self.node("Mul", [x, self.constant(0.5)]), self.node("Add", [erf, self.constant(1.0)])]
        )

    def heads(self, x: str, count: int, width: int, *, keys: bool = False) -> str:
        """From [batch, n, count * width] to [batch, count, n, width]; for ``keys`` to [batch, count, width, n]."""
        apart = self.node("Reshape", [x, self.constant([0, -1, count, width])])
        return self.node("Transpose", [apart], perm=[0, 2, 3, 1] if keys else [0, 2, 1, 3])

    def together(self, x: str, width: int) -> str:
        """From [batch, heads, n, ...] to [batch, n, width]."""
        return self.node("Reshape", [self.node("Transpose", [x], perm=[0, 2, 1, 3]), self.constant([0, -1, width])])

    def save(self, path: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write the file, checked; large weights beside it, as ``<name>.data``.

        Raises:
            onnx.checker.ValidationError: the graph is not what ONNX allows.
        """
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, list(self._weights.values()))
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="llama-pajamas")
        helper.set_model_props(model, dict(metadata or {}))
        if self._bytes > _LARGE:
            onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
            onnx.checker.check_model(str(path))
        else:
            onnx.checker.check_model(model)
            onnx.save(model, path)

    def _store(self, name: str, array: npt.NDArray[Any]) -> str:
        self._weights[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        self._bytes += array.nbytes
        return name


def _taken(name: str) -> str:
    raise ValueError(f"two different weights are called {name}")
