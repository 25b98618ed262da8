"""Engines loaded and run.

A :class:`Session` is one engine on one GPU. It has one or more :class:`Lane`: each its own stream, execution contexts
and memory, so that several threads run the engine at the same time, one in each lane.

Three ways to use it, from plain to fast::

    outputs = session.infer({"images": batch})                         # NumPy in, NumPy out

    outputs = session.infer({"ids": ids, "past": cache}, keep=["present"])
    cache = outputs["present"]                                         # a DeviceArray: it never left the GPU

    with session.lane() as lane:                                       # a lane of one's own for a while
        pixels = lane.input("images", (8, 3, 640, 640))                # where the engine will read it
        my_kernel(pixels.address, stream=lane.stream, ...)
        raw = lane.run({"images": pixels})                             # DeviceArrays; nothing has been waited for
        my_other_kernel(raw["output0"].address, stream=lane.stream, ...)
        boxes = lane.download(raw["output0"])                          # waits

All work of a lane goes on ``lane.stream``, a stream that does not wait for CUDA's default stream.
"""

import atexit
import ctypes
import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from llama_pajamas_run_core.errors import BadInput, LoadError, OutOfMemory, Unsupported
from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt._device import GPU, find_device
from llama_pajamas_run_tensorrt._lane import Feed, Lane
from llama_pajamas_run_tensorrt._versions import Differences, differences
from llama_pajamas_run_tensorrt.engine_file import (
    EngineFile,
    EngineRecord,
    check_engine,
    checksum,
    engine_cache,
    read_engine,
)
from llama_pajamas_run_tensorrt.memory import Budget, DeviceArray
from llama_pajamas_run_tensorrt.tensors import Shape, Tensor, named

__all__ = ["DeviceArray", "EngineRecord", "Feed", "Lane", "Session", "Tensor", "find_device"]

logger = logging.getLogger(__name__)

#: Room that has to be left on the device beside an engine's own size: CUDA's and TensorRT's own needs.
_HEADROOM: Final = 64 << 20
#: Seconds after which an engine that is looked at in another process is given up.
_PROBE_SECONDS: Final = 300
#: Seconds that the end of the process waits for a run.
_LEAVE_SECONDS: Final = 2.0
_TYPES: Final[Mapping[str, type[np.generic]]] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
}


