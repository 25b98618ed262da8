"""Half precision written into the graph itself: what TensorRT 11 wants, where the types decide and no flag does.

Inputs and outputs stay as they are. Layers that add up many values, or whose values pass what half precision holds,
stay in FP32, with casts around them.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np

from llama_pajamas_run_tensorrt.export.graph import Surgery, need

#: Layers that stay in FP32.
_KEPT: Final = frozenset({
    "LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization", "LpNormalization",
    "ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceProd", "CumSum", "Pow", "Exp", "Log", "Reciprocal", "TopK", "NonMaxSuppression", "Range", "QuantizeLinear",
    "DequantizeLinear", "If", "Loop", "Scan", "RandomNormal", "RandomUniform",
})  # fmt: skip
#: Inputs, by their place, that are FP32 whatever the layer computes in.
_FLOAT_INPUTS: Final = {"Resize": (1, 2)}
_LARGEST: Final = float(np.finfo(np.float16).max)


def halved(surgery: Surgery) -> Surgery:
    """The same graph, computing in FP16 where that is safe."""
    onnx = need("onnx")
    model = type(surgery.model)()
    model.CopyFrom(surgery.model)
    work = _Halving(onnx, model)
    work.run()
    return replace(surgery, model=model, changes=(*surgery.changes, f"{work.count} layers in half precision"))


class _Halving:
    """One graph on its way to half precision."""

    def __init__(self, onnx: Any, model: Any) -> None:
        self.onnx, self.graph = onnx, model.graph
        self.float, self.half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self.floats = {
            one.name for one in (*inferred.value_info, *inferred.input, *inferred.output)
            if one.type.tensor_type.elem_type == self.float
        }  # fmt: skip
        self.weights = {one.name: one for one in self.graph.initializer if one.data_type == self.float}
        self.floats |= set(self.weights)
        self.halves: set[str] = set()  # tensors of the original graph that are now FP16
        self.casts: dict[tuple[str, int], str] = {}
        self.nodes: list[Any] = []
        self.count = 0

    def run(self) -> None:
        """Rewrite the graph in place."""
        outputs = {one.name for one in self.graph.output}
        for node in self.graph.node:
            self._node(node, outputs)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        del self.graph.value_info[:]
        used = {name for node in self.nodes for name in node.input} | outputs
        kept = [one for one in self.graph.initializer if one.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _node(self, node: Any, outputs: set[str]) -> None:
        floats = [name for name in (*node.input, *node.output) if name in self.floats]
        halve = node.op_type not in _KEPT and bool(floats) and node.domain in ("", "ai.onnx")
        self.count += halve
        made = type(node)()
        made.CopyFrom(node)
        stays = _FLOAT_INPUTS.get(node.op_type, ())
        for place, name in enumerate(node.input):
            if name in self.floats:
                made.input[place] = self._as(name, self.half if halve and place not in stays else self.float)
        if not halve:
            self.nodes.append(made)
            return
        self._attributes(made)
        finals = []
        for place, name in enumerate(node.output):
            if name not in self.floats:
                continue
            if name in outputs:  # an output keeps its type
                made.output[place] = f"{name}_half"
                self.casts[name, self.half] = made.output[place]
                finals.append(self._cast(made.output[place], name, self.float))
            else:
                self.halves.add(name)
        self.nodes.append(made)
        self.nodes.extend(finals)

    def _attributes(self, node: Any) -> None:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == self.float:
                attribute.i = self.half
            elif attribute.HasField("t") and attribute.t.data_type == self.float:
                attribute.t.CopyFrom(self._narrow(attribute.t, attribute.t.name))

    def _as(self, name: str, kind: int) -> str:
        """The name under which a tensor is to be had in a type."""
        if (kind == self.half) == (name in self.halves):
            return name
        if (name, kind) not in self.casts:
            made = f"{name}_{'half' if kind == self.half else 'float'}"
            if name in self.weights and kind == self.half:
                self.graph.initializer.append(self._narrow(self.weights[name], made))
            else:
                self.nodes.append(self._cast(name, made, kind))
            self.casts[name, kind] = made
        return self.casts[name, kind]

    def _cast(self, name: str, into: str, kind: int) -> Any:
        return self.onnx.helper.make_node("Cast", [name], [into], name=f"{into}/cast", to=kind)

    def _narrow(self, tensor: Any, name: str) -> Any:
        values = self.onnx.numpy_helper.to_array(tensor)
        return self.onnx.numpy_helper.from_array(np.clip(values, -_LARGEST, _LARGEST).astype(np.float16), name)
