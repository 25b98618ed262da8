"""``llama-pajamas eval``: evaluations that packages bring, through the entry-point group ``llama_pajamas.evals``.

An evaluation is a function that takes the :class:`~llama_pajamas_run_core.machine.Machine` and returns the lines of its
table as :class:`~llama_pajamas_run_core.evaluation.Row`; a row whose floor is not reached makes the command fail.
"""

from importlib.metadata import entry_points
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.machine import Machine

GROUP = "llama_pajamas.evals"


def evaluate(
    name: Annotated[str, typer.Argument(help="What to evaluate.")] = "starter",
) -> None:
    """Measure models on held-out data and compare with their floors."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise BadInput(f"There is no evaluation '{name}'.", hint=f"There are: {', '.join(sorted(found)) or 'none'}.")
    table = Table("model", "what", "result", "floor", "cases", "seconds", title=f"Evaluation: {name}")
    short = 0
    for row in found[name].load()(Machine()):
        short += not row.reached
        mark = "" if row.reached else " (not reached)"
        table.add_row(row.model, row.what, row.shown, row.floor_shown + mark, str(row.cases), f"{row.seconds:.1f}")
    Console().print(table)
    if short:
        raise typer.Exit(1)
