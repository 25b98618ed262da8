"""Surgery on ONNX graphs before TensorRT reads them: constants folded, a free batch, heads told and cut."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.onnx import check_onnx
from llama_pajamas_run_core.errors import BadInput, LoadError, MissingDependency, Unsupported
from llama_pajamas_run_tensorrt._versions import Differences
from llama_pajamas_run_tensorrt.engine_file import checksum
from llama_pajamas_run_tensorrt.export.options import Range
from llama_pajamas_run_tensorrt.runtime import INSTALL

if TYPE_CHECKING:
    import onnx

logger = logging.getLogger(__name__)

#: A protobuf message cannot be larger.
_LARGEST: Final = (2 << 30) - 1
#: Height and width of images to try a graph with that leaves them free: what networks halve a few times.
_IMAGE: Final = 64
_DEFAULT_DOMAINS: Final = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """An input or output of a graph.

    Attributes:
        name: its name.
        shape: its sizes; the graph's own word, or None, where a size is free.
        dtype: NumPy's name of the element type.
        head: for an output, what it looks like: "yolov8", "nms", "masks", "logits", "embedding", or "".
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str
    head: str = ""


@dataclass(frozen=True, slots=True)
class Surgery:
    """A graph that was prepared.

    Attributes:
        model: it, without external data.
        inputs: what it takes.
        outputs: what it gives.
        changes: what was done, for people.
        metadata: the graph's own metadata.
    """

    model: "onnx.ModelProto"
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    changes: tuple[str, ...]
    metadata: Mapping[str, str]


