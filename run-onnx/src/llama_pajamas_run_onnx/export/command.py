"""``llama-pajamas export onnx``."""

from pathlib import Path
from typing import Annotated

import typer

from llama_pajamas_run_core.artifacts.formats import size_of
from llama_pajamas_run_onnx.export import export


def export_onnx(
    source: Annotated[Path, typer.Argument(help="Folder with config.json and model.safetensors.")],
    target: Annotated[Path, typer.Argument(help="Folder to make.")],
    precision: Annotated[str, typer.Option(help="How weights are stored: fp32 or fp16.")] = "fp32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it is there.")] = False,
) -> None:
    """Write a checkpoint in Hugging Face's layout as ONNX, without PyTorch."""
    made = export(source, target, precision=precision, overwrite=overwrite)
    files = ", ".join(sorted(file.name for file in made.iterdir()))
    typer.echo(f"{made}: {size_of(made) / 1e6:.1f} MB ({files})")
