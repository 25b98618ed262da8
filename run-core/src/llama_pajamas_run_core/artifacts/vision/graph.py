"""A vision model as it presents itself, and the arrangement of its outputs that its kind is told by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llama_pajamas_run_core.types.vision import Head


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model.

    Attributes:
        name: its name.
        shape: its sizes; a string, None or a negative number where a size is free.
        dtype: the element type, or None for one that is no number.
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: type[np.generic] | None

    def size(self, axis: int) -> int | None:
        """The size along an axis, or None where it is free or there is no such axis."""
        if not -len(self.shape) <= axis < len(self.shape):
            return None
        value = self.shape[axis]
        return value if isinstance(value, int) and value > 0 else None

    @property
    def floats(self) -> bool:
        """Whether its elements are floating-point numbers."""
        return self.dtype is not None and issubclass(self.dtype, np.floating)


@dataclass(frozen=True, slots=True)
class VisionGraph:
    """What is known of a model before anything tells what it is for.

    Attributes:
        path: its file, for messages.
        inputs: in the model's order.
        outputs: in the model's order.
        metadata: what stands in the file itself; Ultralytics puts names, task and image size there,
            as Python literals or as values.
        config: config.json beside it, the project's own or Hugging Face's; empty where there is none.
        preprocessor: Hugging Face's preprocessor_config.json, empty where there is none.
    """

    path: Path
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)


def section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object inside a configuration; an empty one where there is none."""
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def detector_outputs(outputs: Sequence[Tensor]) -> tuple[Head, tuple[int, ...]] | None:
    """Tell a detector's head from its outputs.

    Args:
        outputs: all that the model gives.

    Returns:
        the head, and the indices of its outputs in the order in which they are read
        (:func:`~llama_pajamas_run_core.dsp.heads.read_candidates`); None where they are no detector's.
    """
    lists = _lists(outputs)
    if lists is not None:
        return lists
    masks = _masks(outputs)
    if masks is not None:
        return masks
    tables = [index for index, output in enumerate(outputs) if len(output.shape) == 3]
    if not tables:
        return None
    first = outputs[tables[0]]
    rows = first.size(-2)
    end_to_end = first.size(-1) == 6 and (rows is None or rows > 6)
    return ("nms" if end_to_end else "yolov8"), (tables[0],)


def _masks(outputs: Sequence[Tensor]) -> tuple[Head, tuple[int, ...]] | None:
    """A table of boxes with coefficients [n, channels, places], and prototypes [n, m, height, width]."""
    tables = [index for index, output in enumerate(outputs) if len(output.shape) == 3 and output.floats]
    planes = [index for index, output in enumerate(outputs) if len(output.shape) == 4 and output.floats]
    if not tables or len(planes) != 1:
        return None
    table, prototypes = outputs[tables[0]], outputs[planes[0]]
    weights, rows = prototypes.size(1), table.size(-2)
    end_to_end = weights is not None and table.size(-1) == 6 + weights and (rows is None or rows > 6 + weights)
    return ("nms-seg" if end_to_end else "yolov8-seg"), (tables[0], planes[0])


def _lists(outputs: Sequence[Tensor]) -> tuple[Head, tuple[int, ...]] | None:
    """Boxes, labels and scores in outputs of their own, with or without how many count."""
    boxes = [index for index, output in enumerate(outputs) if output.size(-1) == 4 and len(output.shape) in (2, 3)]
    if not boxes:
        return None
    flat = [index for index, output in enumerate(outputs) if len(output.shape) == len(outputs[boxes[0]].shape) - 1]
    counts = [index for index, output in enumerate(outputs) if _counts(output)]
    rest = [index for index in flat if index not in counts]
    labels = [index for index in rest if not outputs[index].floats or _named(outputs[index], ("class", "label"))]
    scores = [index for index in rest if index not in labels]
    if len(labels) != 1 or len(scores) != 1:
        return None
    if counts:
        return "efficient-nms", (counts[0], boxes[0], scores[0], labels[0])
    return "boxes", (boxes[0], labels[0], scores[0])


def _counts(output: Tensor) -> bool:
    return not output.floats and (_named(output, ("num",)) or (len(output.shape) == 2 and output.size(1) == 1))


def _named(output: Tensor, words: Sequence[str]) -> bool:
    return any(word in output.name.lower() for word in words)
