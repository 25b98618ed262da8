"""Pictures through the TensorRT backend, beside the bare engine: latency, throughput, and requests worked on together.

    python benchmarks/tensorrt_vision.py --models FOLDER --only yolov8n,resnet50
    python benchmarks/tensorrt_vision.py --model starter/.../detect --output results.json

A model is the folder that vision_models.py made, or any ONNX model; its FP16 engine is built first, for batches of 1 to
64, and kept. In each round these take turns, on the same pictures (uint8, in the host's memory):

- the bare engine, its input on the GPU already: enqueued and waited for, by plain calls and as a CUDA graph; the faster
  of the two is the floor that the ratios refer to
- one request at a time through the backend: from the pixels to boxes (or classes); from any picture, which is copied to
  page-locked memory first, and from a canvas of the backend's own, which lies there
- batches of the engine's largest size, one call with many pictures; boxes come as arrays, and a second time an object
  of Python's is made for each of them as well (a random network finds far more of them than a trained one); from
  canvases besides
- requests of one picture from many threads, coalesced

The stages of a single request are measured besides: preparing (copying), launching, waiting, making the results.
"""

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from common import record
from common.engines import EngineRun
from common.figures import percentile, spread
from common.pictures import pictures
from common.worker import model_folder

from llama_pajamas_run_core.types.vision import DetectOptions, Image

_STAGES = ("prepare", "launch", "wait", "results")
#: How many requests are taken apart, and how many calls are timed at least.
_STAGED, _LEAST = 300, 20


class Bare(EngineRun):
    """The engine alone, its input on the GPU.

    Args:
        engine: the file.
        batch: rows.
        graph: whether it is started as a CUDA graph, or by TensorRT's call each time.
    """

    def __init__(self, engine: Path, batch: int, *, graph: bool) -> None:
        from llama_pajamas_run_tensorrt._session import Session

        session = Session(engine, graphs=graph)
        super().__init__(session, session.take_lane(), batch)
        for _ in range(5):
            self.once()

    def many(self, count: int) -> None:
        """Batches one behind the other."""
        for _ in range(count):
            self.start()
        self.wait()

    def close(self) -> None:
        """Free it."""
        self._session.close()


