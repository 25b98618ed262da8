"""The GPU beside the CPU: a matrix product, copies, and what models make of it.

``llama-pajamas bench gpu`` shows it as a table; ``python -m llama_pajamas_run_core.bench.gpu --json PATH`` needs none
of the command line's packages.
"""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.bench.cuda import Device
from llama_pajamas_run_core.bench.device import copy_lines, product_line
from llama_pajamas_run_core.bench.figures import Figure, Line
from llama_pajamas_run_core.bench.models import SECONDS, SUBJECTS, Inputs, drawn_images, model_lines, some_audio
from llama_pajamas_run_core.errors import BadInput, PajamasError
from llama_pajamas_run_core.hardware.profiles import to_json
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.types.tasks import Task

_PACKAGES: Final = ("numpy", "onnxruntime", "tensorrt", "pycuda", "llama-cpp-python", "pywhispercpp")


def measure(
    machine: Machine,
    *,
    index: int = 0,
    only: Sequence[str] = (),
    models: Mapping[str, str] | None = None,
    engines: Mapping[str, Path] | None = None,
    audio: Path | None = None,
    seconds: float = SECONDS,
) -> Iterator[Line]:
    """Measure, line by line.

    Args:
        machine: opens the models.
        index: which of the GPUs that this process sees.
        only: what to measure: "product", "copies", "detect", "classify", "speech"; all of it if empty.
        models: for "detect", "classify" or "speech", the model; the task's default one otherwise.
        engines: for the same, what the GPU's runtime loads in place of the model.
        audio: a WAV file to transcribe.
        seconds: how long each figure of a model takes.

    Raises:
        BadInput: ``only``, ``models`` or ``engines`` names what there is not.
    """
    subjects = {subject.name: subject for subject in SUBJECTS}
    _check(only, ("product", "copies", *subjects))
    _check((*(models or {}), *(engines or {})), tuple(subjects))
    wanted = only or ("product", "copies", *subjects)
    if {"product", "copies"} & set(wanted):
        with _device(index) as device:
            if "product" in wanted:
                yield product_line(device)
            if "copies" in wanted:
                yield from copy_lines(device)
    if chosen := [subjects[name] for name in wanted if name in subjects]:
        sound, heard = some_audio(machine, audio) if Task.STT in {subject.task for subject in chosen} else (None, "")
        most = max(max(subject.batches, default=1) for subject in chosen)
        inputs = Inputs(drawn_images(most), sound, heard, models or {}, engines or {})
        for subject in chosen:
            yield from model_lines(machine, subject, inputs, seconds=seconds)


def _check(given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise BadInput(f"There is nothing called '{name}' to measure.", hint=f"There are: {', '.join(known)}.")


@contextmanager
def _device(index: int) -> Iterator[Device | str]:
    """The GPU, or why there is none."""
    try:
        device = Device(index)
    except PajamasError as error:
        yield str(error)
        return
    with device:
        yield device


def record(machine: Machine, lines: Sequence[Line], command: Sequence[str]) -> dict[str, Any]:
    """A benchmark's record: what was measured, on what, with what, how and when."""
    return {
        "benchmark": "gpu",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(command),
        "hardware": json.loads(to_json(machine.profile)),
        "versions": {"python": platform.python_version(), **dict(_versions())},
        "lines": [line.plain() for line in lines],
    }


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def pairs(given: Sequence[str]) -> dict[str, str]:
    """Take "detect=model.onnx" and the like apart.

    Raises:
        BadInput: one of them has no equals sign.
    """
    split = {name: value for name, sign, value in (one.partition("=") for one in given) if sign and value}
    if len(split) != len(given):
        raise BadInput("A model is named as WHAT=MODEL.", hint="For example: detect=yolov8n.onnx")
    return split


def told(side: Figure | str) -> str:
    """A figure with its spread, or the reason why there is none."""
    if isinstance(side, str):
        return side
    spread = f" ({side.low:,.4g} to {side.high:,.4g})"
    return f"{side}{spread}" + (f", {side.note}" if side.note else "")


def main(arguments: Sequence[str] | None = None, write: Callable[[str], object] = sys.stdout.write) -> int:
    """Measure and print, without the command line's packages.

    Returns:
        0, or 1 where a floor was not reached.
    """
    parser = argparse.ArgumentParser(prog="python -m llama_pajamas_run_core.bench.gpu", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the record there")
    parser.add_argument("--device", type=int, default=0, help="which of the visible GPUs")
    parser.add_argument("--only", action="append", default=[], help="product, copies, detect, classify or speech")
    parser.add_argument("--model", action="append", default=[], metavar="WHAT=MODEL")
    parser.add_argument("--engine", action="append", default=[], metavar="WHAT=PATH")
    parser.add_argument("--audio", type=Path, metavar="WAV")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each figure of a model")
    given = parser.parse_args(arguments)
    machine = Machine()
    lines = []
    try:
        engines = {name: Path(path) for name, path in pairs(given.engine).items()}
        for line in measure(
            machine,
            index=given.device,
            only=given.only,
            models=pairs(given.model),
            engines=engines,
            audio=given.audio,
            seconds=given.seconds,
        ):
            lines.append(line)
            write(f"{line.what}\n  CPU  {told(line.cpu)}\n  GPU  {told(line.gpu)}\n")
    except PajamasError as error:
        write(f"error: {error}\n")
        return 1
    if given.json is not None:
        text = json.dumps(record(machine, lines, [parser.prog, *(arguments or sys.argv[1:])]), indent=2)
        try:
            given.json.write_text(text + "\n", "utf-8")
        except OSError as error:
            write(f"error: {given.json} cannot be written: {error.strerror}.\n")
            return 1
    return 1 if any(line.reached is False for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
