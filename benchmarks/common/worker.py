"""A subject of a GPU benchmark in a process of its own, perhaps of another Python, asked by lines of JSON.

    {"do": "prepare", "subject": "torch-eager", "model": "yolov8n", "folder": "...", "batch": 8}
    {"do": "measure", "subject": "torch-eager", "model": "yolov8n", "folder": "...", "batch": 8, "seconds": 0.5}
    {"do": "outputs", "subject": "torch-eager", "model": "yolov8n", "folder": "...", "inputs": "a.npy", "to": "b.npz"}

Only the standard library is imported here, so that any interpreter can run a subject.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Run(Protocol):
    """A model ready to run on one batch that lies on the GPU."""

    def start(self) -> None:
        """Put one more batch into the GPU's queue, without waiting for it."""

    def wait(self) -> None:
        """Wait until the GPU has done all that was started."""

    def once(self) -> None:
        """Run one batch and wait for it."""


class Subject(Protocol):
    """One way to run models."""

    def prepare(self, model: str, folder: Path, batch: int) -> Run:
        """Make a model ready for batches of one size, on inputs of its own."""

    def outputs(self, model: str, folder: Path, inputs: Path, to: Path) -> None:
        """Run a batch from a .npy file and write the outputs, float32, as an .npz file."""


def measured(run: Run, seconds: float, least: int = 5) -> dict[str, float]:
    """Time a prepared model.

    Args:
        run: the model.
        seconds: for about so long.
        least: how many batches alone at least.

    Returns:
        ``latency_ms``, the median time of a batch with nothing else under way, and ``back_to_back_ms``, the time of
        each batch where the next is started without waiting.
    """
    for _ in range(3):
        run.start()
    run.wait()
    alone = []
    until = time.perf_counter() + seconds / 2
    while len(alone) < least or time.perf_counter() < until:
        start = time.perf_counter()
        run.once()
        alone.append(time.perf_counter() - start)
    alone.sort()
    latency = alone[len(alone) // 2]
    count = max(10, int(seconds / 2 / latency))
    start = time.perf_counter()
    for _ in range(count):
        run.start()
    run.wait()
    return {"latency_ms": latency * 1e3, "back_to_back_ms": (time.perf_counter() - start) / count * 1e3}


def alone(
    subjects: Mapping[str, Callable[[], Subject]],
    folder: Path,
    models: Sequence[str],
    batches: Sequence[int],
    rounds: int,
) -> dict[str, Any]:
    """Measure subjects by themselves, in turns; prints a line for each.

    Returns:
        by model, batch and subject the median figures with those of all rounds, or the ``error``.
    """
    found: dict[str, Any] = {}
    for model in models:
        place = model_folder(folder, model)
        for batch in batches:
            runs, cell = {}, found.setdefault(model, {}).setdefault(str(batch), {})
            for name, make in subjects.items():
                try:
                    runs[name] = make().prepare(model, place, batch)
                    runs[name].once()
                except Exception as error:  # SDKs' errors share no base below Exception
                    runs.pop(name, None)
                    cell[name] = {"error": _short(error)}
            times = [{name: measured(run, 0.5) for name, run in runs.items()} for _ in range(rounds)]
            for name in runs:
                every = [one[name] for one in times]
                cell[name] = {key: statistics.median(one[key] for one in every) for key in every[0]}
                cell[name]["rounds"] = every
            for name, figures in cell.items():
                print(f"{model} {batch:3d} {name:22s} {figures.get('error') or figures['back_to_back_ms']}")
    return found


def alone_options(description: str | None) -> argparse.Namespace:
    """What a script of subjects was asked for: to serve, or to measure them by themselves."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", help="answer gpu_vision.py's requests")
    parser.add_argument("--models", type=Path, help="folder with the folders that vision_models.py made")
    parser.add_argument("--only", default="yolov8n,resnet50", help="the models")
    parser.add_argument("--batches", default="1,8,64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    given = parser.parse_args()
    if not given.serve and given.models is None:
        parser.error("--models is needed")
    return given


def model_folder(folder: Path, model: str) -> Path:
    """Where vision_models.py put a model: the newest of that name.

    Raises:
        FileNotFoundError: it did not.
    """
    found = sorted(
        (path for path in folder.glob(f"{model}-*") if path.name[len(model) + 1 :].isdigit()),
        key=lambda path: path.stat().st_mtime,
    )
    if not found:
        raise FileNotFoundError(
            f"{folder} has no {model}: python benchmarks/vision_models.py {model} --folder {folder}"
        )
    return found[-1]


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


def serve(subjects: Mapping[str, Callable[[], Subject]], about: Callable[[], Mapping[str, Any]]) -> None:
    """Answer requests from standard input until it ends.

    Args:
        subjects: what makes each subject.
        about: tells the versions of what the subjects use.
    """
    # What libraries print must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    made: dict[str, Subject] = {}
    runs: dict[tuple[Any, ...], Run] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = _answer(asked, subjects, about, made, runs)
        except Exception as error:
            traceback.print_exc(limit=-2, file=sys.stderr)
            answer = {"error": _short(error)}
        answers.write(json.dumps(answer) + "\n")


def _answer(
    asked: Mapping[str, Any],
    subjects: Mapping[str, Callable[[], Subject]],
    about: Callable[[], Mapping[str, Any]],
    made: dict[str, Subject],
    runs: dict[tuple[Any, ...], Run],
) -> Mapping[str, Any]:
    if asked["do"] == "about":
        return {"subjects": list(subjects), **about()}
    name, model, folder = asked["subject"], asked["model"], Path(asked["folder"])
    if name not in made:
        made[name] = subjects[name]()
    if asked["do"] == "outputs":
        made[name].outputs(model, folder, Path(asked["inputs"]), Path(asked["to"]))
        return {}
    key = (name, model, asked["batch"])
    if key not in runs:
        start = time.perf_counter()
        runs[key] = made[name].prepare(model, folder, asked["batch"])
        runs[key].once()
        if asked["do"] == "prepare":
            return {"seconds": time.perf_counter() - start}
    return {} if asked["do"] == "prepare" else measured(runs[key], asked["seconds"], asked.get("least", 5))


class Worker:
    """The other end: a process that serves subjects.

    Args:
        command: starts it.
        environment: added to this process's own.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, **(environment or {})},
        )
        self._lock = threading.Lock()
        self._failed: str | None = None

    def ask(self, **request: Any) -> dict[str, Any]:
        """Ask for something; a process that died answers with an error from then on."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            try:
                self._process.stdin.write(json.dumps(request, default=str) + "\n")
                line = self._process.stdout.readline()
            except (BrokenPipeError, ValueError):
                line = ""
            if not line:
                self._failed = self._failed or f"the process ended with {self._process.wait()}"
                return {"error": self._failed}
            answer: dict[str, Any] = json.loads(line)
            return answer

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