def times_of(work: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of each call, for about so long."""
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while len(taken) < _LEAST or time.perf_counter() < until:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken


def together(ask: Callable[[Image], Any], images: Sequence[Image], callers: int, seconds: float) -> dict[str, Any]:
    """Requests of one picture from many threads: pictures a second, and how long each request took."""
    taken: list[list[float]] = [[] for _ in range(callers)]
    ready, end = threading.Barrier(callers + 1), threading.Event()

    def caller(number: int) -> None:
        ready.wait()
        turn = number
        while not end.is_set():
            start = time.perf_counter()
            ask(images[turn % len(images)])
            taken[number].append(time.perf_counter() - start)
            turn += callers

    threads = [threading.Thread(target=caller, args=(number,), daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    time.sleep(seconds)
    end.set()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - start
    every = [one for each in taken for one in each]
    return {
        "images_per_s": len(every) / wall,
        "p50_ms": percentile(every, 50) * 1e3,
        "p99_ms": percentile(every, 99) * 1e3,
    }


def rates_of(ask_many: Callable[[], Sequence[Sequence[Any]]]) -> dict[str, float]:
    """Pictures a second of one call with many: as the results come, and with an object made for each thing found."""
    marks = [time.perf_counter()]
    count = len(ask_many())
    marks.append(time.perf_counter())
    for found in ask_many():
        list(found)
    marks.append(time.perf_counter())
    return {
        "backend_images_per_s": count / (marks[1] - marks[0]),
        "backend_with_objects_images_per_s": count / (marks[2] - marks[1]),
    }


def drawn_on(canvas: Image, image: Image) -> Image:
    """The canvas, with the picture on it."""
    canvas.pixels[:] = image.pixels
    return canvas


def _ask_next(ask: Callable[[Image], Any], turns: Iterator[Image]) -> None:
    ask(next(turns))


def stages(backend: Any, image: Image) -> dict[str, float]:
    """Where the time of a single request goes, in milliseconds: medians."""
    from llama_pajamas_run_tensorrt._pipeline import Job

    detects = "detect" in backend.spec.tasks
    job = Job(image, DetectOptions(), make=backend._make) if detects else Job(image, read=backend._reading_of(5))
    place = backend._batcher.borrow()
    laps: dict[str, list[float]] = {}
    try:
        with backend._session.device.current():
            for _ in range(_STAGED):
                marks = [time.perf_counter()]
                for step in (lambda: place.prepare([job]), place.launch, place.wait, place.results):
                    step()
                    marks.append(time.perf_counter())
                for name, first, last in zip(_STAGES, marks[:-1], marks[1:], strict=True):
                    laps.setdefault(name, []).append((last - first) * 1e3)
    finally:
        backend._batcher.give_back(place)
    return {name: round(statistics.median(values), 4) for name, values in laps.items()}


def measure(model: Path, given: argparse.Namespace, opened: ExitStack) -> dict[str, Any]:
    """All figures of one model; what it opens is closed with ``opened``."""
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

    start = time.perf_counter()
    options = {"precision": given.precision, "batch": given.batch, "lanes": given.lanes}
    backend = opened.enter_context(TensorRTVisionBackend(model, **options))
    loaded = time.perf_counter() - start
    engine, most = backend._session.path, backend._batcher.most
    detects = "detect" in backend.spec.tasks
    height, width = given.height or backend.spec.height, given.width or backend.spec.width
    images = [Image(one) for one in pictures(min(most, 64), height, width, seed=7)]
    drawn = [drawn_on(backend.canvas(width, height), image) for image in images]

    def ask(image: Image) -> Any:
        return backend.detect([image]) if detects else backend.classify([image])

    def ask_many(among: Sequence[Image] = images) -> Any:
        many = [among[i % len(among)] for i in range(most * given.batches)]
        return backend.detect(many) if detects else backend.classify(many)

    found: dict[str, Any] = {
        "model": model.name, "engine": engine.name, "picture": f"{width}x{height}", "loaded_s": round(loaded, 1),
        "largest_batch": most, "lanes": given.lanes, "details": dict(backend.details),
    }  # fmt: skip
    bare = {
        (name, batch): Bare(engine, batch, graph=graph)
        for name, graph in (("plain", False), ("graph", True))
        for batch in (1, most)
    }
    for one in bare.values():
        opened.callback(one.close)
    for _ in range(50):
        ask(images[0])
    ask_many()
    found["boxes_or_classes"] = statistics.median(len(one) for one in ask_many())
    lines: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        lines.setdefault(name, []).append(value)

    for _ in range(given.rounds):
        for name in ("plain", "graph"):
            note(f"bare_{name}_ms", statistics.median(times_of(bare[name, 1].once, given.seconds)) * 1e3)
        turns = cycle(images)
        alone = times_of(partial(_ask_next, ask, turns), given.seconds)
        note("backend_ms", statistics.median(alone) * 1e3)
        note("backend_p99_ms", percentile(alone, 99) * 1e3)
        hot = times_of(lambda: ask(images[0]), given.seconds / 2)
        note("backend_same_picture_ms", statistics.median(hot) * 1e3)
        turns = cycle(drawn)
        note("canvas_ms", statistics.median(times_of(partial(_ask_next, ask, turns), given.seconds)) * 1e3)
        for name in ("plain", "graph"):
            began = time.perf_counter()
            bare[name, most].many(given.batches)
            note(f"bare_{name}_images_per_s", most * given.batches / (time.perf_counter() - began))
        crowd = together(ask, images, given.callers, 2 * given.seconds)
        for name, value in (rates_of(ask_many) | {f"coalesced_{name}": value for name, value in crowd.items()}).items():
            note(name, value)
        note("canvas_images_per_s", rates_of(partial(ask_many, drawn))["backend_images_per_s"])
    found["figures"] = {name: spread(values) for name, values in lines.items()}
    floor_ms = min(found["figures"][f"bare_{name}_ms"]["median"] for name in ("plain", "graph"))
    floor_rate = max(found["figures"][f"bare_{name}_images_per_s"]["median"] for name in ("plain", "graph"))
    found["ratios"] = {
        "latency_to_bare": round(found["figures"]["backend_ms"]["median"] / floor_ms, 3),
        "throughput_to_bare": round(found["figures"]["backend_images_per_s"]["median"] / floor_rate, 3),
        "canvas_latency_to_bare": round(found["figures"]["canvas_ms"]["median"] / floor_ms, 3),
        "canvas_throughput_to_bare": round(found["figures"]["canvas_images_per_s"]["median"] / floor_rate, 3),
        "latency_to_bare_plain": round(
            found["figures"]["backend_ms"]["median"] / found["figures"]["bare_plain_ms"]["median"], 3
        ),
    }
    found["callers"] = given.callers
    found["stages_ms"] = stages(backend, images[0])
    found["batches"] = dict(backend.details["batches"])
    return found


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="the folder in which vision_models.py put its models")
    parser.add_argument("--only", default="yolov8n,resnet50", help="which of those")
    parser.add_argument("--model", type=Path, action="append", default=[], help="an ONNX model besides")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--batch", default="1:8:64")
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--batches", type=int, default=20, help="batches of a throughput run")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each latency run")
    parser.add_argument("--height", type=int, help="of the pictures; the model's input by default")
    parser.add_argument("--width", type=int)
    parser.add_argument("--output", type=Path, help="the JSON file; benchmarks/results/<date>-... by default")
    parser.add_argument("--machine", help="name of the machine, for the file's name")
    given = parser.parse_args()
    paths = [model_folder(given.models, name) for name in given.only.split(",")] if given.models else []
    results: dict[str, Any] = {}
    for path in (*paths, *given.model):
        try:
            with ExitStack() as opened:
                results[path.name] = found = measure(path, given, opened)
        except Exception as error:  # of one model, so that the others are measured
            results[path.name] = {"error": f"{type(error).__name__}: {error}"}
            print(f"{path.name}: {results[path.name]['error']}", file=sys.stderr)
            if not isinstance(error, RuntimeError | OSError):
                import traceback

                traceback.print_exc()
            continue
        print(f"{path.name}, {found['picture']}, {given.precision}: {found['ratios']}, stages {found['stages_ms']} ms")
        for name, figures in found["figures"].items():
            print(f"  {name:28s} {figures['median']:>10} ({figures['low']} to {figures['high']})")
    path = record.write("tensorrt_vision", {"models": results}, name=given.machine, path=given.output)
    print(f"\n{path.name}")
    return 0 if all("error" not in one for one in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
