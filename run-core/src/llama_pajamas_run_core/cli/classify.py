"""``llama-pajamas classify``."""

from pathlib import Path
from typing import Annotated

import typer

from llama_pajamas_run_core.cli.files import read
from llama_pajamas_run_core.codecs.image import decode_image
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.types.tasks import Task


def classify(
    files: Annotated[list[Path], typer.Argument(help="Image files; - reads standard input.")],
    model: Annotated[str | None, typer.Option(help="Model id, or path of a model.")] = None,
    top: Annotated[int, typer.Option(help="How many candidates to print.")] = 3,
    runtime: Annotated[str | None, typer.Option(help="Prefer this runtime.")] = None,
) -> None:
    """Name what images show."""
    with Machine().open(Task.VISION, model, ability="classify", runtime=runtime) as vision:
        for file in files:
            (named,) = vision.classify([decode_image(read(file))], top=top)
            typer.echo(f"{file}: " + ", ".join(f"{one.label} {one.confidence:.2f}" for one in named))
