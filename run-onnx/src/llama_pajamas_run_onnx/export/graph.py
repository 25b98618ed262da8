"""Writing ONNX graphs by hand: a node at a time, opset 17, with the layers that networks are made of.

Opset 17 is the newest that TensorRT 8.6 reads. Sizes that only a run knows (the batch) are copied by Reshape's 0, so
that no graph computes shapes, which every converter and engine builder understands.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import MissingDependency, Unsupported

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise MissingDependency(
        "Exporting to ONNX", package="onnx", install="uv pip install 'llama-pajamas-run-onnx[export]'"
    ) from error

OPSET: Final = 17
#: The version of ONNX's files that came with opset 17.
IR_VERSION: Final = 8
FLOAT, INT32, INT64 = int(TensorProto.FLOAT), int(TensorProto.INT32), int(TensorProto.INT64)
#: Above it the weights go into a file of their own: a protobuf message holds 2 GiB at most.
_LARGEST: Final = 1 << 30

Array = npt.NDArray[Any]
#: The size of an axis; a name where it is free.
Size = int | str


class Graph:
    """An ONNX graph in the making. Values are called by their names.

    Args:
        name: of the graph.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._weights: dict[str, Array] = {}
        self._shared: dict[bytes, str] = {}
        #: What the values that leave the graph are called in the end.
        self._names: dict[str, str] = {}

    def input(self, name: str, shape: Sequence[Size], kind: int = FLOAT) -> str:
        """Declare an input; returns its name."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, name: str, value: str, shape: Sequence[Size], kind: int = FLOAT) -> None:
        """Declare that ``value``, made by a node, leaves the graph as ``name``."""
        self._names[value] = name
        self._outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def weight(self, name: str, array: Array) -> str:
        """Add a tensor of the network under its own name; returns it."""
        if name in self._weights:
            raise ValueError(f"the graph has a weight {name} already")
        self._weights[name] = np.asarray(array, order="C")
        return name

    def constant(
        self, value: Array | Sequence[int] | Sequence[float] | float, dtype: npt.DTypeLike = np.float32
    ) -> str:
        """Add a constant, once for all that are equal; returns its name."""
        array = np.asarray(value, dtype)
        key = hashlib.sha256(repr((array.dtype.str, array.shape)).encode() + array.tobytes()).digest()
        if key not in self._shared:
            self._shared[key] = self.weight(f"constant{len(self._shared)}", array)
        return self._shared[key]

    def shape(self, *sizes: int) -> str:
        """Add sizes as ONNX wants them, int64."""
        return self.constant(sizes, np.int64)

    def node(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        return self.nodes(kind, *inputs, outputs=1, name=name, **attributes)[0]

    def nodes(self, kind: str, *inputs: str, outputs: int, name: str | None = None, **attributes: Any) -> list[str]:
        """Add a node with several outputs; returns their names."""
        name = name or f"{kind}{len(self._nodes)}"
        made = [f"{name}_out{index}" if outputs > 1 else f"{name}_out" for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), made, name=name, **attributes))
        return made

    @property
    def inputs(self) -> dict[str, tuple[Size, ...]]:
        """The inputs' shapes."""
        return {value.name: _shape(value) for value in self._inputs}

    @property
    def outputs(self) -> dict[str, tuple[Size, ...]]:
        """The outputs' shapes."""
        return {value.name: _shape(value) for value in self._outputs}

    # The layers.

    def conv(
        self,
        x: str,
        name: str,
        weight: Array,
        bias: Array | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> str:
        """A convolution over all axes after the channels, with weights [out, in / groups, ...]."""
        sides = weight.ndim - 2
        inputs = [x, self.weight(f"{name}.weight", weight)]
        if bias is not None:
            inputs.append(self.weight(f"{name}.bias", bias))
        return self.node(
            "Conv",
            *inputs,
            name=name,
            kernel_shape=list(weight.shape[2:]),
            strides=[stride] * sides,
            pads=[padding] * (2 * sides),
            group=groups,
        )

    def linear(self, x: str, name: str, weight: Array, bias: Array | None = None) -> str:
        """A product with weights [out, in], as PyTorch keeps them, along the last axis."""
        y = self.node("MatMul", x, self.weight(f"{name}.weight", weight.T), name=name)
        return y if bias is None else self.node("Add", y, self.weight(f"{name}.bias", bias), name=f"{name}.add")

    def layer_norm(self, x: str, name: str, weight: Array, bias: Array, epsilon: float) -> str:
        """A normalization of the last axis."""
        return self.node(
            "LayerNormalization",
            x,
            self.weight(f"{name}.weight", weight),
            self.weight(f"{name}.bias", bias),
            name=name,
            axis=-1,
            epsilon=float(epsilon),
        )

    def heads(self, x: str, heads: int, width: int) -> str:
        """[n, t, heads * width] as [n, heads, t, width]."""
        return self.node("Transpose", self.node("Reshape", x, self.shape(0, 0, heads, width)), perm=[0, 2, 1, 3])

    def attend(self, q: str, k: str, v: str, heads: int, width: int, mask: str | None = None) -> str:
        """Attention with several heads.

        Args:
            q: queries [n, t, heads * width].
            k: keys [n, s, heads * width].
            v: values [n, s, heads * width].
            heads: how many.
            width: of one.
            mask: added to the scores [n, heads, t, s].

        Returns:
            [n, t, heads * width]
        """
        keys = self.node("Transpose", self.node("Reshape", k, self.shape(0, 0, heads, width)), perm=[0, 2, 3, 1])
        # The queries are scaled, not the scores: those may leave the range of half precision.
        queries = self.node("Mul", self.heads(q, heads, width), self.constant(width**-0.5))
        scores = self.node("MatMul", queries, keys)
        if mask is not None:
            scores = self.node("Add", scores, mask)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), self.heads(v, heads, width))
        return self.node("Reshape", self.node("Transpose", mixed, perm=[0, 2, 1, 3]), self.shape(0, 0, heads * width))

    def activation(self, x: str, kind: str) -> str:
        """An activation by the name that Hugging Face's configurations give it.

        Raises:
            Unsupported: it is not known.
        """
        if kind in _SIMPLE:
            return self.node(_SIMPLE[kind], x)
        if kind == "gelu":
            part = self.node("Erf", self.node("Mul", x, self.constant(math.sqrt(0.5))))
        elif kind in ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"):
            cube = self.node("Mul", self.node("Mul", x, x), x)
            inner = self.node("Add", x, self.node("Mul", cube, self.constant(0.044715)))
            part = self.node("Tanh", self.node("Mul", inner, self.constant(math.sqrt(2 / math.pi))))
        elif kind in ("quick_gelu", "silu", "swish"):
            scaled = self.node("Mul", x, self.constant(1.702)) if kind == "quick_gelu" else x
            return self.node("Mul", x, self.node("Sigmoid", scaled))
        else:
            raise Unsupported(f"The activation '{kind}' is not known here.", param="model")
        half = self.node("Mul", x, self.constant(0.5))
        return self.node("Mul", half, self.node("Add", part, self.constant(1.0)))

    def unit(self, x: str) -> str:
        """The vectors along the last axis, brought to length 1."""
        squares = self.node("ReduceSum", self.node("Mul", x, x), self.shape(-1), keepdims=1)
        return self.node("Div", x, self.node("Sqrt", self.node("Add", squares, self.constant(1e-12))))

    def halve(self) -> None:
        """Store what has two axes or more in float16, cast where it is used: half the bytes, computed in float32."""
        casts = []
        for name, array in list(self._weights.items()):
            if array.ndim >= 2 and array.dtype == np.float32:
                small = np.clip(self._weights.pop(name), -65504, 65504).astype(np.float16)
                half = self.weight(f"{name}/half", small)
                casts.append(helper.make_node("Cast", [half], [name], name=f"{name}/cast", to=FLOAT))
        self._nodes[:0] = casts

    def model(self, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
        """The whole as ONNX's own object, checked; for graphs below 2 GiB."""
        model = self._model([numpy_helper.from_array(array, name) for name, array in self._weights.items()], metadata)
        onnx.checker.check_model(model, full_check=True)
        return model

    def save(self, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
        """Write the graph; where the weights are too many for one message, they go into ``<name>.data`` beside it.

        Args:
            path: the .onnx file.
            metadata: kept in the file (metadata_props).
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if sum(array.nbytes for array in self._weights.values()) < _LARGEST:
            path.write_bytes(self.model(metadata).SerializeToString())
            return path
        tensors = []
        with (path.parent / f"{path.name}.data").open("wb") as file:
            for name, array in self._weights.items():
                tensor = TensorProto(
                    name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape
                )
                if array.nbytes < 1024:  # shapes have to be in the graph itself
                    tensor.raw_data = array.tobytes()
                else:
                    file.write(b"\0" * (-file.tell() % 64))
                    tensor.data_location = TensorProto.EXTERNAL
                    facts = {"location": f"{path.name}.data", "offset": file.tell(), "length": array.nbytes}
                    for key, value in facts.items():
                        tensor.external_data.add(key=key, value=str(value))
                    file.write(array.tobytes())
                tensors.append(tensor)
        path.write_bytes(self._model(tensors, metadata).SerializeToString())
        onnx.checker.check_model(str(path))
        return path

    def _model(self, tensors: list[onnx.TensorProto], metadata: Mapping[str, str] | None) -> onnx.ModelProto:
        nodes = []
        for node in self._nodes:
            nodes.append(onnx.NodeProto())
            nodes[-1].CopyFrom(node)
            nodes[-1].input[:] = [self._names.get(one, one) for one in node.input]
            nodes[-1].output[:] = [self._names.get(one, one) for one in node.output]
        graph = helper.make_graph(nodes, self._name, self._inputs, self._outputs, tensors)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="llama-pajamas",
        )
        helper.set_model_props(model, dict(metadata or {}))
        return model


def _shape(value: Any) -> tuple[Size, ...]:
    return tuple(axis.dim_param or int(axis.dim_value) for axis in value.type.tensor_type.shape.dim)


_SIMPLE: Final[Mapping[str, str]] = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "linear": "Identity"}
