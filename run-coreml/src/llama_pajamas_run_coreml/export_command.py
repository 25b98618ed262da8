"""``llama-pajamas export coreml``. Imports no SDK."""

from pathlib import Path
from typing import Annotated, cast

import typer

from llama_pajamas_run_core.artifacts.vision.spec import Options
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_coreml.description import Precision, Target
from llama_pajamas_run_coreml.export import export
from llama_pajamas_run_coreml.export.options import COMPRESSIONS, PRECISIONS, TARGETS, ExportOptions, parse_batches
from llama_pajamas_run_coreml.samples import read_pictures


def export_coreml(
    source: Annotated[Path, typer.Argument(help="An ONNX vision model or its folder, or a Whisper checkpoint.")],
    target: Annotated[Path, typer.Argument(help="NAME.mlpackage to make; for a model of two packages a folder.")],
    system: Annotated[str, typer.Option("--target", help=f"Oldest system: {', '.join(TARGETS)}.")] = "macos14",
    precision: Annotated[str, typer.Option(help=f"What it computes in: {', '.join(PRECISIONS)}.")] = "float16",
    compression: Annotated[str, typer.Option(help=f"How weights are stored: {', '.join(COMPRESSIONS)}.")] = "none",
    batches: Annotated[str, typer.Option(help="Images in one prediction: 1, or 1,4,16, or 1-16.")] = "1,2,4,8,16",
    image_input: Annotated[
        bool, typer.Option("--image-input", help="Take an image, for apps; normalize it inside the package.")
    ] = False,
    stateful: Annotated[
        bool | None, typer.Option(help="Whisper: keep the cache as a state (default: where the target can).")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Input size where the graph leaves it free: 640 or 640x480.")] = None,
    task: Annotated[str | None, typer.Option(help="detect, segment, classify or embed, where nothing tells.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A text file with a class name on each line.")] = None,
    resize: Annotated[str | None, typer.Option(help="letterbox, stretch or crop, where nothing tells.")] = None,
    mean: Annotated[str | None, typer.Option(help="Subtracted from each channel: 0.5 or 0.48,0.46,0.41.")] = None,
    std: Annotated[str | None, typer.Option(help="Divides each channel after that.")] = None,
    head: Annotated[str | None, typer.Option(help="How outputs are read: yolov8, logits, embedding, ...")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="A .npy file, uint8, n x height x width x 3, to measure the change on.")
    ] = None,
    measure: Annotated[bool, typer.Option(help="Run the export, here, to say what it changed.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the target if it is there.")] = False,
) -> None:
    """Write an ONNX vision model, or a Whisper checkpoint, as Core ML packages; also on a machine that is no Mac."""
    sizes, ranged = parse_batches(batches)
    options = ExportOptions(
        target=cast(Target, system),
        precision=cast(Precision, precision),
        compression=compression,
        batches=sizes,
        ranged=ranged,
        image_input=image_input,
        stateful=stateful,
        measure=measure,
    )
    described = Options(
        task=task,
        labels=labels,
        size=_size(size),
        resize=resize,
        mean=_numbers("mean", mean),
        std=_numbers("std", std),
        head=head,
    )
    shown = None if pictures is None else read_pictures(pictures)
    for made in export(source, target, options, described=described, shown=shown, overwrite=overwrite):
        typer.echo(str(made))


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        width, _, height = text.partition("x")
        return int(width), int(height or width)
    except ValueError:
        raise BadInput(f"size is like 640 or 640x480, not {text!r}.", param="size") from None


def _numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"{name} is like 0.5 or 0.48,0.46,0.41, not {text!r}.", param=name) from None