class Session:
    """A loaded engine.

    Safe to use from several threads: each call takes a lane of its own, or waits for one.

    Args:
        path: the engine's file.
        device: CUDA's index of the GPU, or its UUID ("GPU-..."); None for the first.
        trust: whether to run an engine that was not built on this machine. An engine is code.
        lanes: how many calls run at the same time.
        memory_limit: bytes that the engine, the lanes' buffers and their scratch memory may take; None for all that
            the GPU has.
        graphs: whether work of a shape that comes back is captured once and then started with one call.

    Raises:
        BadInput: there is no such file or GPU, it is no engine, or nobody vouches for it.
        LoadError: it is damaged or was built for another version or GPU; the message says what to build anew.
        OutOfMemory: it does not fit.
        Unsupported: it uses types that NumPy lacks, or this TensorRT is too old.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        device: int | str | None = None,
        trust: bool = False,
        lanes: int = 1,
        memory_limit: int | None = None,
        graphs: bool = True,
    ) -> None:
        if lanes < 1:
            raise BadInput(f"lanes must be at least 1, not {lanes}.", param="lanes")
        self.path = Path(path)
        self._closed = True
        self.file: EngineFile = read_engine(self.path)
        self.device = find_device(device)
        check_engine(
            self.file,
            tensorrt=_sdk.version(),
            capability=self.device.capability,
            gpu=self.device.name,
            trust=trust,
        )
        if self.file.record is None:
            probe(self.file, self.device)
        self._budget = Budget(memory_limit, f"GPU {self.device.index}")
        self._pinned_budget = Budget()
        self._graphs = graphs
        self._lanes: list[Lane] = []
        self._idle: dict[int, Lane] = {}
        self._taken = 0
        self._turn = threading.Condition()
        self._closed = False
        with self.device.current():
            try:
                self._open(lanes)
            except BaseException:
                self._close()
                raise
        _sessions.add(self)

    @property
    def record(self) -> EngineRecord | None:
        """What the sidecar says about the engine, with the description for its room; None without a sidecar."""
        return self.file.record

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What Ultralytics wrote into the file: names, imgsz, task, stride, ...; else empty."""
        return self.file.metadata

    @property
    def lanes(self) -> int:
        """How many calls run at the same time."""
        return len(self._lanes)

    @property
    def max_batch(self) -> int:
        """The largest first size of the first input, over all profiles."""
        shape = self.inputs[0].largest
        return shape[0] if shape else 1

    @property
    def memory(self) -> int:
        """Bytes of the GPU that the engine and its lanes take now."""
        return self._budget.used

    @property
    def host_memory(self) -> int:
        """Bytes of pinned host memory in use; the engine itself is on the GPU."""
        return self._pinned_budget.used

    @property
    def details(self) -> Mapping[str, Any]:
        """Facts for people: versions, GPU, precision, profiles, lanes, memory, graphs. JSON values only."""
        record = self.record
        return {
            "device": f"cuda:{self.device.index}",
            "gpu": self.device.name,
            "tensorrt": _sdk.version(),
            "file": self.path.name,
            "precision": record.precision if record else "as built",
            "inputs": {one.name: [list(shape) for shape in one.limits[0]] if one.limits else list(one.largest)
                       for one in self.inputs},
            "lanes": len(self._lanes),
            "memory": self.memory,
            "graphs": self.graphs_state,
        }  # fmt: skip

    @property
    def graphs_state(self) -> str:
        """Whether CUDA graphs are used, and if not, why."""
        if not self._graphs:
            return "off"
        return next((f"off: {lane.no_graphs}" for lane in self._lanes if lane.no_graphs), "on")

    def input(self, name: str) -> Tensor:
        """The input of that name. Raises BadInput where there is none."""
        return named(self.inputs, name, "input")

    def output(self, name: str) -> Tensor:
        """The output of that name. Raises BadInput where there is none."""
        return named(self.outputs, name, "output")

    def infer(
        self, feeds: Mapping[str, Feed], *, lane: "Lane | int | None" = None, keep: Collection[str] = ()
    ) -> dict[str, Any]:
        """Run the engine once, and wait for it.

        Args:
            feeds: for each input a NumPy array, brought to the input's type, or a DeviceArray of just that type.
            lane: the lane to run in; None for any that is free.
            keep: outputs that are to stay on the GPU: each comes as a DeviceArray that is the caller's own.

        Returns:
            the outputs by name, in the engine's order: NumPy arrays, and DeviceArrays for those in ``keep``.

        Raises:
            BadInput: an input is missing, unknown, or of a shape that the engine's profiles do not take; the message
                names the limit.
            InferenceError: the engine failed.
            OutOfMemory: memory ran out; the session can be used on.
        """
        with self.lane(lane) as running:
            made = running.run(feeds, fresh=keep)
            wanted = {name: array for name, array in made.items() if name not in keep}
            return {**made, **running.download_all(wanted)}

    @contextmanager
    def lane(self, which: "Lane | int | None" = None) -> Iterator["Lane"]:
        """A lane for one thread alone, with its GPU current; waits until one is free.

        Args:
            which: a lane that this thread already has (it is given again), the index of one, or None for any.
        """
        if self._closed:
            raise BadInput(f"{self.path} was closed.")
        if isinstance(which, Lane):
            with self.device.current():
                yield which
            return
        lane = self._borrow(which)
        try:
            with self.device.current():
                yield lane
        finally:
            with self._turn:
                self._idle[lane.index] = lane
                self._turn.notify_all()

    def take_lane(self) -> Lane:
        """A lane for good, until the session is closed; waits until one is free. Use it with the GPU current."""
        lane = self._borrow(None)
        self._taken += 1
        return lane

    def close(self) -> None:
        """Free the engine and its memory, once the lanes in use are given back. Harmless when it was.
        A thread must not close it while it has a lane itself.
        """
        with self._turn:
            if self._closed:
                return
            self._closed = True
            self._turn.notify_all()
            self._turn.wait_for(lambda: len(self._idle) + self._taken == len(self._lanes))
        with self.device.current():
            self._close()

    def _borrow(self, index: int | None) -> Lane:
        if index is not None and not 0 <= index < len(self._lanes):
            raise BadInput(f"There is no lane {index}; lanes are 0 to {len(self._lanes) - 1}.", param="lane")
        with self._turn:
            self._turn.wait_for(lambda: self._closed or (index in self._idle if index is not None else self._idle))
            if self._closed:
                raise BadInput(f"{self.path} was closed.")
            return self._idle.pop(next(iter(self._idle)) if index is None else index)

    def _open(self, lanes: int) -> None:
        self.log = _sdk.make_log()
        self.differences: Differences = differences(_sdk.version())
        with _sdk.mapped(LoadError, f"{self.path} could not be loaded", self.log):
            if not self._budget.fits(self.file.size):
                raise OutOfMemory(
                    f"{self.path} alone takes {self.file.size:,} bytes, past the "
                    f"memory_limit of {self._budget.limit:,}."
                )
            free, total = _sdk.cuda.mem_get_info()
            if self.file.size + _HEADROOM > free:
                raise OutOfMemory(
                    f"{self.path} needs about {self.file.size + _HEADROOM:,} bytes, GPU {self.device.index} has "
                    f"{free:,} free of {total:,}.",
                    hint="Free other models, or use another GPU.",
                )
            self._runtime = _sdk.tensorrt.Runtime(self.log)
            self.engine = self._runtime.deserialize_cuda_engine(self.file.plan())
            if self.engine is None:
                raise LoadError(f"{self.path} could not be loaded: {self.log.told()}.")
            self.inputs, self.outputs = _tensors(self.engine, self.path)
            for index in range(lanes):
                self._lanes.append(Lane(self, index))
        self._idle.update((lane.index, lane) for lane in self._lanes)

    def _close(self) -> None:
        self._closed = True
        for lane in self._lanes:
            try:
                lane.close()
            except _sdk.cuda.Error as error:  # after a fault of a kernel CUDA answers every call with an error
                logger.warning("engine=%s lane=%d could not be freed: %s", self.path.name, lane.index, error)
        # In this order: a context needs its engine, the engine its runtime, and the runtime its log.
        self._lanes.clear()
        self._idle.clear()
        for name in ("engine", "_runtime", "log"):
            self.__dict__.pop(name, None)

    def _leave(self) -> None:
        """At the end of the process: close, or where a thread still runs the engine leave it as it is."""
        with self._turn:
            if self._closed:
                return
            self._turn.wait_for(lambda: len(self._idle) + self._taken == len(self._lanes), timeout=_LEAVE_SECONDS)
            busy = len(self._idle) + self._taken != len(self._lanes)
        if not busy:
            self.close()
            return
        for thing in (self.engine, self._runtime, *self._lanes):  # destroyed without their context they would crash
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *about: object) -> None:
        self.close()


