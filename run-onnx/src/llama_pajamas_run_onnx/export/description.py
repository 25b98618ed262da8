"""The last steps of every export of a vision model: what describes it, and its files."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from llama_pajamas_run_core.artifacts.vision.description import DESCRIPTION, as_config
from llama_pajamas_run_core.artifacts.vision.graph import Tensor, VisionGraph, section
from llama_pajamas_run_core.artifacts.vision.spec import Options, read_spec
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_onnx.export.checkpoint import Checkpoint
from llama_pajamas_run_onnx.export.graph import Graph

#: Files of a checkpoint that go along as they are.
_KEPT: Final = ("config.json", "tokenizer.json", "tokenizer_config.json")
#: The graph that takes images, where there are two.
_IMAGE: Final = ("model", "vision_model")


def finish(checkpoint: Checkpoint, folder: Path, graphs: Mapping[str, Graph], precision: str) -> None:
    """Write the graphs, and beside them what the checkpoint says about them.

    The graph that takes images also holds its description (task, labels, size, normalization) in its metadata, so that
    it can be used without the other files.

    Args:
        checkpoint: where they come from.
        folder: where to.
        graphs: by the names of the files.
        precision: "fp32" or "fp16", what weights are stored in.
    """
    for name, graph in graphs.items():
        if precision == "fp16":
            graph.halve()
        graph.save(folder / f"{name}.onnx", _metadata(checkpoint, graph, name))
    for name in _KEPT:
        if (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, folder / name)
    if checkpoint.preprocessor:
        text = json.dumps(dict(checkpoint.preprocessor), indent=2) + "\n"
        (folder / "preprocessor_config.json").write_text(text, "utf-8")


def _metadata(checkpoint: Checkpoint, graph: Graph, name: str) -> dict[str, str]:
    told = {"model_type": str(checkpoint.config.get("model_type", "")), "architecture": checkpoint.architecture}
    if name not in _IMAGE:
        return told

    def tensors(declared: Mapping[str, tuple[int | str, ...]]) -> tuple[Tensor, ...]:
        return tuple(Tensor(name, shape, np.float32) for name, shape in declared.items())

    described = VisionGraph(
        checkpoint.folder,
        tensors(graph.inputs),
        tensors(graph.outputs),
        config=checkpoint.config,
        preprocessor=checkpoint.preprocessor,
    )
    try:
        spec = read_spec(described, Options()).spec
    except BadInput:  # without a preprocessor_config.json nothing tells the normalization
        return told
    config = as_config(spec)
    return {**told, "task": str(config["task"]), DESCRIPTION: json.dumps(config)}


def image_size(checkpoint: Checkpoint) -> tuple[int, int] | None:
    """Height and width that a checkpoint's images are brought to; None where nothing tells."""
    prepare = checkpoint.preprocessor
    cropped = prepare.get("crop_size") if prepare.get("do_center_crop") else None
    for value in (cropped, prepare.get("size"), checkpoint.config.get("image_size")):
        if isinstance(value, int):
            return value, value
    size = section(prepare, "crop_size") if cropped else section(prepare, "size")
    if "height" in size and "width" in size:
        return int(size["height"]), int(size["width"])
    if "shortest_edge" in size:
        return int(size["shortest_edge"]), int(size["shortest_edge"])
    return None
