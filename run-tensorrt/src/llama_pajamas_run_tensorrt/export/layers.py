"""What single layers give in TensorRT beside ONNX Runtime, found with Polygraphy."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt._device import GPU
from llama_pajamas_run_tensorrt._session import Session
from llama_pajamas_run_tensorrt._versions import differences
from llama_pajamas_run_tensorrt.derive import in_precision
from llama_pajamas_run_tensorrt.export.build import Progress, build_engine
from llama_pajamas_run_tensorrt.export.graph import Surgery, describe, need
from llama_pajamas_run_tensorrt.export.options import BuildOptions
from llama_pajamas_run_tensorrt.export.reference import Reference

#: Layers whose outputs are compared; each output that is marked keeps TensorRT from fusing across it.
_MOST: Final = 24
_COMPUTING: Final = ("Conv", "MatMul", "Gemm", "ConvTranspose", "Softmax", "LayerNormalization")


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """One layer's output in both.

    Attributes:
        tensor: its name.
        op: what the layer computes.
        largest: the largest difference, relative to the largest value.
        cosine: of all its values.
    """

    tensor: str
    op: str
    largest: float
    cosine: float

    def __str__(self) -> str:
        return f"{self.op} {self.tensor}: largest difference {self.largest:.2e}, cosine {self.cosine:.6f}"


def compare_layers(
    surgery: Surgery,
    options: BuildOptions,
    gpu: GPU,
    feeds: Mapping[str, npt.NDArray[Any]],
    progress: Progress | None = None,
) -> tuple[LayerDifference, ...]:
    """Build an engine that gives the outputs of its layers as well, and compare them with ONNX Runtime's.

    The layers are those that compute most, spread over the graph, and Polygraphy marks their outputs. The engine is run
    by our session, because Polygraphy's runner crashes with some bindings.

    Args:
        surgery: the graph, in FP32.
        options: how the engine is built; INT8 is compared in FP16, because its scales belong to whole graphs.
        gpu: where.
        feeds: what to run it on.
        progress: is told how far it is.

    Raises:
        LoadError, OutOfMemory: as building raises them.
        Unsupported: the graph has no such layer.
    """
    known = {one.name for one in need("onnx").shape_inference.infer_shapes(surgery.model).graph.value_info}
    layers = [node for node in surgery.model.graph.node if node.op_type in _COMPUTING and node.output[0] in known]
    if not layers:
        raise Unsupported("The graph has no layer to compare.")
    step = max(len(layers) / _MOST, 1.0)
    chosen = [layers[int(index * step)] for index in range(min(_MOST, len(layers)))]
    ops = {node.output[0]: node.op_type for node in chosen}
    marked = _marked(surgery, list(ops))
    options = replace(options, precision="fp16" if options.precision == "int8" else options.precision)
    table = differences(_sdk.version())
    with tempfile.TemporaryDirectory(prefix="llama-pajamas-") as folder:
        engine = Path(folder) / "layers.engine"
        build_engine(
            in_precision(marked, options, table), engine, options, gpu, source="the marked graph", source_sha256="",
            progress=progress,
        )  # fmt: skip
        with Session(engine, device=gpu.index, graphs=False) as session:
            made = session.infer(feeds)
    wanted = Reference(marked.model).run(feeds)
    return tuple(_difference(name, op, wanted[name], made[name]) for name, op in ops.items())


def _marked(surgery: Surgery, names: list[str]) -> Surgery:
    """The graph with more outputs, marked by Polygraphy."""
    modify = need("polygraphy.backend.onnx")
    outputs = [one.name for one in surgery.outputs]
    inferred = need("onnx").shape_inference.infer_shapes(surgery.model)
    marked = modify.modify_outputs(inferred, outputs=list(dict.fromkeys([*outputs, *names])), copy=True)
    types = {one.name: one.type for one in (*inferred.graph.value_info, *surgery.model.graph.output)}
    for one in marked.graph.output:
        if one.name in types:
            one.type.CopyFrom(types[one.name])
    return describe(marked, surgery.changes, surgery.metadata)


def _difference(name: str, op: str, wanted: npt.NDArray[Any], made: npt.NDArray[Any]) -> LayerDifference:
    one, other = (np.asarray(array, np.float64).reshape(-1) for array in (wanted, made))
    scale = float(np.abs(one).max(initial=0.0)) or 1.0
    length = float(np.linalg.norm(one) * np.linalg.norm(other)) or 1.0
    return LayerDifference(name, op, float(np.abs(one - other).max(initial=0.0)) / scale, float(one @ other / length))
