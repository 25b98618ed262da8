"""``llama-pajamas bench``."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llama_pajamas_run_core.bench.figures import Figure, Line
from llama_pajamas_run_core.bench.gpu import measure, pairs, record
from llama_pajamas_run_core.bench.models import SECONDS
from llama_pajamas_run_core.cli.files import write
from llama_pajamas_run_core.machine import Machine

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Measure this machine.")


# A typer app with a single command would swallow that command's name; a callback keeps it.
@app.callback()
def explain() -> None: ...


@app.command()
def gpu(
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the record there; - for the output.")] = None,
    device: Annotated[int, typer.Option(help="Which of the GPUs that CUDA_VISIBLE_DEVICES leaves.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="product, copies, detect, classify or speech.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="WHAT=MODEL, in place of the default model.")] = None,
    engine: Annotated[list[str] | None, typer.Option(help="WHAT=PATH, what the GPU's runtime loads.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A WAV file to transcribe.")] = None,
    seconds: Annotated[float, typer.Option(help="How long each figure of a model takes.")] = SECONDS,
) -> None:
    """Compare the GPU with the CPU: a matrix product in FP16, copies, and how fast models see and hear."""
    machine = Machine()
    engines = {name: Path(path) for name, path in pairs(engine or []).items()}
    console = Console(stderr=True)
    lines = []
    with console.status("measuring") as status:
        for line in measure(
            machine,
            index=device,
            only=only or (),
            models=pairs(model or []),
            engines=engines,
            audio=audio,
            seconds=seconds,
        ):
            lines.append(line)
            status.update(f"measured {line.what}")
    if json_path is not None:
        text = json.dumps(record(machine, lines, ["llama-pajamas", *sys.argv[1:]]), indent=2) + "\n"
        write(json_path, text.encode())
    if str(json_path) != "-":
        _show(lines)
    if any(line.reached is False for line in lines):
        raise typer.Exit(1)


def _show(lines: list[Line]) -> None:
    console = Console()
    table = Table("what", "CPU", "GPU", "GPU / CPU", title="GPU beside CPU", title_justify="left")
    for line in lines:
        cells = [str(side) if isinstance(side, Figure) else "-" for side in (line.cpu, line.gpu)]
        ratio = "-" if line.ratio is None else f"{line.ratio:.3g} x"
        floor = "" if line.floor is None else f" (floor {line.floor:g})"
        mark = {None: "", True: floor, False: f"{floor}, not reached"}[line.reached]
        table.add_row(line.what, cells[0], cells[1] + mark, ratio)
    console.print(table)
    for reason in _merged(lines):
        console.print(reason, soft_wrap=True)


def _merged(lines: list[Line]) -> list[str]:
    """Why figures are missing, each reason once with all that it is true of."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        for name, side in (("CPU", line.cpu), ("GPU", line.gpu)):
            if isinstance(side, str):
                found.setdefault((name, side), []).append(line.what)
    return [f"No {name} figure for {'; '.join(whats)}: {reason}" for (name, reason), whats in found.items()]
