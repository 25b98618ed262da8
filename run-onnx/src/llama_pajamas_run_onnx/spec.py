"""What an ONNX vision model expects and gives, read from what describes it.

In this order: the project's own config.json (with "input"), Hugging Face's config.json with preprocessor_config.json,
the metadata that Ultralytics writes into a graph, and the options given by hand, which also override the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

from llama_pajamas_run_core.errors import BadInput, LoadError, Unsupported
from llama_pajamas_run_core.types.vision import VisionSpec, VisionTask
from llama_pajamas_run_onnx._session import Session, Tensor
from llama_pajamas_run_onnx.description import RESIZES, Facts, described, head_name, part, triple
from llama_pajamas_run_onnx.files import VisionFiles

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
        task: "detect", "classify" or "embed".
        labels: class names, or a text file with one on each line.
        size: input width and height in pixels; one number for a square.
        resize: "letterbox", "stretch" or "crop".
        mean: subtracted from each channel after scaling to 0..1.
        std: divides each channel after that.
        head: "yolov8", "nms", "logits", "probabilities" or "embedding".
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


@dataclass(frozen=True, slots=True)
class Reading:
    """How a graph is used.

    Attributes:
        spec: what the base class needs.
        pixels: the input that takes the image.
        channels_last: whether it is [n, height, width, 3].
        output: index of the output that matters.
        batch: a fixed batch size, or None where it is free.
        channels: how many channels of a YOLO head are boxes and classes; the rest are masks or joints.
    """

    spec: VisionSpec
    pixels: Tensor
    channels_last: bool
    output: int
    batch: int | None
    channels: int | None


def read_spec(files: VisionFiles, session: Session, options: Options, *, texts: bool) -> Reading:
    """Tell what a model expects and gives.

    Args:
        files: the model's files.
        session: its loaded image graph.
        options: what the caller says.
        texts: whether a text encoder lies beside it.

    Raises:
        BadInput: an option is senseless, or nothing tells how to use the model; the message names the options to give.
        LoadError: the description contradicts the graph.
        Unsupported: a kind of model that is not understood.
    """
    pixels = _pixels(session)
    channels_last = pixels.size(3) == 3 and pixels.size(1) != 3
    facts = described(files, session)
    _override(facts, options)
    height, width = (pixels.size(1), pixels.size(2)) if channels_last else (pixels.size(2), pixels.size(3))
    if height and width:  # what the graph itself fixes is always right
        facts.size = (width, height)
    output = _output(session, facts)
    _complete(facts, session.outputs[output], files.image)
    assert facts.task is not None
    assert facts.size is not None
    assert facts.resize is not None
    assert facts.mean is not None
    assert facts.std is not None
    assert facts.head is not None
    labels = facts.labels or ()
    _agree(facts, session.outputs[output], len(labels), files.image)
    tasks: set[VisionTask] = {facts.task}
    if facts.task == "embed" and texts:
        tasks.add("embed_text")
    batch = pixels.size(0)
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
    return Reading(spec, pixels, channels_last, output, batch, channels)


def vector_output(session: Session) -> int:
    """The index of the output that holds the vectors."""
    names = [output.name for output in session.outputs]
    known = [names.index(name) for name in _VECTORS if name in names]
    flat = [index for index, output in enumerate(session.outputs) if len(output.shape) == 2]
    return next(iter([*known, *flat, 0]))


def _pixels(session: Session) -> Tensor:
    images = [one for one in session.inputs if len(one.shape) == 4]
    if len(images) != 1:
        shapes = ", ".join(f"{one.name} {list(one.shape)}" for one in session.inputs)
        raise Unsupported(f"{session.path} takes no image: its inputs are {shapes}.", param="model")
    if images[0].dtype is None or images[0].dtype.__name__ not in ("float32", "float16", "float64"):
        raise Unsupported(
            f"{session.path} takes pixels that are not floats.",
            hint="Export it without the normalization inside.",
            param="model",
        )
    return images[0]


def _override(facts: Facts, options: Options) -> None:
    if options.task is not None:
        if options.task not in ("detect", "classify", "embed"):
            raise BadInput(f"task must be detect, classify or embed, not '{options.task}'.", param="task")
        facts.task = cast(Literal["detect", "classify", "embed"], options.task)
    if options.labels is not None:
        facts.labels = _labels(options.labels)
    if options.size is not None:
        width, height = (options.size, options.size) if isinstance(options.size, int) else options.size
        if min(width, height) < 1:
            raise BadInput(f"size must be positive, not {options.size}.", param="size")
        facts.size = (width, height)
    if options.resize is not None:
        if options.resize not in RESIZES:
            raise BadInput(f"resize must be letterbox, stretch or crop, not '{options.resize}'.", param="resize")
        facts.resize = RESIZES[options.resize]
    try:
        facts.mean = facts.mean if options.mean is None else triple("mean", options.mean)
        facts.std = facts.std if options.std is None else triple("std", options.std)
        facts.head = facts.head if options.head is None else head_name(options.head)
        facts.crop = facts.crop if options.crop is None else part(options.crop)
    except ValueError as error:
        raise BadInput(f"{error}.") from error


def _labels(given: Sequence[str] | str | Path) -> tuple[str, ...]:
    if not isinstance(given, str | Path):
        return tuple(str(label) for label in given)
    try:
        lines = Path(given).expanduser().read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(f"The labels in {given} cannot be read: {error}.", param="labels") from error
    return tuple(line.strip() for line in lines if line.strip())


def _output(session: Session, facts: Facts) -> int:
    if facts.task == "embed":
        return vector_output(session)
    names = [output.name for output in session.outputs]
    return names.index("logits") if facts.task == "classify" and "logits" in names else 0


def _complete(facts: Facts, output: Tensor, path: Path) -> None:
    """Fill in what follows from the rest; where something is missing, say what."""
    missing = [] if facts.task else ['task="detect", "classify" or "embed"']
    if facts.task == "detect":
        facts.resize = facts.resize or "letterbox"
        facts.mean, facts.std = facts.mean or (0.0, 0.0, 0.0), facts.std or (1.0, 1.0, 1.0)
        rows = output.size(-2)
        facts.head = facts.head or ("nms" if output.size(-1) == 6 and (rows is None or rows > 6) else "yolov8")
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


def _agree(facts: Facts, output: Tensor, labels: int, path: Path) -> None:
    """See that the graph has as many classes as there are labels."""
    if not labels:
        return
    if facts.head == "yolov8" and len(output.shape) == 3:
        first, second = output.size(1), output.size(2)
        # A YOLO head has more places than channels; past the classes there may be masks or joints.
        if first and second and 4 + labels not in (first, second) and min(first, second) < 4 + labels:
            raise LoadError(f"{path} gives {min(first, second) - 4} classes, but there are {labels} labels.")
    classes = output.size(1) if facts.task == "classify" and len(output.shape) == 2 else None
    if classes is not None and classes != labels:
        raise LoadError(f"{path} gives {classes} classes, but there are {labels} labels.")
