"""What run-mlx adds to the command line: ``llama-pajamas export mlx``. MLX is imported when a command runs."""

from pathlib import Path
from typing import Annotated

import typer

from llama_pajamas_run_core.errors import BadInput


def export(
    source: Annotated[Path, typer.Argument(help="A folder with config.json, safetensors and tokenizer.json.")],
    target: Annotated[Path, typer.Argument(help="The folder to make.")],
    bits: Annotated[str, typer.Option(help="For each weight: 2, 3, 4, 6, 8, or mixed_3_6 and the like.")] = "4",
    group_size: Annotated[int, typer.Option(help="Weights that share a scale: 32, 64 or 128.")] = 64,
    text: Annotated[
        Path | None, typer.Option(help="UTF-8 text, a passage a line, to measure the quality on; some is built in.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the target if it is there.")] = False,
) -> None:
    """Quantize a language model for MLX, and say what it costs in quality."""
    from llama_pajamas_run_mlx.export import TEXTS, export

    texts = TEXTS if text is None else _passages(text)
    made = export(source, target, bits=bits, group_size=group_size, texts=texts, overwrite=overwrite)
    typer.echo(f"{target}: {made}")


def _passages(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} could not be read as text: {error}.", param="text") from error
