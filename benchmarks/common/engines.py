"""TensorRT's subjects of gpu_vision.py: the bare engine, and our backend around it.

    python -m common.engines          # in benchmarks/, serves requests

``engine-fp16`` and ``engine-fp32`` run the engine on a batch that lies on the GPU and leave the outputs there: the
floor. ``ours`` takes uint8 pictures from the host's memory and gives boxes as arrays, or classes as Python objects.
"""

import os
import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from llama_pajamas_run_core.types.vision import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.pictures import pictures
from common.worker import serve

#: The batch sizes that the engines are built for.
_BATCH = "1:8:64"
#: Different pictures at the most.
_DIFFERENT = 16
#: Requests for single pictures that are under way at once, and batches.
_REQUESTS, _BATCHES = 32, 3


class EngineRun:
    """An engine with a batch on the GPU: the least that a start of it costs.

    Args:
        session: the engine.
        lane: a lane of it, taken for good.
        batch: rows.
    """

    def __init__(self, session: Any, lane: Any, batch: int) -> None:
        self._session, self._lane = session, lane
        tensor = session.inputs[0]
        images = np.random.default_rng(0).random((batch, *tensor.largest[1:]), np.float32)
        with session.device.current():
            self._feeds = {tensor.name: lane.upload(images.astype(tensor.dtype))}
            # Memory of its own, which the graph writes to: the lane's moves when a larger batch comes.
            self._made = lane.run(self._feeds, fresh=[one.name for one in session.outputs])
            self._graph = lane.record(self._feeds, self._made, before=lambda: None, after=lambda: None)
            lane.synchronize()

    def start(self) -> None:
        with self._session.device.current():
            self._begin()

    def wait(self) -> None:
        with self._session.device.current():
            self._lane.stream.synchronize()

    def once(self) -> None:
        with self._session.device.current():
            self._begin()
            self._lane.stream.synchronize()

    def _begin(self) -> None:
        """By its graph alone, as trtexec does: what a lane sees to before each run is not part of the floor."""
        if self._graph is None:
            self._lane.run(self._feeds, into=self._made)
        else:
            self._graph.launch(self._lane.stream)


class Engine:
    """Bare engines.

    Args:
        precision: "fp16" or "fp32".
    """

    def __init__(self, precision: str) -> None:
        self._precision = precision
        self._sessions: dict[str, tuple[Any, Any]] = {}

    def prepare(self, model: str, folder: Path, batch: int) -> EngineRun:
        return EngineRun(*self._session(model, folder), batch)

    def outputs(self, model: str, folder: Path, inputs: Path, to: Path) -> None:
        session, lane = self._session(model, folder)
        tensor = session.inputs[0]
        with session.device.current():
            made = lane.download_all(lane.run({tensor.name: np.load(inputs).astype(tensor.dtype)}))
        np.savez(to, *(one.astype(np.float32) for one in made.values()))

    def close(self) -> None:
        """Free them."""
        for session, _ in self._sessions.values():
            session.close()
        self._sessions.clear()

    def _session(self, model: str, folder: Path) -> tuple[Any, Any]:
        if model not in self._sessions:
            from llama_pajamas_run_tensorrt._session import Session
            from llama_pajamas_run_tensorrt.derive import vision_engine

            session = Session(vision_engine(folder, precision=self._precision, batch=_BATCH))
            self._sessions[model] = session, session.take_lane()
        return self._sessions[model]


class OurRun:
    """Our backend with pictures in the host's memory.

    Single pictures come as requests of their own, many at once, as a server gets them.
    """

    def __init__(self, backend: Any, pool: ThreadPoolExecutor, images: list[Image]) -> None:
        self._images, self._pool = images, pool
        self._look: Any = backend.detect if "detect" in backend.spec.tasks else backend.classify
        self._going: deque[Future[Any]] = deque()

    def start(self) -> None:
        self._going.append(self._pool.submit(self._look, self._images))

    def wait(self) -> None:
        while self._going:
            self._going.popleft().result()

    def once(self) -> None:
        self._look(self._images)


class Ours:
    """Our backend.

    Args:
        options: of the backend, besides those of the engine.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._backends: dict[str, Any] = {}
        self._requests = ThreadPoolExecutor(_REQUESTS, "request")
        self._batches = ThreadPoolExecutor(_BATCHES, "batch")

    def prepare(self, model: str, folder: Path, batch: int) -> OurRun:
        if model not in self._backends:
            from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

            self._backends[model] = TensorRTVisionBackend(folder, precision="fp16", batch=_BATCH, **self._options)
        spec = self._backends[model].spec
        different = pictures(min(batch, _DIFFERENT), spec.height, spec.width)
        images = [Image(different[index % len(different)]) for index in range(batch)]
        return OurRun(self._backends[model], self._requests if batch == 1 else self._batches, images)

    def outputs(self, model: str, folder: Path, inputs: Path, to: Path) -> None:
        raise ValueError("the backend gives boxes and classes; its engine's raw outputs are engine-fp16's")

    def close(self) -> None:
        """Free it."""
        for pool in (self._requests, self._batches):
            pool.shutdown()
        for backend in self._backends.values():
            backend.close()
        self._backends.clear()


SUBJECTS = {"engine-fp16": lambda: Engine("fp16"), "engine-fp32": lambda: Engine("fp32"), "ours": Ours}


def about() -> dict[str, Any]:
    """The versions, and the GPU.

    Raises:
        PajamasError: TensorRT, PyCUDA or a GPU is missing.
    """
    from llama_pajamas_run_tensorrt import _sdk
    from llama_pajamas_run_tensorrt._device import find_device

    return {"versions": {"tensorrt": _sdk.version()}, "device": find_device(None).name}


if __name__ == "__main__":
    serve(SUBJECTS, about)
    # TensorRT's and PyCUDA's own ending order is not ours to rely on.
    sys.stderr.flush()
    os._exit(0)
