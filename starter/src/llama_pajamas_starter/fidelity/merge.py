"""Figures that another machine measured, for what cannot be run on this one."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.evaluation import Row

_NAMES = {field.name for field in fields(Row)}


def recorded(path: Path) -> list[Row]:
    """The measured rows of a record that ``llama-pajamas eval fidelity --json`` wrote, each with where it is from.

    Raises:
        BadInput: the file is no such record.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
        about, date = record["machine"], record["date"][:10]
        where = (about["gpus"] or [about["processor"]])[0]
        rows = [Row(**{name: value for name, value in row.items() if name in _NAMES}) for row in record["rows"]]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise BadInput(f"{path} is no record of an evaluation: {error!r}.", param="merge") from error
    said = f"measured on {where}, {date}"
    return [
        replace(row, note=f"{row.note}; {said}" if row.note else said)
        for row in rows
        if row.value is not None and "measured on" not in row.note
    ]


def merged(rows: Iterable[Row], others: Sequence[Row]) -> Iterator[Row]:
    """The rows, with those of another machine in the place of what could not be run here."""
    for row in rows:
        if row.value is None:
            same = (one for one in others if (one.model, one.what, one.subject) == (row.model, row.what, row.subject))
            row = next(same, row)
        yield row
