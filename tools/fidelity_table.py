"""The README's table of fidelity, made from the records of ``llama-pajamas eval fidelity --json``.

uv run python tools/fidelity_table.py            rewrites the table in README.md
uv run python tools/fidelity_table.py --print    prints it

All records in benchmarks/results whose name has "-fidelity-" count: of what several have measured, the newest; what
none could run stands there with its reason. So a record of a GPU machine fills the gaps of one without a GPU.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from llama_pajamas_run_core.evaluation import Row

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- fidelity: begin[^\n]*-->\n)(.*?)(<!-- fidelity: end -->)", re.DOTALL)
#: In the order of the table.
MODELS = ("starter-chat", "starter-speech", "starter-detect", "starter-classify", "starter-embed")


@dataclass(frozen=True, slots=True)
class Figure:
    """A row, and what it was measured by and on."""

    row: Row
    command: str
    machine: str
    date: str


def records() -> list[dict[str, Any]]:
    """All records, the oldest first."""
    found = [json.loads(path.read_text("utf-8")) for path in RESULTS.glob("*-fidelity-*.json")]
    return sorted(found, key=lambda record: str(record["date"]))


def figures(found: Sequence[dict[str, Any]]) -> list[Figure]:
    """One figure for each model, runtime and precision: the newest that was measured, else the newest reason."""
    best: dict[tuple[str, str, str], Figure] = {}
    for record in found:
        about = record["machine"]
        machine = (about["gpus"] or [f"{about['processor']}, {about['cores']} cores"])[0]
        for values in record["rows"]:
            row = Row(**values)
            key = row.model, row.what, row.subject
            if row.value is not None or key not in best or best[key].row.value is None:
                best[key] = Figure(row, record["command"], machine, record["date"][:10])
    return sorted(best.values(), key=lambda one: MODELS.index(one.row.model))


def table(found: Sequence[Figure]) -> str:
    """Figures as Markdown: what measured them, and a row for each."""
    measured = [one for one in found if one.row.value is not None]
    runs = dict.fromkeys(f"`{one.command}` on {one.machine}, {one.date}" for one in measured)
    usual = measured[0].machine if measured else ""
    lines = [*(f"- {run}" for run in runs), "", "| model | runtime | result | cases | |", "|---|---|--:|--:|---|"]
    for (model, what), group in groupby(found, key=lambda one: (one.row.model, one.row.what)):
        for place, one in enumerate(group):
            name = f"**{model}**: {what}" if place == 0 else ""
            cases = "" if one.row.value is None else str(one.row.cases)
            elsewhere = f"on {one.machine}" if one.row.value is not None and one.machine != usual else ""
            note = "; ".join(filter(None, (one.row.note, elsewhere)))
            lines.append(f"| {name} | {one.row.subject} | {one.row.shown} | {cases} | {note} |")
    return "\n".join(lines) + "\n"


def rewritten(text: str) -> str:
    """The README's text with the table as it should be."""
    made = table(figures(records()))
    return BLOCK.sub(lambda match: match[1] + made + match[3], text)


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(table(figures(records())))
    else:
        README.write_text(rewritten(README.read_text("utf-8")), "utf-8")
