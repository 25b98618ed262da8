r"""Vision on an NVIDIA GPU: our backend and its bare engine beside ONNX Runtime CUDA and PyTorch, in one run.

    python benchmarks/gpu_vision.py --models FOLDER
    python benchmarks/gpu_vision.py --models FOLDER --torch-python python3 --torch-path '' \
        --onnx-python python3 --onnx-path FOLDER_OF_ONNXRUNTIME_GPU --output results.json

FOLDER is where vision_models.py puts its models; those missing are made. Each framework runs in a process of its own,
if need be of another Python, and all of them run the same weights on batches of the same size. First each one is made
ready (engines are built, graphs compiled) and its outputs are compared with ONNX Runtime's on the processor; then in
each round every subject is measured once, one after the other, another one first each time. A framework that is not
there is left out, with the reason.

    ours                   uint8 pictures in the host's memory to boxes as arrays (objects of them are made when they
                           are asked for, and none is here) or classes as Python objects; back to back: single
                           pictures as requests of their own, 32 at once, larger batches 3 at once
    engine-fp16, -fp32     the TensorRT engine, input and outputs on the GPU: the floor
    onnxruntime-...        ONNX Runtime's CUDA provider, input and outputs on the GPU
    torch-eager, -compiled PyTorch in FP16, input and outputs on the GPU
"""

import argparse
import json
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import vision_models
from common import record
from common.figures import ratios, rounded, spread
from common.pictures import pictures
from common.worker import Worker

_HERE = Path(__file__).resolve().parent
_REFERENCE = "onnxruntime-cpu"
_FLOOR = "engine-fp16"
#: The part of the time limit that may go into making subjects ready.
_READY = 0.6
#: Scores from which a place counts as found, as the backends have it.
_FOUND = 0.25
#: Mean and deviation that the pictures of the classifiers are normalized with.
_MIDDLE, _SPREAD = 0.45, 0.25

Array = npt.NDArray[Any]