def need(module: str) -> Any:
    """A package that exporting needs.

    Raises:
        MissingDependency: it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise MissingDependency("Exporting to TensorRT", package=package, install=INSTALL) from error


def source_checksum(path: Path) -> str:
    """The checksum of a graph with the files of its weights."""
    return checksum(path, *sorted(check_onnx(path).external))


def load(path: Path) -> "onnx.ModelProto":
    """Read a graph with its weights.

    Raises:
        BadInput: there is no such file, or it is no ONNX file.
        LoadError: it is damaged.
    """
    package = need("onnx")
    check_onnx(path)
    try:
        return cast("onnx.ModelProto", package.load(path))
    except Exception as error:  # protobuf's errors share no base below Exception
        raise LoadError(f"{path} could not be read: {' '.join(str(error).split())[:300]}.") from error


def prepare(
    path: Path,
    table: Differences,
    *,
    outputs: Sequence[str] = (),
    batch: Range | None = None,
    shapes: Mapping[str, Sequence[Sequence[int]]] | None = None,
) -> Surgery:
    """Read a graph and make it ready for TensorRT.

    Args:
        path: the ONNX file.
        table: what the TensorRT that is to read it wants.
        outputs: the outputs that are kept; all if empty.
        batch: the sizes that the first axis is to take; one that the graph fixes to another becomes free. None leaves
            it as it is.
        shapes: for inputs by name their smallest, best and largest shape, as far as they are given: a graph whose batch
            became free is tried in the best.

    Raises:
        BadInput: there is no such file or output.
        LoadError: it is damaged.
        Unsupported: its opset is too new, or its batch cannot be made free.
    """
    model = load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    changes: list[str] = []
    model = _with_opset(model, table.opset, path, changes)
    if outputs:
        model = _cut(model, outputs, path, changes)
    if batch is not None:
        model = _free_batch(model, batch, shapes or {}, path, changes)
    model = _folded(model, changes)
    return describe(model, changes, metadata)


def describe(model: "onnx.ModelProto", changes: Sequence[str], metadata: Mapping[str, str]) -> Surgery:
    """A graph with what it takes and gives."""
    weights = {one.name for one in model.graph.initializer}
    inputs = tuple(_tensor(one) for one in model.graph.input if one.name not in weights)
    outputs = tuple(_tensor(one) for one in model.graph.output)
    rows = [_with_head(one, outputs) for one in outputs]
    return Surgery(model, inputs, tuple(rows), tuple(changes), metadata)


def serialized(model: "onnx.ModelProto") -> bytes:
    """A graph as bytes.

    Raises:
        Unsupported: it is larger than an ONNX message can be.
    """
    size = model.ByteSize()
    if size > _LARGEST:
        raise Unsupported(
            f"The graph has {size:,} bytes with its weights, more than the {_LARGEST:,} that TensorRT's parser takes "
            "as one message."
        )
    return bytes(model.SerializeToString())


def _with_opset(model: "onnx.ModelProto", newest: int, path: Path, changes: list[str]) -> "onnx.ModelProto":
    opset = max((one.version for one in model.opset_import if one.domain in _DEFAULT_DOMAINS), default=0)
    if opset <= newest:
        return model
    converter = need("onnx.version_converter")
    try:
        converted = cast("onnx.ModelProto", converter.convert_version(model, newest))
    except Exception as error:
        raise Unsupported(
            f"{path} has opset {opset}, this TensorRT reads up to {newest}, and it cannot be converted: "
            f"{' '.join(str(error).split())[:200]}.",
            hint=f"Export the model with opset {newest}, or use a newer TensorRT.",
        ) from error
    changes.append(f"opset {opset} converted to {newest}")
    return converted


def _cut(model: "onnx.ModelProto", names: Sequence[str], path: Path, changes: list[str]) -> "onnx.ModelProto":
    gs = need("onnx_graphsurgeon")
    graph = gs.import_onnx(model)
    tensors = graph.tensors()
    if unknown := [name for name in names if name not in tensors]:
        have = ", ".join(one.name for one in graph.outputs)
        raise BadInput(f"{path} has no tensor '{unknown[0]}'; its outputs are {have}.", param="outputs")
    before = [one.name for one in graph.outputs]
    graph.outputs = [tensors[name] for name in names]
    for one in graph.outputs:
        if one.dtype is None:
            one.dtype = np.float32
    graph.cleanup().toposort()
    changes.append(f"outputs {', '.join(before)} cut to {', '.join(names)}")
    return _exported(gs, graph, model)


def _folded(model: "onnx.ModelProto", changes: list[str]) -> "onnx.ModelProto":
    """Compute what does not depend on any input, and drop what nothing needs."""
    gs = need("onnx_graphsurgeon")
    graph = gs.import_onnx(model)
    before = len(graph.nodes)
    _quietly(graph)
    graph.cleanup().toposort()
    if len(graph.nodes) == before:
        return model
    changes.append(f"{before - len(graph.nodes)} of {before} nodes folded")
    return _exported(gs, graph, model)


def _quietly(graph: Any) -> None:
    try:
        graph.fold_constants(error_ok=True)
    except Exception as error:  # folding only makes the graph smaller
        logger.warning("constants are left to TensorRT: %s", error)


def _exported(gs: Any, graph: Any, model: "onnx.ModelProto") -> "onnx.ModelProto":
    made = cast("onnx.ModelProto", gs.export_onnx(graph))
    made.ir_version = model.ir_version
    del made.metadata_props[:]
    made.metadata_props.extend(model.metadata_props)
    return made


def _free_batch(
    model: "onnx.ModelProto",
    wanted: Range,
    shapes: Mapping[str, Sequence[Sequence[int]]],
    path: Path,
    changes: list[str],
) -> "onnx.ModelProto":
    """Let every input have any number of rows where the graph fixes it to another than is wanted.

    Raises:
        Unsupported: some layer needs just that number.
    """
    numpy_helper = need("onnx.numpy_helper")
    weights = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    fixed = {
        one.type.tensor_type.shape.dim[0].dim_value for one in inputs
        if one.type.tensor_type.shape.dim and one.type.tensor_type.shape.dim[0].HasField("dim_value")
    }  # fmt: skip
    if not fixed or fixed == set(wanted):
        return model
    if len(fixed) > 1:
        raise Unsupported(f"{path} has inputs of different fixed batches: {sorted(fixed)}.", param="batch")
    (batch,) = fixed
    freed = type(model)()
    freed.CopyFrom(model)
    known = _inferred(model)
    for one in (*freed.graph.input, *freed.graph.output):
        sizes = one.type.tensor_type.shape.dim
        if one.name not in weights and sizes and sizes[0].dim_value == batch:
            sizes[0].dim_param = "batch"
    del freed.graph.value_info[:]
    constants = _constants(freed)
    rewritten = 0
    for node in freed.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        target = constants[node.input[1]].copy()
        source = known.get(node.input[0])
        if target.size and target[0] == batch and source and source[0] == batch:
            target[0] = 0  # as many as there are
            name = f"{node.input[1]}_any_batch"
            if name not in constants:
                freed.graph.initializer.append(numpy_helper.from_array(target, name))
                constants[name] = target
            node.input[1] = name
            rewritten += 1
    tried = {one.name: _tried(one, batch, shapes.get(one.name)) for one in inputs}
    _check_free(model, freed, tried, batch, path)
    changes.append(f"the batch of {batch} made free" + (f", {rewritten} reshapes rewritten" if rewritten else ""))
    return freed


def _tried(one: Any, batch: int, given: Sequence[Sequence[int]] | None) -> npt.NDArray[Any]:
    """Made-up values of an input for twice the batch."""
    kind = need("onnx").helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type)
    sizes = [size.dim_value for size in one.type.tensor_type.shape.dim[1:]]
    unknown = _IMAGE if len(sizes) == 3 else 1
    best = list(given[1][1:]) if given is not None else [size or unknown for size in sizes]
    shape = (2 * batch, *best)
    values = np.random.default_rng(0).random(shape) if kind.kind == "f" else np.ones(shape)
    made: npt.NDArray[Any] = values.astype(kind)
    return made


def _check_free(model: Any, freed: Any, feeds: Mapping[str, npt.NDArray[Any]], batch: int, path: Path) -> None:
    """See that a graph whose batch was freed gives the same row by row."""
    runtime = need("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        whole = runtime.InferenceSession(freed.SerializeToString(), options).run(None, feeds)
        session = runtime.InferenceSession(model.SerializeToString(), options)
        halves = [session.run(None, {name: array[at : at + batch] for name, array in feeds.items()})
                  for at in (0, batch)]  # fmt: skip
        for together, *apart in zip(whole, *halves, strict=True):
            joined = np.concatenate(apart)
            close = together.shape == joined.shape and np.allclose(together, joined, rtol=1e-3, atol=1e-4)
            if not close:
                raise Unsupported(
                    f"{path} is made for a batch of {batch}: with more its rows are not what they are alone.",
                    hint="Export the model with a dynamic batch.",
                    param="batch",
                )
    except Unsupported:
        raise
    except Exception as error:  # ONNX Runtime's errors share no base below Exception
        raise Unsupported(
            f"{path} is made for a batch of {batch} and takes no other: {' '.join(str(error).split())[:300]}.",
            hint="Export the model with a dynamic batch.",
            param="batch",
        ) from error


def _constants(model: Any) -> dict[str, Any]:
    onnx = need("onnx")
    found = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = onnx.numpy_helper.to_array(attribute.t)
    return found


def _inferred(model: Any) -> dict[str, list[int | None]]:
    onnx = need("onnx")
    made = onnx.shape_inference.infer_shapes(model)
    values = (*made.graph.value_info, *made.graph.input, *made.graph.output)
    return {
        one.name: [size.dim_value if size.HasField("dim_value") else None for size in one.type.tensor_type.shape.dim]
        for one in values
    }


def _tensor(value: Any) -> GraphTensor:
    onnx = need("onnx")
    sizes: list[int | str | None] = [
        size.dim_value if size.HasField("dim_value") else (size.dim_param or None)
        for size in value.type.tensor_type.shape.dim
    ]
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)).name
    return GraphTensor(value.name, tuple(sizes), kind)


def _with_head(one: GraphTensor, outputs: Sequence[GraphTensor]) -> GraphTensor:
    """The same output with what it looks like."""
    shape = one.shape
    head = ""
    if len(shape) == 3:
        last, rows = shape[2], shape[1]
        if last == 6 and (rows is None or isinstance(rows, str) or rows > 6):
            head = "nms"
        elif isinstance(last, int) and isinstance(rows, int) and max(last, rows) > min(last, rows) > 4:
            head = "yolov8"
    elif len(shape) == 4 and any(len(other.shape) == 3 for other in outputs):
        head = "masks"
    elif len(shape) == 2:
        head = "embedding" if "embed" in one.name or "pool" in one.name else "logits"
    return GraphTensor(one.name, shape, one.dtype, head)
