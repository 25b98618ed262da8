"""What a vision model expects and gives, read from what describes it.

In this order: the project's own config.json (with "input"), Hugging Face's config.json with preprocessor_config.json,
the metadata that Ultralytics writes into a graph, and the options given by hand, which also override the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast, get_args

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.vision.description import (
    RESIZES,
    Facts,
    Purpose,
    described,
    head_name,
    part,
    triple,
)
from llama_pajamas_run_core.artifacts.vision.graph import Tensor, VisionGraph, detector_outputs
from llama_pajamas_run_core.dsp.heads import BOX_HEADS, MASK_HEADS
from llama_pajamas_run_core.errors import BadInput, LoadError, Unsupported
from llama_pajamas_run_core.types.vision import VisionSpec, VisionTask

#: Outputs that hold an image's or a text's vector, the best first.
_VECTORS: Final = (
    "image_embeds",
    "text_embeds",
    "embeddings",
    "pooler_output",
    "sentence_embedding",
    "last_hidden_state",
)


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller may say about a model; None leaves it to the model's description.

    Attributes:
        task: "detect", "segment", "classify" or "embed".
        labels: class names, or a text file with one on each line.
        size: input width and height in pixels; one number for a square.
        resize: "letterbox", "stretch" or "crop".
        mean: subtracted from each channel after scaling to 0..1.
        std: divides each channel after that.
        head: how the outputs are read, as in :class:`~llama_pajamas_run_core.types.vision.VisionSpec`.
        crop: for "crop", which part of the shorter side is kept; 0.875 where 224 of 256 pixels are.
    """

    task: str | None = None
    labels: Sequence[str] | str | Path | None = None
    size: int | tuple[int, int] | None = None
    resize: str | None = None
    mean: Sequence[float] | float | None = None
    std: Sequence[float] | float | None = None
    head: str | None = None
    crop: float | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any], *, also: Sequence[str] = ()) -> "Options":
        """The options among those that a caller gave.

        Args:
            options: by name.
            also: names that the runtime itself takes, for the message.

        Raises:
            BadInput: one of them is none of these.
        """
        unknown = sorted(set(options) - set(cls.__slots__))
        if unknown:
            raise BadInput(
                f"Unknown options: {', '.join(unknown)}.", hint=f"There are: {', '.join((*cls.__slots__, *also))}."
            )
        return cls(**options)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model is used.

    Attributes:
        spec: what the base class needs.
        pixels: the input that takes the image.
        channels_last: whether it is [n, height, width, 3].
        batched: whether it has a dimension for several images at all.
        outputs: indices of the outputs that matter, in the order in which the head is read.
        batch: a fixed batch size, or None where it is free.
        channels: how many channels of a YOLO head are boxes and classes, where there are more and no masks are read.
    """

    spec: VisionSpec
    pixels: Tensor
    channels_last: bool
    batched: bool
    outputs: tuple[int, ...]
    batch: int | None
    channels: int | None

    def fed(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The model's input.

        Args:
            batch: float32 [n, 3, height, width].

        Returns:
            the same in the model's layout, filled up with zeros to the number of images that it takes.
        """
        if self.batch is not None and len(batch) < self.batch:
            filling = np.zeros((self.batch - len(batch), *batch.shape[1:]), np.float32)
            batch = np.concatenate([batch, filling])
        if self.channels_last:
            batch = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        return batch if self.batched else batch[0]

    def read(self, given: Sequence[npt.NDArray[Any]], count: int) -> list[npt.NDArray[Any]]:
        """The outputs as :meth:`~llama_pajamas_run_core.backends.vision.VisionBackend._infer` returns them.

        Args:
            given: all outputs, in the model's order.
            count: how many images there were.
        """
        return [self.trimmed(self._batched(given, index)[:count]) for index in self.outputs]

    def trimmed(self, output: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The part of an output, with the images in front, that is read."""
        if self.spec.head == "embedding" and output.ndim == 3:
            return output[:, 0]  # the class token
        if self.spec.head == "nms" and output.ndim == 3:
            return output[..., :6]
        if self.channels is not None and output.ndim == 3 and self.channels not in output.shape[1:]:
            axis = 1 if output.shape[1] < output.shape[2] else 2
            return output.take(range(self.channels), axis)
        return output

    def _batched(self, given: Sequence[npt.NDArray[Any]], index: int) -> npt.NDArray[Any]:
        if self.spec.head == "boxes" and given[self.outputs[0]].ndim == 2:
            return given[index][None]  # torchvision's detectors give the boxes of one image
        return given[index]


def read_spec(graph: VisionGraph, options: Options, *, texts: bool = False) -> Reading:
    """Tell what a model expects and gives.

    Args:
        graph: the model.
        options: what the caller says.
        texts: whether a text encoder lies beside it.

    Raises:
        BadInput: an option is senseless, or nothing tells how to use the model; the message names the options to give.
        LoadError: the description contradicts the model.
        Unsupported: a kind of model that is not understood.
    """
    pixels = _pixels(graph)
    batched = len(pixels.shape) == 4
    channels_last = pixels.size(-1) == 3 and pixels.size(-3) != 3
    facts = described(graph)
    _override(facts, options)
    height, width = (pixels.size(-3), pixels.size(-2)) if channels_last else (pixels.size(-2), pixels.size(-1))
    if height and width:  # what the graph itself fixes is always right
        facts.size = (width, height)
    outputs = _outputs(graph, facts)
    _complete(facts, graph.path)
    assert facts.task is not None
    assert facts.size is not None
    assert facts.resize is not None
    assert facts.mean is not None
    assert facts.std is not None
    assert facts.head is not None
    labels = facts.labels or ()
    _agree(graph, facts, outputs, len(labels))
    tasks: set[VisionTask] = {"detect"} if facts.task == "segment" else {facts.task}
    if facts.head in MASK_HEADS:
        tasks.add("segment")
    if facts.task == "embed" and texts:
        tasks.add("embed_text")
    batch = pixels.size(0) if batched else 1
    if facts.head == "boxes" and len(graph.outputs[outputs[0]].shape) == 2:
        batch = 1
    spec = VisionSpec(
        tasks=frozenset(tasks),
        width=facts.size[0],
        height=facts.size[1],
        resize=facts.resize,
        mean=facts.mean,
        std=facts.std,
        labels=labels,
        head=facts.head,
        dynamic_batch=batch is None,
        crop=facts.crop,
    )
    channels = (4 + len(labels)) if facts.head == "yolov8" and labels else None
    return Reading(spec, pixels, channels_last, batched, outputs, batch, channels)


def vector_output(outputs: Sequence[Tensor]) -> int:
    """The index of the output that holds the vectors."""
    names = [output.name for output in outputs]
    known = [names.index(name) for name in _VECTORS if name in names]
    flat = [index for index, output in enumerate(outputs) if len(output.shape) == 2]
    return next(iter([*known, *flat, 0]))


def _pixels(graph: VisionGraph) -> Tensor:
    images = [one for one in graph.inputs if len(one.shape) == 4]
    if not images:  # torchvision's detectors take one image, without a dimension for several
        images = [one for one in graph.inputs if len(one.shape) == 3 and one.floats and 3 in one.shape]
    if len(images) != 1:
        shapes = ", ".join(f"{one.name} {list(one.shape)}" for one in graph.inputs)
        raise Unsupported(f"{graph.path} takes no image: its inputs are {shapes}.", param="model")
    if images[0].dtype is None or images[0].dtype.__name__ not in ("float32", "float16", "float64"):
        raise Unsupported(
            f"{graph.path} takes pixels that are not floats.",
            hint="Export it without the normalization inside.",
            param="model",
        )
    return images[0]


def _override(facts: Facts, options: Options) -> None:
    if options.task is not None:
        if options.task not in get_args(Purpose):
            raise BadInput(f"task must be detect, segment, classify or embed, not '{options.task}'.", param="task")
        facts.task = cast(Purpose, options.task)
    if options.labels is not None:
        facts.labels = _labels(options.labels)
    if options.size is not None:
        facts.size = _size(options.size)
    if options.resize is not None:
        if options.resize not in RESIZES:
            raise BadInput(f"resize must be letterbox, stretch or crop, not '{options.resize}'.", param="resize")
        facts.resize = RESIZES[options.resize]
    try:
        facts.mean = facts.mean if options.mean is None else triple("mean", options.mean)
        facts.std = facts.std if options.std is None else triple("std", options.std)
        facts.head = facts.head if options.head is None else head_name(options.head)
        facts.crop = facts.crop if options.crop is None else part(options.crop)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{error}.") from error


def _size(given: Any) -> tuple[int, int]:
    sides = (given, given) if isinstance(given, int) else given
    try:
        width, height = (int(side) for side in sides)
    except (TypeError, ValueError):
        width = height = 0
    if isinstance(sides, str) or min(width, height) < 1:
        raise BadInput(f"size must be one positive number or two, width and height, not {given!r}.", param="size")
    return width, height


def _labels(given: Sequence[str] | str | Path) -> tuple[str, ...]:
    if not isinstance(given, str | Path):
        return tuple(str(label) for label in given)
    try:
        lines = Path(given).expanduser().read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(f"The labels in {given} cannot be read: {error}.", param="labels") from error
    return tuple(line.strip() for line in lines if line.strip())


def _outputs(graph: VisionGraph, facts: Facts) -> tuple[int, ...]:
    """The outputs that matter; for a detector they also tell the head, where nothing else does."""
    outputs = graph.outputs
    if facts.task == "embed":
        return (vector_output(outputs),)
    if facts.task not in ("detect", "segment"):
        names = [output.name for output in outputs]
        return (names.index("logits"),) if "logits" in names else (0,)
    told = detector_outputs(outputs)
    if told is None:
        facts.head = facts.head or "yolov8"
        return _only(graph, facts, (0,))
    head, places = told
    if facts.task == "detect" and head in MASK_HEADS and facts.head is None:
        facts.task = "segment"
    facts.head = facts.head or head
    return _only(graph, facts, places)


def _only(graph: VisionGraph, facts: Facts, places: tuple[int, ...]) -> tuple[int, ...]:
    """The outputs for the head that was decided on."""
    assert facts.head is not None
    wanted = {"boxes": 3, "efficient-nms": 4, "yolov8-seg": 2, "nms-seg": 2}.get(facts.head, 1)
    if len(places) < wanted or facts.head not in BOX_HEADS:
        shapes = ", ".join(f"{one.name} {list(one.shape)}" for one in graph.outputs)
        raise LoadError(f"The outputs of {graph.path} are not those of the head '{facts.head}': {shapes}.")
    return places[:wanted]


def _complete(facts: Facts, path: Path) -> None:
    """Fill in what follows from the rest; where something is missing, say what."""
    missing = [] if facts.task else ['task="detect", "segment", "classify" or "embed"']
    if facts.task in ("detect", "segment"):
        facts.resize = facts.resize or "letterbox"
        facts.mean, facts.std = facts.mean or (0.0, 0.0, 0.0), facts.std or (1.0, 1.0, 1.0)
    else:
        facts.resize = facts.resize or "crop"
        facts.head = facts.head or ("embedding" if facts.task == "embed" else "logits")
        missing += [] if facts.mean else ["mean=(r, g, b)"]
        missing += [] if facts.std else ["std=(r, g, b)"]
    if facts.task != "embed" and facts.labels is None:
        missing.append("labels=[...] or a file with one on each line")
    if facts.size is None:
        missing.append("size=(width, height)")
    if missing:
        raise BadInput(
            f"Nothing beside or in {path} tells how to use it.",
            hint=f"Give these options: {'; '.join(missing)}.",
            param="model",
        )


def _agree(graph: VisionGraph, facts: Facts, outputs: tuple[int, ...], labels: int) -> None:
    """See that the model has as many classes as there are labels."""
    output = graph.outputs[outputs[0]]
    if not labels:
        return
    if facts.head in ("yolov8", "yolov8-seg") and len(output.shape) == 3:
        first, second = output.size(1), output.size(2)
        weights = (graph.outputs[outputs[1]].size(1) or 0) if facts.head == "yolov8-seg" else 0
        wanted = 4 + labels + weights
        # A YOLO head has more places than channels; past the classes there may be masks or joints.
        if first and second and wanted not in (first, second) and (weights or min(first, second) < wanted):
            has = min(first, second) - 4 - weights
            raise LoadError(f"{graph.path} gives {has} classes, but there are {labels} labels.")
    classes = output.size(1) if facts.task == "classify" and len(output.shape) == 2 else None
    if classes is not None and classes != labels:
        raise LoadError(f"{graph.path} gives {classes} classes, but there are {labels} labels.")
