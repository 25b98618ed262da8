"""The README's table of tasks and runtimes, made from the runtimes' own descriptors.

uv run python tools/readme_table.py    rewrites the table in README.md
"""

import re
from pathlib import Path

from llama_pajamas_run_core.runtimes.discovery import discover
from llama_pajamas_run_core.types.tasks import Task

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- runtimes: begin[^\n]*-->\n)(.*?)(<!-- runtimes: end -->)", re.DOTALL)


def table() -> str:
    """The table in Markdown: a row for each runtime, a column for each task."""
    lines = [
        f"| package | runs on | {' | '.join(task.label for task in Task)} |",
        f"|---|---|{'---|' * len(Task)}",
    ]
    for info in sorted(discover(), key=lambda info: not info.rooms):
        cells = [info.rooms[task].families if task in info.rooms else "" for task in Task]
        lines.append(f"| [run-{info.name}](run-{info.name}) | {info.hardware} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rewritten(text: str) -> str:
    """The README's text with the table as it should be."""
    return BLOCK.sub(lambda match: match[1] + table() + match[3], text)


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text("utf-8")), "utf-8")
