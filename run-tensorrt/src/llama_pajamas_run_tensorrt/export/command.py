"""``llama-pajamas export tensorrt``. TensorRT is imported when the command runs."""

import time
from pathlib import Path
from typing import Annotated

import typer

from llama_pajamas_run_tensorrt.export.options import (
    TACTICS,
    BuildOptions,
    default_output,
    parse_dim,
    parse_precision,
    parse_range,
    parse_shape,
)


def export(
    model: Annotated[Path, typer.Argument(help="An ONNX file, or a folder with one or several.")],
    output: Annotated[Path | None, typer.Option(help="The .engine file, or the folder of engines.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "fp16",
    batch: Annotated[str | None, typer.Option(help="Batch sizes: one, or smallest:best:largest, as 1:8:64.")] = None,
    dim: Annotated[
        list[str] | None, typer.Option(help="Sizes of a free dimension by its name: frames=100:1500:3000.")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="Shapes of an input: images=1x3x640x640:8x3x640x640:64x3x640x640.")
    ] = None,
    outputs: Annotated[str | None, typer.Option(help="Keep only these outputs, separated by commas.")] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="A folder of images: what INT8 is calibrated with and the change measured on.")
    ] = None,
    speech: Annotated[
        Path | None, typer.Option(help="A folder of .wav files: what a speech model's change of words is measured on.")
    ] = None,
    calibrator: Annotated[
        bool, typer.Option("--calibrator", help="INT8 by TensorRT's own calibrator in place of Q/DQ nodes.")
    ] = False,
    limit: Annotated[
        float | None, typer.Option(help="The most that the measured figure may lose against FP32, in points of 100.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Keep the engine also where it loses more.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also compare the outputs of the layers with ONNX Runtime's.")
    ] = False,
    workspace: Annotated[int | None, typer.Option(help="Megabytes of scratch memory that a layer may use.")] = None,
    tactics: Annotated[
        str | None, typer.Option(help="TensorRT's tactic sources, separated by commas.", envvar=TACTICS)
    ] = None,
    level: Annotated[int, typer.Option(help="How long to search for the fastest way, 0 to 5.")] = 3,
    device: Annotated[str | None, typer.Option(help="The GPU: CUDA's index or a UUID.")] = None,
    inspect: Annotated[bool, typer.Option("--inspect", help="Print the graph as Polygraphy sees it, and end.")] = False,
) -> None:
    """Build a TensorRT engine for this machine's GPU, and say what it costs in quality."""
    options = BuildOptions(
        precision=parse_precision(precision),
        batch=None if batch is None else parse_range(batch),
        dims=dict(parse_dim(text) for text in dim or ()),
        shapes=dict(parse_shape(text) for text in shape or ()),
        outputs=_names(outputs) or (),
        workspace=None if workspace is None else workspace << 20,
        tactics=_names(tactics, upper=True),
        level=level,
        calibrator=calibrator,
        detailed=compare,
    )
    if inspect:
        from llama_pajamas_run_tensorrt.export.inspect import graph_summary

        typer.echo(graph_summary(model))
        return
    from llama_pajamas_run_tensorrt.export.make import export_model

    exported = export_model(
        model,
        output or default_output(model, options.precision),
        options,
        device=device,
        images=calibrate,
        speech=speech,
        limit=limit,
        force=force,
        compare=compare,
        progress=_Line(),
    )
    for line in exported.lines():
        typer.echo(line)


def _names(text: str | None, *, upper: bool = False) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple((name.strip().upper() if upper else name.strip()) for name in text.split(",") if name.strip())


class _Line:
    """Tells on stderr how far a build is: a line for each phase, at most one a second for its steps."""

    def __init__(self) -> None:
        self._phase, self._told = "", 0.0

    def __call__(self, phase: str, share: float | None) -> None:
        now = time.monotonic()
        if phase != self._phase or share == 1.0 or now - self._told >= 1:
            self._phase, self._told = phase, now
            typer.echo(phase if share is None else f"{phase} {share:.0%}", err=True)
