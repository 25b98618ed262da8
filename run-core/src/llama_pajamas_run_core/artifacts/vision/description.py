"""What describes a vision model: its own configuration, Hugging Face's, or the metadata inside the graph."""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from llama_pajamas_run_core.artifacts.vision.graph import VisionGraph, section
from llama_pajamas_run_core.errors import LoadError, Unsupported
from llama_pajamas_run_core.types.vision import Head, VisionSpec

Resize = Literal["letterbox", "stretch", "crop"]
Purpose = Literal["detect", "segment", "classify", "embed"]
Triple = tuple[float, float, float]

#: The words for a task in configurations and metadata.
_TASKS: Final[Mapping[str, Purpose]] = {
    "detect": "detect",
    "detection": "detect",
    "segment": "segment",
    "segmentation": "segment",
    "pose": "detect",  # a YOLO model that also gives joints: its boxes are read
    "classify": "classify",
    "classification": "classify",
    "embed": "embed",
    "embedding": "embed",
}
RESIZES: Final[Mapping[str, Resize]] = {
    "letterbox": "letterbox", "stretch": "stretch", "crop": "crop", "center-crop": "crop",
}  # fmt: skip
#: The key in a graph's metadata under which a description stands that :func:`as_config` made, as JSON.
DESCRIPTION: Final = "llama_pajamas"
HEADS: Final[tuple[Head, ...]] = get_args(Head)


@dataclass(slots=True)
class Facts:
    """What is known about a model; None where nothing tells. The attributes are those of a VisionSpec."""

    task: Purpose | None = None
    labels: tuple[str, ...] | None = None
    size: tuple[int, int] | None = None
    resize: Resize | None = None
    mean: Triple | None = None
    std: Triple | None = None
    head: Head | None = None
    crop: float = 1.0


def described(graph: VisionGraph) -> Facts:
    """What the files and the graph's metadata tell.

    Raises:
        LoadError: a description is damaged.
        Unsupported: a kind of model that is not understood.
    """
    if isinstance(graph.config.get("input"), dict):
        return _from_config(graph)
    if "model_type" in graph.config or "architectures" in graph.config:
        try:
            return _from_hugging_face(graph)
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
            raise LoadError(f"The configuration beside {graph.path} is damaged: {error}.") from error
    if DESCRIPTION in graph.metadata:
        return _from_metadata(graph)
    if "names" in graph.metadata:
        return _from_ultralytics(graph)
    return Facts()


def as_config(spec: VisionSpec) -> dict[str, Any]:
    """How a model is used, in the words of the project's own config.json, from which the same spec is read again.

    For what is derived from a model, an engine for one, and has to be understood where the model is not.
    """
    return {
        "task": next(task for task in ("segment", "detect", "classify", "embed") if task in spec.tasks),
        "head": spec.head,
        "labels": list(spec.labels),
        "input": {
            "width": spec.width,
            "height": spec.height,
            "resize": spec.resize,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "crop": spec.crop,
        },
    }


def _from_metadata(graph: VisionGraph) -> Facts:
    """The same description inside the file."""
    told = graph.metadata[DESCRIPTION]
    try:
        config = json.loads(told) if isinstance(told, str) else told
        if not isinstance(config["input"], dict):
            raise ValueError("its input is no object")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LoadError(f"The description in {graph.path} is damaged: {error}.") from error
    return _from_config(replace(graph, config=config))


