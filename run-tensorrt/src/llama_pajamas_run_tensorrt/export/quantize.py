"""INT8 written into the graph: QuantizeLinear and DequantizeLinear around what is to be computed in whole numbers.

That is one way for TensorRT 8.6, 10 and 11. Activations have one scale for the tensor, weights one for each output
channel; in products of stacks of matrices, where TensorRT takes no scales by channel, one for the tensor. The last
layers before the graph's outputs stay as they are: boxes and scores need more than 256 steps.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_tensorrt.export.calibrate import Feeds, activation_ranges
from llama_pajamas_run_tensorrt.export.graph import Surgery, describe, need

_LARGEST: Final = 127.0


def quantized(
    surgery: Surgery,
    feeds: Callable[[], Iterable[Feeds]],
    *,
    tell: Callable[[str, float | None], None] | None = None,
) -> Surgery:
    """The same graph with its convolutions and matrix products in INT8.

    Args:
        surgery: the graph, in FP32.
        feeds: gives the batches to calibrate with; called several times.
        tell: is told how far it is.

    Raises:
        BadInput: there is no batch.
        Unsupported: the graph has nothing to quantize.
    """
    gs = need("onnx_graphsurgeon")
    graph = gs.import_onnx(surgery.model)
    last = _last_layers(graph)
    layers = [node for node in graph.nodes if _weights(node) is not None and id(node) not in last]
    if not layers:
        raise Unsupported("The graph has no layer with weights that INT8 could compute.", param="precision")
    names = list(dict.fromkeys(node.inputs[0].name for node in layers))
    ranges = activation_ranges(surgery.model, names, feeds, tell)
    pairs: dict[str, Any] = {}
    for node in layers:
        source = node.inputs[0]
        if source.name not in pairs:
            pairs[source.name] = _pair(gs, graph, source, np.float32(ranges[source.name] / _LARGEST), None)
        node.inputs[0] = pairs[source.name]
        place = _weights(node)
        assert place is not None
        index, axis = place
        weight = node.inputs[index]
        key = f"{weight.name}/{axis}"
        if key not in pairs:
            pairs[key] = _pair(gs, graph, weight, _scales(weight.values, axis), axis)
        node.inputs[index] = pairs[key]
    graph.cleanup().toposort()
    made = gs.export_onnx(graph)
    made.ir_version = surgery.model.ir_version
    done = (*surgery.changes, f"{len(layers)} layers quantized, {len(last)} before the outputs left as they are")
    return replace(describe(made, done, surgery.metadata), metadata=surgery.metadata)


def _weights(node: Any) -> tuple[int, int | None] | None:
    """Where a layer's constant weights are among its inputs, and along which axis each output has a scale."""
    if len(node.inputs) < 2 or not hasattr(node.inputs[1], "values"):
        return None
    if node.inputs[1].values.dtype != np.float32 or hasattr(node.inputs[0], "values"):
        return None
    if node.op == "Conv":
        return 1, 0
    if node.op == "Gemm":
        return (1, 0) if node.attrs.get("transB", 0) else (1, 1)
    if node.op == "MatMul" and node.inputs[1].values.ndim == 2:
        return 1, None
    return None


def _last_layers(graph: Any) -> set[int]:
    """The layers from which an output is reached without passing another layer with weights."""
    found: set[int] = set()
    seen: set[int] = set()
    waiting = [node for output in graph.outputs for node in output.inputs]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if _weights(node) is not None:
            found.add(id(node))
        else:
            waiting.extend(before for tensor in node.inputs for before in tensor.inputs)
    return found


def _scales(weights: npt.NDArray[Any], axis: int | None) -> npt.NDArray[np.float32]:
    others = None if axis is None else tuple(one for one in range(weights.ndim) if one != axis)
    scales = np.abs(weights).max(axis=others) / _LARGEST
    return np.asarray(np.where(scales > 0, scales, 1.0), np.float32)


def _pair(gs: Any, graph: Any, tensor: Any, scale: Any, axis: int | None) -> Any:
    """QuantizeLinear and DequantizeLinear behind a tensor; what comes out."""
    name = f"{tensor.name}/int8"
    scales = gs.Constant(f"{name}/scale", np.asarray(scale, np.float32))
    zero = gs.Constant(f"{name}/zero", np.zeros(np.shape(scale), np.int8))
    whole = gs.Variable(f"{name}/quantized", np.int8)
    back = gs.Variable(f"{name}/dequantized", np.float32)
    attributes: Mapping[str, int] = {} if axis is None else {"axis": axis}
    for op, inputs, outputs in (
        ("QuantizeLinear", [tensor, scales, zero], [whole]),
        ("DequantizeLinear", [whole, scales, zero], [back]),
    ):
        graph.nodes.append(gs.Node(op, f"{name}/{op}", dict(attributes), inputs, outputs))
    return back
