"""How a vision graph is used, in the words of the project's own config.json, for the sidecar of its engine."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llama_pajamas_run_core.artifacts.vision.description import as_config
from llama_pajamas_run_core.artifacts.vision.files import VisionFiles, find_files
from llama_pajamas_run_core.artifacts.vision.graph import Tensor, VisionGraph
from llama_pajamas_run_core.artifacts.vision.spec import Options, Reading, read_spec
from llama_pajamas_run_core.errors import BadInput, Unsupported
from llama_pajamas_run_tensorrt.export.graph import GraphTensor, Surgery
from llama_pajamas_run_tensorrt.export.options import DEFAULT_BATCH, BuildOptions


def vision_reading(graph: Path, surgery: Surgery, options: Options | None = None) -> Reading | None:
    """How the graph of a vision model is used.

    Args:
        graph: the ONNX file; what lies beside it is read as well.
        surgery: what it takes and gives.
        options: what the caller says about it.

    Returns:
        None where nothing tells, or it is no vision model.

    Raises:
        LoadError: a file that describes it is damaged.
    """
    try:
        files = find_files(graph)
        if files.image.resolve() != graph.resolve() and graph.stem.startswith("text"):
            return None
        return read_spec(_vision_graph(graph, files, surgery), options or Options())
    except (BadInput, Unsupported):
        return None


def description_of(reading: Reading | None) -> dict[str, Any]:
    """The same as a config.json of the project has it; empty where nothing is known."""
    if reading is None:
        return {}
    return as_config(reading.spec)


def with_image_size(options: BuildOptions, inputs: Sequence[GraphTensor], reading: Reading) -> BuildOptions:
    """The same options, with the model's own size of images where its graph leaves that free.

    Args:
        options: how an engine is to be built.
        inputs: the graph's.
        reading: how it is used.
    """
    one = next(tensor for tensor in inputs if tensor.name == reading.pixels.name)
    free = any(not isinstance(size, int) for size in one.shape[1:])
    if one.name in options.shapes or len(one.shape) != 4 or not free:
        return options
    spec, own = reading.spec, one.shape[0]
    sizes = (spec.height, spec.width, 3) if reading.channels_last else (3, spec.height, spec.width)
    rows = options.batch or ((own, own, own) if isinstance(own, int) else DEFAULT_BATCH)
    low, best, high = ((row, *sizes) for row in rows)
    return replace(options, shapes={**options.shapes, one.name: (low, best, high)})


def _vision_graph(graph: Path, files: VisionFiles, surgery: Surgery) -> VisionGraph:
    def tensors(given: tuple[GraphTensor, ...]) -> tuple[Tensor, ...]:
        return tuple(Tensor(one.name, one.shape, np.dtype(one.dtype).type) for one in given)

    metadata: Mapping[str, Any] = surgery.metadata
    return VisionGraph(
        graph, tensors(surgery.inputs), tensors(surgery.outputs), metadata, files.config, files.preprocessor
    )