#: The sessions that are open.
_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Free what a process leaves open, while there is a context to free it in."""
    for session in list(_sessions):
        try:
            session._leave()
        except Exception as error:  # the process ends either way
            logger.debug("session=%s: %s", session.path, error)


def _tensors(engine: Any, path: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        is_input = engine.get_tensor_mode(name) == _sdk.tensorrt.TensorIOMode.INPUT
        kind = engine.get_tensor_dtype(name).name
        if kind not in _TYPES:
            raise Unsupported(
                f"{path} has {'input' if is_input else 'output'} '{name}' of type {kind}, which NumPy lacks.",
                hint="Build it with FP32 or FP16 inputs and outputs.",
            )
        shape = tuple(int(size) if size >= 0 else None for size in engine.get_tensor_shape(name))
        on_host = engine.get_tensor_location(name) == _sdk.tensorrt.TensorLocation.HOST
        limits = _limits(engine, name) if is_input and None in shape else ()
        (inputs if is_input else outputs).append(Tensor(name, shape, _TYPES[kind], limits, on_host))
    return tuple(inputs), tuple(outputs)


def _limits(engine: Any, name: str) -> tuple[tuple[Shape, Shape, Shape], ...]:
    found = []
    for profile in range(engine.num_optimization_profiles):
        low, best, high = engine.get_tensor_profile_shape(name, profile)
        found.append((tuple(map(int, low)), tuple(map(int, best)), tuple(map(int, high))))
    return tuple(found)


def probe(engine: EngineFile, device: GPU) -> None:
    """Let another process load an engine of unknown make first: on a damaged one TensorRT may crash.

    Raises:
        LoadError: it does not load; the message says why, or that it took the process down.
    """
    told = f"{checksum(engine.path)}-{_sdk.version()}-{device.capability[0]}.{device.capability[1]}"
    known = engine_cache() / "probed" / told
    if known.is_file():
        return
    command = [sys.executable, "-m", "llama_pajamas_run_tensorrt._probe", str(engine.path), str(device.index)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_PROBE_SECONDS, env=environment,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{engine.path} was not loaded within {_PROBE_SECONDS} seconds.") from error
    if done.returncode:
        if done.returncode < 0:
            why = f"TensorRT crashed on it (signal {-done.returncode})"
        else:
            lines = done.stderr.strip().splitlines()
            why = lines[-1] if lines else f"exit status {done.returncode}"
        raise LoadError(
            f"{engine.path} could not be loaded: {why.rstrip('.')}.", hint="It may be damaged: build it anew."
        )
    known.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    known.touch()