def _from_config(graph: VisionGraph) -> Facts:
    """The project's own description, as the starter models have it."""
    config, given = graph.config, graph.config["input"]
    try:
        return Facts(
            task=_TASKS[config["task"]],
            labels=tuple(str(label) for label in config.get("labels", ())),
            size=(int(given["width"]), int(given["height"])),
            resize=RESIZES[given["resize"]],
            mean=triple("mean", given["mean"]),
            std=triple("std", given["std"]),
            head=head_name(config["head"]),
            crop=part(given.get("crop", 1.0)),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise LoadError(f"The config.json beside {graph.path} lacks or misstates {error}.") from error


def _from_ultralytics(graph: VisionGraph) -> Facts:
    """https://docs.ultralytics.com/modes/export: names, task, imgsz and args as Python literals."""
    try:
        metadata = {key: _literal(value) for key, value in graph.metadata.items()}
        task = metadata.get("task", "detect")
        if task not in _TASKS:
            raise Unsupported(
                f"{graph.path} is a YOLO model for the task '{task}'.",
                hint="Supported: detect, segment, pose, classify.",
            )
        names = metadata["names"]
        named = [str(names[key]) for key in sorted(names, key=int)] if isinstance(names, dict) else map(str, names)
        labels = tuple(named)
        size = metadata.get("imgsz") or None
        height, width = (size, size) if size is None or isinstance(size, int) else (int(side) for side in size)
    except (TypeError, ValueError, OverflowError) as error:
        raise LoadError(f"The metadata in {graph.path} is damaged: {error}.") from error
    kind = _TASKS[task]
    facts = Facts(task=kind, labels=labels, size=(width, height) if width and height else None)
    facts.mean, facts.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if kind == "classify":
        facts.resize, facts.head = "crop", "probabilities"
    else:
        facts.resize = "letterbox"
    return facts


def _literal(text: Any) -> Any:
    if not isinstance(text, str):
        return text  # an engine's metadata are JSON
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _from_hugging_face(graph: VisionGraph) -> Facts:
    """config.json and preprocessor_config.json of the transformers library."""
    config, prepare = graph.config, graph.preprocessor
    architecture = (config.get("architectures") or [""])[0] or ""
    outputs = {output.name for output in graph.outputs}
    if "pred_boxes" in outputs or "ObjectDetection" in architecture or "Segmentation" in architecture:
        raise Unsupported(
            f"{graph.path} is a {architecture or config.get('model_type')}, whose outputs are not read here.",
            hint="Detectors in YOLO's layout are.",
            param="model",
        )
    facts = Facts()
    if "logits" in outputs and "vision_config" not in config:
        facts.task, facts.head = "classify", "logits"
        names = config.get("id2label") or {}
        facts.labels = tuple(str(names[key]) for key in sorted(names, key=int))
    else:
        facts.task, facts.head, facts.labels = "embed", "embedding", ()
    size, crop = _side(prepare.get("size")), _side(prepare.get("crop_size"))
    cropped = bool(prepare.get("do_center_crop")) and crop is not None
    vision = section(config, "vision_config") or config
    facts.size = (crop if cropped else size) or _side(vision.get("image_size"))
    facts.resize = "crop" if cropped or "shortest_edge" in section(prepare, "size") else "stretch"
    facts.crop = _kept(prepare, size, crop if cropped else None)
    if prepare.get("do_normalize", bool(prepare)):
        facts.mean = triple("image_mean", prepare["image_mean"]) if "image_mean" in prepare else None
        facts.std = triple("image_std", prepare["image_std"]) if "image_std" in prepare else None
    elif prepare:
        facts.mean, facts.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return facts


def _kept(prepare: Mapping[str, Any], size: tuple[int, int] | None, crop: tuple[int, int] | None) -> float:
    """Which part of the shorter side a crop keeps."""
    if crop is not None and size is not None and "shortest_edge" in section(prepare, "size"):
        return min(1.0, min(crop) / size[0])
    if "crop_pct" in prepare and size is not None and size[0] < 384:  # as ConvNeXT's image processor does
        return part(prepare["crop_pct"])
    return 1.0


def _side(value: Any) -> tuple[int, int] | None:
    """Width and height from one of Hugging Face's ways of telling a size."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, dict):
        if "width" in value and "height" in value:
            return int(value["width"]), int(value["height"])
        if "shortest_edge" in value:
            return int(value["shortest_edge"]), int(value["shortest_edge"])
    return None


def triple(name: str, value: Any) -> Triple:
    """Three numbers for the channels, from one or three. ValueError where they are none."""
    values = [float(value)] * 3 if isinstance(value, int | float) else [float(one) for one in value]
    if len(values) == 1:
        values *= 3
    if len(values) != 3 or (name.endswith("std") and min(values) <= 0):
        raise ValueError(f"{name} must be three numbers{' above 0' if name.endswith('std') else ''}, not {value}")
    return values[0], values[1], values[2]


def part(value: Any) -> float:
    """A number above 0 and up to 1. ValueError where it is none."""
    number = float(value)
    if not 0 < number <= 1:
        raise ValueError(f"crop must be above 0 and at most 1, not {value}")
    return number


def head_name(value: str) -> Head:
    """A head by its name. ValueError where there is none of that name."""
    if value not in HEADS:
        raise ValueError(f"head must be one of {', '.join(HEADS)}, not '{value}'")
    return value
