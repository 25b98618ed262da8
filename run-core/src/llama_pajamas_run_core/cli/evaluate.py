"""``llama-pajamas eval``: evaluations that packages bring, through the entry-point group ``llama_pajamas.evals``.

An evaluation is a function that takes the :class:`~llama_pajamas_run_core.machine.Machine` and returns the lines of its
table as :class:`~llama_pajamas_run_core.evaluation.Row`; a row whose floor is not reached makes the command fail. Its
keyword-only arguments become options of the command: ``prompts: Annotated[int, "How many prompts."] = 500``.
"""

import datetime
import inspect
import json
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from llama_pajamas_run_core.cli.brought import brought
from llama_pajamas_run_core.cli.files import write
from llama_pajamas_run_core.evaluation import Row
from llama_pajamas_run_core.machine import Machine

GROUP = "llama_pajamas.evals"
#: What is evaluated where nothing is named.
_DEFAULT = "starter"

Evaluation = Callable[..., Iterable[Row]]
_Json = Annotated[Path | None, typer.Option(help="Write the rows to this file, with the machine and the date.")]


def _names() -> list[str]:
    return sorted(point.name for point in entry_points(group=GROUP))


def _load(name: str) -> Callable[..., None]:
    return _command(name, next(point for point in entry_points(group=GROUP) if point.name == name).load())


app = typer.Typer(
    cls=brought("evaluation", _names, _load),
    invoke_without_command=True,
    help="Measure models on held-out data and compare with their floors.",
)


@app.callback()
def evaluate(context: typer.Context) -> None:
    """Measure models on held-out data and compare with their floors."""
    if context.invoked_subcommand is None:
        group = context.command
        assert isinstance(group, TyperGroup)
        command: Any = group.get_command(context, _DEFAULT)
        context.invoke(command)


def _command(name: str, evaluation: Evaluation) -> Callable[..., None]:
    """A function whose arguments are the evaluation's options, for typer."""

    def run(*, json: Path | None = None, **options: Any) -> None:
        rows = _shown(name, evaluation(Machine(), **options))
        if json is not None:
            write(json, _record(name, rows).encode())
        if not all(row.reached for row in rows):
            raise typer.Exit(1)

    signature = inspect.signature(evaluation, eval_str=True)
    options = [_option(one) for one in signature.parameters.values() if one.kind is one.KEYWORD_ONLY]
    options.append(inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_Json))
    run.__doc__ = inspect.getdoc(evaluation)
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def _option(parameter: inspect.Parameter) -> inspect.Parameter:
    kind, about = parameter.annotation, ""
    if get_origin(kind) is Annotated:
        kind, about = get_args(kind)[:2]
    return parameter.replace(annotation=Annotated[kind, typer.Option(help=about)])


def _shown(name: str, rows: Iterable[Row]) -> list[Row]:
    """Print the table; the rows, once all are measured."""
    measured: list[Row] = []
    with Console(stderr=True).status("measuring") as status:
        for row in rows:
            measured.append(row)
            status.update(f"{row.model} {row.subject}: {row.what} {row.shown}")
    compares, says = any(row.subject for row in measured), any(row.note for row in measured)
    head = ["model", *(["runtime"] if compares else []), "what", "result", "floor", "cases", "seconds"]
    table = Table(*head, *(["note"] if says else []), title=f"Evaluation: {name}")
    for row in measured:
        mark = "" if row.reached else " (not reached)"
        cells = [row.model, *([row.subject] if compares else []), row.what, row.shown, row.floor_shown + mark]
        table.add_row(*cells, str(row.cases), f"{row.seconds:.1f}", *([row.note] if says else []))
    Console().print(table)
    return measured


def _record(name: str, rows: Iterable[Row]) -> str:
    """The rows as JSON, with all that a reader of the figures has to know."""
    profile = Machine().profile
    words = [argument.rsplit("/", 1)[-1] for argument in sys.argv[1:]]  # no folders of this machine
    record = {
        "evaluation": name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["llama-pajamas", *words]),
        "machine": {
            "system": f"{profile.system} {profile.release}".strip(),
            "processor": profile.processor.name,
            "cores": profile.processor.cores,
            "gpus": [gpu.name for gpu in profile.nvidia],
        },
        "rows": [asdict(row) for row in rows],
    }
    return json.dumps(record, indent=1) + "\n"