class Peers:
    """The processes, and which subject is in which.

    Args:
        workers: by framework.
        skip: subjects to leave out.
        processor: whether the reference on the processor is measured as well.
        patience: seconds after which nothing more is made ready.
    """

    def __init__(
        self, workers: Mapping[str, Worker], skip: Sequence[str], processor: bool = False, patience: float = math.inf
    ) -> None:
        self._end = time.monotonic() + patience
        self.about: dict[str, Any] = {}
        self.where: dict[str, Worker] = {}
        self._workers = workers
        for framework, worker in workers.items():
            told = worker.ask(do="about")
            self.about[framework] = told.get("error") or {key: told[key] for key in told if key != "subjects"}
            for subject in told.get("subjects", ()):
                if subject not in skip:
                    self.where[subject] = worker
        self.failed: dict[str, str] = {}
        #: The subjects that are measured.
        self.timed = [subject for subject in self.where if processor or subject != _REFERENCE]

    def ask(self, subject: str, **request: Any) -> dict[str, Any]:
        """Ask the process of a subject."""
        return self.where[subject].ask(subject=subject, **request)

    def prepare(self, requests: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
        """Make every subject ready; seconds by model and batch, and subject.

        TensorRT comes first and alone, because it times what it chooses from; the others then compile side by side.
        """
        seconds: dict[str, dict[str, float]] = {}
        first = self._workers.get("tensorrt")
        self._prepare(first, requests, seconds)
        others = [worker for worker in self._workers.values() if worker is not first]
        threads = [threading.Thread(target=self._prepare, args=(one, requests, seconds)) for one in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return seconds

    def _prepare(self, worker: Worker | None, requests: Sequence[Mapping[str, Any]], seconds: Any) -> None:
        for subject in self.timed:
            if self.where[subject] is not worker:
                continue
            for request in requests:
                name = case(subject, request)
                late = {"error": "no time was left to make it ready"} if time.monotonic() > self._end else None
                told = late or self.ask(subject, do="prepare", **request)
                if "error" in told:
                    self.failed[name] = told["error"]
                    print(f"{name}: left out: {told['error']}", file=sys.stderr)
                else:
                    seconds.setdefault(subject, {})[f"{request['model']} {request['batch']}"] = rounded(told["seconds"])

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers.values():
            worker.close()


def case(subject: str, request: Mapping[str, Any]) -> str:
    """What a measurement is called."""
    return f"{request['model']} {request['batch']} {subject}"


def start(given: argparse.Namespace) -> Peers:
    """Start the processes."""
    base = {"PYTHONPATH": ""}

    def environment(path: str | None, libraries: str | None) -> dict[str, str]:
        made = base if path is None else {"PYTHONPATH": path}
        return made if libraries is None else {**made, "LD_LIBRARY_PATH": libraries}

    own = {"PYTHONPATH": os.pathsep.join(filter(None, [str(_HERE), os.environ.get("PYTHONPATH", "")]))}
    workers = {}
    if "tensorrt" not in given.without:
        workers["tensorrt"] = Worker([sys.executable, str(_HERE / "common" / "engines.py")], own)
    if "onnxruntime" not in given.without:
        command = [given.onnx_python, str(_HERE / "onnx_cuda_vision.py"), "--serve"]
        workers["onnxruntime"] = Worker(command, environment(given.onnx_path, given.onnx_libraries))
    if "torch" not in given.without:
        command = [given.torch_python, str(_HERE / "torch_vision.py"), "--serve"]
        workers["torch"] = Worker(command, environment(given.torch_path, given.torch_libraries))
    return Peers(workers, given.skip.split(","), given.processor, given.limit * _READY)


def measure(
    peers: Peers, requests: Sequence[Mapping[str, Any]], rounds: int, seconds: float, end: float
) -> Iterator[dict[str, Any]]:
    """Figures by model, batch and subject; so far, after each model and batch.

    Args:
        peers: made ready.
        requests: the models and batches.
        rounds: how often each subject is measured.
        seconds: how long each time.
        end: when to begin no more of them, by the monotonic clock.
    """
    found: dict[str, Any] = {}
    for request in requests:
        if time.monotonic() > end:
            peers.failed[f"{request['model']} {request['batch']}"] = "no time was left"
            continue
        names = [name for name in peers.timed if case(name, request) not in peers.failed]
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for turn in range(rounds):
            first = turn % max(1, len(names))
            for name in names[first:] + names[:first]:
                if (label := case(name, request)) in peers.failed:
                    continue
                told = peers.ask(name, do="measure", seconds=seconds, **request)
                if "error" in told:
                    peers.failed[label] = told["error"]
                    print(f"{label}: left out: {told['error']}", file=sys.stderr)
                else:
                    runs[name].append(told)
        whole = {name: every for name, every in runs.items() if len(every) == rounds}
        found.setdefault(request["model"], {})[str(request["batch"])] = figures(whole, request["batch"])
        yield found


def figures(runs: Mapping[str, Sequence[Mapping[str, float]]], batch: int) -> dict[str, Any]:
    """The spread of each subject's times, and of the ratios to the bare engine, taken within a round."""
    made: dict[str, Any] = {}
    for name, every in runs.items():
        latency, behind = ([one[key] for one in every] for key in ("latency_ms", "back_to_back_ms"))
        made[name] = {
            "latency_ms": spread(latency),
            "back_to_back_ms": spread(behind),
            "images_per_s": spread([batch / one * 1e3 for one in behind]),
        }
        if _FLOOR in runs and name != _FLOOR:
            floor = runs[_FLOOR]
            made[name]["latency_over_engine"] = ratios(latency, [one["latency_ms"] for one in floor])
            made[name]["throughput_over_engine"] = ratios([one["back_to_back_ms"] for one in floor], behind)
    return made


def compare(peers: Peers, model: str, folder: Path) -> dict[str, Any]:
    """How far each subject's outputs are from ONNX Runtime's on the processor, on the same pictures."""
    if _REFERENCE not in peers.where:
        return {"error": f"no {_REFERENCE} to compare with"}
    with tempfile.TemporaryDirectory() as part:
        inputs, count = Path(part) / "inputs.npy", 8
        size = onnx.load(folder / "model.onnx").graph.input[0].type.tensor_type.shape.dim[2].dim_value
        images = np.stack(pictures(count, size, size, seed=500)).transpose(0, 3, 1, 2).astype(np.float32) / 255
        np.save(inputs, images if model.startswith("yolo") else (images - np.float32(_MIDDLE)) / np.float32(_SPREAD))
        made: dict[str, list[Array]] = {}
        found: dict[str, Any] = {}
        for name in peers.where:
            to = Path(part) / f"{name}.npz"
            if name == "ours":
                continue
            told = peers.ask(name, do="outputs", model=model, folder=str(folder), inputs=str(inputs), to=str(to))
            if "error" in told:
                found[name] = told
            else:
                with np.load(to) as arrays:
                    made[name] = list(arrays.values())
    if _REFERENCE not in made:
        return found
    reference = made.pop(_REFERENCE)
    return found | {name: difference(outputs, reference) for name, outputs in made.items()}


def difference(outputs: Sequence[Array], reference: Sequence[Array]) -> dict[str, Any]:
    """The largest difference over the largest value, and what it means for boxes or classes."""
    mine, theirs = outputs[0], reference[0]
    found: dict[str, Any] = {"relative": rounded(float(np.abs(mine - theirs).max() / np.abs(theirs).max()))}
    if mine.ndim == 2:
        return found | {"top1_equal": rounded(float((mine.argmax(1) == theirs.argmax(1)).mean()))}
    # Place by place, so that a change of order in the suppression of doubles does not count as a change of boxes.
    sure = theirs[:, 4:84].max(axis=1) > _FOUND
    ours, known = (np.moveaxis(one, 1, 2)[sure] for one in (mine, theirs))
    if not len(known):
        return found | {"places": 0}
    share = overlaps(ours[:, :4], known[:, :4])
    return found | {
        "places": len(known),
        "iou_mean": round(float(share.mean()), 5),
        "iou_lowest": round(float(share.min()), 5),
        "class_equal": rounded(float((ours[:, 4:84].argmax(1) == known[:, 4:84].argmax(1)).mean())),
        "score_largest_difference": rounded(float(np.abs(ours[:, 4:84].max(1) - known[:, 4:84].max(1)).max())),
    }


def overlaps(a: Array, b: Array) -> Array:
    """Intersection over union of boxes [n, 4] with centre, width and height, pair by pair."""
    low = np.maximum(a[:, :2] - a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2)
    high = np.minimum(a[:, :2] + a[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2)
    shared = (high - low).clip(0).prod(axis=1)
    made: Array = shared / (a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1) - shared)
    return made


def show(found: Mapping[str, Any]) -> None:
    """Print a table for each model."""
    for model, by_batch in found.items():
        rows = []
        for batch, by_name in by_batch.items():
            for name, one in by_name.items():
                over = one.get("latency_over_engine", {}).get("median")
                through = one.get("throughput_over_engine", {}).get("median")
                rates = [one["images_per_s"][key] for key in ("median", "low", "high")]
                rows.append([name, int(batch), one["latency_ms"]["median"], over, *rates, through])
        head = ["subject", "batch", "latency ms", "/ engine", "images/s", "low", "high", "/ engine"]
        print(f"\n{model}\n{record.table(head, rows)}")


def options() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="where the models are kept; the user's cache folder by default")
    parser.add_argument("--only", default="yolov8n,resnet50", help="the models")
    parser.add_argument("--batches", default="1,8,64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each subject in each round")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds after which nothing more is begun")
    parser.add_argument("--skip", default="engine-fp32,torch-eager-fp32", help="subjects to leave out")
    parser.add_argument("--without", default="", help="frameworks to leave out: tensorrt, onnxruntime, torch")
    parser.add_argument("--processor", action="store_true", help="measure ONNX Runtime on the processor as well")
    for framework in ("torch", "onnx"):
        parser.add_argument(f"--{framework}-python", default=sys.executable, help="the Python that has it")
        parser.add_argument(f"--{framework}-path", help="PYTHONPATH of that process")
        parser.add_argument(f"--{framework}-libraries", help="LD_LIBRARY_PATH of that process")
    parser.add_argument("--output", type=Path, help="the JSON file; benchmarks/results/<date>-... by default")
    parser.add_argument("--machine", help="name of the machine, for the file's name")
    return parser.parse_args()


def main() -> int:
    """Measure, compare, print, write."""
    given = options()
    models = {name: vision_models.model_path(name, given.models) for name in given.only.split(",")}
    requests = [
        {"model": name, "folder": str(folder), "batch": batch}
        for name, folder in models.items()
        for batch in map(int, given.batches.split(","))
    ]
    end = time.monotonic() + given.limit
    peers, path, found = start(given), given.output, {}
    try:
        ready = peers.prepare(requests)
        differences = {name: compare(peers, name, folder) for name, folder in models.items()}
        print(json.dumps(differences, indent=1))
        # Written as it grows: what is measured is kept, whatever comes in between.
        for found in measure(peers, requests, given.rounds, given.seconds, end):
            content = {
                "subjects": peers.about,
                "ready_in_s": ready,
                "models": found,
                "outputs_against_onnxruntime_cpu": differences,
                "left_out": peers.failed,
            }
            path = record.write("gpu_vision", content, name=given.machine, path=path)
    finally:
        peers.close()
    show(found)
    if path is not None:
        print(f"\n{path.name}")
    return 0 if found and any(by_name for by_batch in found.values() for by_name in by_batch.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
