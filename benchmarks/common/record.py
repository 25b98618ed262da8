"""The record that a benchmark leaves: what was measured, on what, with which versions and by which command."""

import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_pajamas_run_core.hardware.detect import detect

RESULTS = Path(__file__).resolve().parent.parent / "results"
_PACKAGES = (
    "llama-pajamas-run-core",
    "llama-pajamas-run-gguf",
    "llama-pajamas-run-mlx",
    "llama-cpp-python",
    "mlx",
    "mlx-lm",
    "numpy",
    "fastapi",
    "starlette",
    "uvicorn",
    "httpx",
)


def machine() -> dict[str, Any]:
    """The hardware."""
    profile = detect()
    cpu = profile.processor
    return {
        "system": f"{profile.system} {profile.release}".strip(),
        "processor": cpu.name,
        "cores": cpu.cores,
        "threads": cpu.threads,
        "features": sorted(cpu.features),
        "memory_gib": round(cpu.memory / 2**30, 1),
        "gpus": [f"{gpu.name}, {gpu.memory / 2**30:.0f} GiB, driver {gpu.driver}" for gpu in profile.nvidia],
    }


def machine_name() -> str:
    """A short name of the hardware for file names: the GPU's, else the processor's and its cores."""
    about = machine()
    name = about["gpus"][0].split(",")[0] if about["gpus"] else f"{about['processor']} {about['cores']}-core"
    name = re.sub(r"\(.*?\)|\b(cpu|processor|intel|amd|nvidia)\b|@.*?(?= \d+-core|$)", " ", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")


def versions() -> dict[str, str]:
    """Of Python and the packages that matter."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def command() -> str:
    """How the script was called, with the names of files only."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(without_folders, sys.argv[1:])])


def without_folders(argument: str) -> str:
    """An argument of a command, a path in it cut to its last part."""
    return re.sub(r"(^|=)[^=]*/(?=[^/]*$)", r"\1", argument)


def load_average() -> float | None:
    """Of the last minute, where the system tells."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def peak_rss(pid: int) -> float | None:
    """The most memory that a running process has had, in MiB; files mapped into it count. None where unknown."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return round(int(found[1]) / 1024, 1) if found else None


def write(
    benchmark: str,
    content: dict[str, Any],
    *,
    folder: Path | None = None,
    name: str | None = None,
    path: Path | None = None,
) -> Path:
    """Write a record as ``<date>-<benchmark>-<machine>.json``.

    Args:
        benchmark: its name.
        content: what was measured.
        folder: where; ``benchmarks/results`` if None.
        name: of the machine.
        path: the file, where an earlier record of the same run is to be replaced.
    """
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    today = datetime.datetime.now(datetime.UTC)
    head = {
        "benchmark": benchmark,
        "date": today.isoformat(timespec="seconds"),
        "command": command(),
        "machine": machine(),
        "versions": versions(),
    }
    path = path or folder / f"{today.date().isoformat()}-{benchmark}-{name or machine_name()}.json"
    path.write_text(json.dumps(_finite({**head, **content}), indent=1, allow_nan=False) + "\n", "utf-8")
    return path


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in plain text; numbers stand to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *cells]) for i in range(len(head))]
    texts = {i for i in range(len(head)) if any(isinstance(row[i], str) for row in rows)}

    def line(values: Sequence[str]) -> str:
        parts = (v.ljust(w) if i in texts else v.rjust(w) for i, (v, w) in enumerate(zip(values, widths, strict=True)))
        return "  ".join(parts).rstrip()

    return "\n".join([line(head), line(["-" * width for width in widths]), *map(line, cells)])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
