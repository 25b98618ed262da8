"""The README's table of fidelity, made from the newest record of ``llama-pajamas eval fidelity``.

uv run python tools/fidelity_table.py            rewrites the table in README.md
uv run python tools/fidelity_table.py --print    prints it
"""

import json
import re
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from llama_pajamas_run_core.evaluation import Row

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- fidelity: begin[^\n]*-->\n)(.*?)(<!-- fidelity: end -->)", re.DOTALL)


def newest() -> Path | None:
    """The newest record, by the date in its name; None where there is none."""
    return max(RESULTS.glob("*-fidelity-*.json"), default=None, key=lambda path: path.name)


def table(record: dict[str, Any]) -> str:
    """A record as Markdown: what the record is of, and a row for each model, runtime and precision."""
    rows = [Row(**row) for row in record["rows"]]
    about = record["machine"]
    lines = [
        f"`{record['command']}` on {about['processor']}, {about['cores']} cores, {record['date'][:10]}:",
        "",
        "| model | runtime | result | cases | |",
        "|---|---|--:|--:|---|",
    ]
    for (model, what), group in groupby(rows, key=lambda row: (row.model, row.what)):
        for place, row in enumerate(group):
            name = f"**{model}**: {what}" if place == 0 else ""
            cases = "" if row.value is None else str(row.cases)
            lines.append(f"| {name} | {row.subject} | {row.shown} | {cases} | {row.note} |")
    return "\n".join(lines) + "\n"


def rewritten(text: str) -> str:
    """The README's text with the table as it should be; without a record, as it is."""
    path = newest()
    if path is None:
        return text
    made = table(json.loads(path.read_text("utf-8")))
    return BLOCK.sub(lambda match: match[1] + made + match[3], text)


if __name__ == "__main__":
    if "--print" in sys.argv:
        found = newest()
        print(table(json.loads(found.read_text("utf-8"))) if found else "there is no record yet")
    else:
        README.write_text(rewritten(README.read_text("utf-8")), "utf-8")
