"""``llama-pajamas verify coreml``. Imports no SDK."""

from pathlib import Path
from typing import Annotated

import typer

from llama_pajamas_run_coreml.verify import verify as run


def verify(
    package: Annotated[Path, typer.Argument(help="An .mlpackage, or the folder of a model of two.")],
    against: Annotated[
        Path | None, typer.Option(help="What it was made from: the ONNX model, or the Whisper checkpoint.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="A .npy file, uint8, n x height x width x 3, to compare on.")
    ] = None,
    compute_units: Annotated[
        str, typer.Option(help="reference (in numpy, on any system); on a Mac also all, cpu_and_ne, ...")
    ] = "reference",
) -> None:
    """Run a Core ML package, here, and compare its answers with those of the model that it was made from."""
    findings = run(package, against, pictures=pictures, compute_units=compute_units)
    for one in findings:
        typer.echo(str(one))
    if not all(one.good for one in findings):
        raise typer.Exit(1)
