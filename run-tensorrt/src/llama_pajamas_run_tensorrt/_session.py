"""The one file that talks to TensorRT and PyCUDA at run time: loading an engine, running it, what errors mean.

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
import logging
import os
import queue
import subprocess
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import (
    BadInput,
    InferenceError,
    LoadError,
    MissingDependency,
    OutOfMemory,
    PajamasError,
    Unsupported,
)
from llama_pajamas_run_tensorrt._driver import Driver, DriverError, Graph
from llama_pajamas_run_tensorrt._versions import Differences, differences
from llama_pajamas_run_tensorrt.engine_file import (
    EngineFile,
    EngineRecord,
    check_engine,
    checksum,
    engine_cache,
    read_engine,
)
from llama_pajamas_run_tensorrt.memory import Budget, DeviceArray, Pool

# Read by CUDA when it starts: devices in the order of nvidia-smi, and kernels loaded when they are first used.
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")

_INSTALL: Final = "uv sync --extra tensorrt"
try:
    import tensorrt
except ImportError as error:
    raise MissingDependency("TensorRT engines", package="tensorrt", install=_INSTALL) from error
try:
    import pycuda.driver as cuda
except ImportError as error:
    raise MissingDependency("TensorRT engines", package="pycuda", install=_INSTALL) from error

logger = logging.getLogger(__name__)

#: A stream that does not wait for CUDA's default stream, nor lets it wait (CU_STREAM_NON_BLOCKING).
_NON_BLOCKING: Final = 1
#: How many shapes of a lane keep a graph of their own, and among how many recent ones a shape has to come back.
_GRAPHS: Final = 8
_RECENT: Final = 16
#: Room that has to be left on the device beside an engine's own size: CUDA's and TensorRT's own needs.
_HEADROOM: Final = 64 << 20
#: Seconds after which an engine that is looked at in another process is given up.
_PROBE_SECONDS: Final = 300
_OUT_OF_MEMORY: Final = (
    "out of memory", "outofmemory", "memoryallocation", "insufficient memory", "failed to allocate", "bad_alloc",
    "requested amount of gpu memory",
)  # fmt: skip
_TYPES: Final[Mapping[str, type[np.generic]]] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
}

Shape = tuple[int, ...]
Feed = npt.NDArray[Any] | DeviceArray


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of an engine.

    Attributes:
        name: its name.
        shape: its sizes; None where a size is free.
        dtype: the element type.
        limits: of an input, for each optimization profile the smallest, best and largest shape.
        on_host: whether the engine reads or writes it in the host's memory (sizes of shapes).
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: type[np.generic]
    limits: tuple[tuple[Shape, Shape, Shape], ...] = ()
    on_host: bool = False

    def size(self, axis: int) -> int | None:
        """The size along an axis, or None where it is free or there is no such axis."""
        return self.shape[axis] if -len(self.shape) <= axis < len(self.shape) else None

    @property
    def largest(self) -> Shape:
        """The largest shape that any profile takes; the shape itself where it is fixed."""
        if not self.limits:
            return tuple(size or 1 for size in self.shape)
        return tuple(max(sizes) for sizes in zip(*(limit[2] for limit in self.limits), strict=True))


class Session:
    """A loaded engine.

    Safe to use from several threads: each call takes a lane of its own, or waits for one.

    Args:
        path: the engine's file.
        device: CUDA's index of the GPU, or its UUID ("GPU-..."); None for the first.
        trust: whether to run an engine that was not built on this machine. An engine is code.
        lanes: how many calls run at the same time.
        memory_limit: bytes that the lanes' buffers and scratch memory may take; None for all that the GPU has.
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
            tensorrt=str(tensorrt.__version__),
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
        self._free: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        self._closed = False
        with self.device.current():
            try:
                self._open(lanes)
            except BaseException:
                self._close()
                raise

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
    def details(self) -> Mapping[str, Any]:
        """Facts for people: versions, GPU, precision, profiles, lanes, memory, graphs. JSON values only."""
        record = self.record
        return {
            "device": f"cuda:{self.device.index}",
            "gpu": self.device.name,
            "tensorrt": str(tensorrt.__version__),
            "file": self.path.name,
            "precision": record.precision if record else "as built",
            "inputs": {one.name: [list(shape) for shape in one.limits[0]] if one.limits else list(one.largest)
                       for one in self.inputs},
            "lanes": len(self._lanes),
            "memory": self._budget.used,
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
        return _named(self.inputs, name, "input")

    def output(self, name: str) -> Tensor:
        """The output of that name. Raises BadInput where there is none."""
        return _named(self.outputs, name, "output")

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
            self._free.put(lane)

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike, lane: "Lane") -> DeviceArray:
        """Memory of a lane for an array; what it holds is left over from before."""
        return lane.empty(shape, dtype)

    def close(self) -> None:
        """Free the engine and its memory. Harmless when it was."""
        if not self._closed:
            with self.device.current():
                self._close()

    def _borrow(self, index: int | None) -> "Lane":
        if index is not None and not 0 <= index < len(self._lanes):
            raise BadInput(f"There is no lane {index}; lanes are 0 to {len(self._lanes) - 1}.", param="lane")
        while True:
            lane = self._free.get()
            if self._closed:
                self._free.put(lane)  # for the next one that waits
                raise BadInput(f"{self.path} was closed.")
            if index is None or lane.index == index:
                return lane
            self._free.put(lane)  # not the one asked for
            threading.Event().wait(0.0002)

    def _open(self, lanes: int) -> None:
        self._log = _Log()
        self.differences: Differences = differences(str(tensorrt.__version__))
        with mapped(LoadError, f"{self.path} could not be loaded", self._log):
            free, total = cuda.mem_get_info()
            if self.file.size + _HEADROOM > free:
                raise OutOfMemory(
                    f"{self.path} needs about {self.file.size + _HEADROOM:,} bytes, GPU {self.device.index} has "
                    f"{free:,} free of {total:,}.",
                    hint="Free other models, or use another GPU.",
                )
            self._runtime = tensorrt.Runtime(self._log)
            self.engine = self._runtime.deserialize_cuda_engine(self.file.plan())
            if self.engine is None:
                raise LoadError(f"{self.path} could not be loaded: {self._log.told()}.")
            self.inputs, self.outputs = _tensors(self.engine, self.path)
            for index in range(lanes):
                self._lanes.append(Lane(self, index))
        for lane in self._lanes:
            self._free.put(lane)

    def _close(self) -> None:
        self._closed = True
        for lane in self._lanes:
            lane._close()
        # In this order: a context needs its engine, the engine its runtime, and the runtime its log.
        self._lanes.clear()
        for name in ("engine", "_runtime", "_log"):
            self.__dict__.pop(name, None)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *about: object) -> None:
        self.close()


@dataclass(slots=True)
class _Bound:
    """An execution context with what it was told last, and the graph of just that."""

    context: Any
    profile: int = -1
    shapes: dict[str, Shape] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    graph: Graph | None = None


class Lane:
    """One place to run an engine in: a stream, execution contexts, scratch memory and buffers.

    Used by one thread at a time, within ``with session.lane() as lane``.

    Attributes:
        index: its number in the session.
        stream: the PyCUDA stream of all its work; kernels of one's own go on it as well.
        no_graphs: why no graphs are captured, or None.
    """

    def __init__(self, session: Session, index: int) -> None:
        self.session, self.index = session, index
        self.no_graphs: str | None = None
        self.stream = cuda.Stream(_NON_BLOCKING)
        self._pool = Pool(_mem_alloc, _mem_free, int, session._budget)
        self._pinned = Pool(_pinned_alloc, _pinned_free, _pinned_address, session._pinned_budget)
        size = _scratch_size(session.engine, session.differences)
        self._scratch_bytes = max(size, 256)
        self._scratch = self._pool.take(self._scratch_bytes)
        self._inputs: dict[str, DeviceArray] = {}
        self._outputs: dict[str, DeviceArray] = {}
        self._staging: dict[str, tuple[Any, Any]] = {}
        self._host: dict[str, npt.NDArray[Any]] = {}
        self._allocators: dict[str, Any] = {}
        self._seen: OrderedDict[Any, None] = OrderedDict()
        self._captured: OrderedDict[Any, _Bound] = OrderedDict()
        self._bound = _Bound(self._new_context())

    def input(self, name: str, shape: Sequence[int]) -> DeviceArray:
        """The lane's own buffer for an input, to be written by a kernel; the same memory each time while it fits.

        Args:
            name: the input.
            shape: its sizes now.

        Raises:
            BadInput: the engine takes no such input or shape.
        """
        tensor = self.session.input(name)
        wanted = tuple(int(size) for size in shape)
        self._profile_for({name: wanted})
        return self._kept(self._inputs, name, wanted, tensor.dtype)

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike) -> DeviceArray:
        """Memory for an array that is the caller's; what it holds is left over from before.

        It is used again in the order of this lane's stream: for use in another lane, :meth:`synchronize` first.

        Raises:
            OutOfMemory: there is not enough.
        """
        return DeviceArray(self._pool.take(prod(shape) * np.dtype(dtype).itemsize), shape, dtype)

    def upload(self, array: npt.NDArray[Any], into: DeviceArray | None = None) -> DeviceArray:
        """Copy an array to the GPU, through pinned memory, without waiting.

        Args:
            array: any array; it can be changed as soon as this returns.
            into: where to; new memory of the lane if None. Its type decides.
        """
        target = self.empty(array.shape, array.dtype) if into is None else into
        if tuple(array.shape) != target.shape:
            raise BadInput(f"An array of {list(array.shape)} does not go into one of {list(target.shape)}.")
        if target.nbytes:
            key = f"{target.address:x}"
            staged = self._stage(key, target.nbytes).view(target.dtype)[: array.size].reshape(target.shape)
            np.copyto(staged, array, casting="unsafe")
            cuda.memcpy_htod_async(target.address, staged, self.stream)
            self._staging[key][1].record(self.stream)
        return target

    def run(
        self,
        feeds: Mapping[str, Feed],
        *,
        into: Mapping[str, DeviceArray] | None = None,
        fresh: Collection[str] = (),
    ) -> dict[str, DeviceArray]:
        """Start the engine; nothing is waited for.

        Args:
            feeds: for each input a DeviceArray of its type, or a NumPy array, which is uploaded first.
            into: memory for outputs: they are written to the beginning of these arrays.
            fresh: outputs that get memory of their own, which is the caller's. Of the others the lane's own buffers
                are given: the next run of the lane writes to them again.

        Returns:
            the outputs by name, in the engine's order.

        Raises:
            BadInput, InferenceError, OutOfMemory: as :meth:`Session.infer`.
        """
        session = self.session
        what = f"{session.path.name} failed"
        with mapped(InferenceError, what, session._log):
            session.device.check_current()
            shapes = {name: tuple(int(size) for size in array.shape) for name, array in feeds.items()}
            for unknown in set(fresh) | set(into or ()):
                session.output(unknown)
            profile = self._profile_for(shapes, complete=True)
            addresses = {name: self._feed(name, array) for name, array in feeds.items()}
            outputs = self._run(profile, shapes, addresses, dict(into or {}), frozenset(fresh))
        return outputs

    def download(self, array: DeviceArray) -> npt.NDArray[Any]:
        """Bring an array to the host; waits for the lane's work."""
        return self.download_all({"": array})[""]

    def download_all(self, arrays: Mapping[str, DeviceArray]) -> dict[str, npt.NDArray[Any]]:
        """Bring several arrays to the host; waits for the lane's work once.

        Raises:
            InferenceError: the work that was waited for failed.
        """
        with mapped(InferenceError, f"{self.session.path.name} failed", self.session._log):
            staged = {}
            for name, array in arrays.items():
                if isinstance(array, np.ndarray):  # an output in the host's memory
                    staged[name] = array
                    continue
                block = self._pinned.take(array.nbytes)
                view = block.handle[: array.nbytes].view(array.dtype).reshape(array.shape)
                if array.nbytes:
                    cuda.memcpy_dtoh_async(view, array.address, self.stream)
                staged[name] = (block, view)
            self.stream.synchronize()
            return {name: held.copy() if isinstance(held, np.ndarray) else held[1].copy()
                    for name, held in staged.items()}  # fmt: skip

    def synchronize(self) -> None:
        """Wait until all work of the lane is done.

        Raises:
            InferenceError: it failed.
        """
        with mapped(InferenceError, f"{self.session.path.name} failed", self.session._log):
            self.stream.synchronize()

    def _feed(self, name: str, array: Feed) -> int:
        """The address of an input's values, uploaded where they are the host's."""
        tensor = self.session.input(name)
        if tensor.on_host:
            if isinstance(array, DeviceArray):
                raise BadInput(f"The engine reads '{name}' in the host's memory: give a NumPy array.")
            self._host[name] = np.ascontiguousarray(array, tensor.dtype)
            return int(self._host[name].ctypes.data)
        if isinstance(array, DeviceArray):
            if array.dtype != tensor.dtype:
                raise BadInput(f"'{name}' takes {np.dtype(tensor.dtype)}, the array on the GPU is {array.dtype}.")
            return array.address
        return self.upload(array, self._kept(self._inputs, name, tuple(array.shape), tensor.dtype)).address

    def _kept(self, kept: dict[str, DeviceArray], name: str, shape: Shape, dtype: npt.DTypeLike) -> DeviceArray:
        """The lane's buffer of that name, made larger where it has to be."""
        size = prod(shape) * np.dtype(dtype).itemsize
        held = kept.get(name)
        if held is None or held._block.size < size:
            if held is not None:
                held.release()
                del kept[name]
            held = kept[name] = DeviceArray(self._pool.take(size), shape, dtype)
        return held.view(shape)

    def _stage(self, key: str, size: int) -> npt.NDArray[np.uint8]:
        """Pinned memory to copy from; waits until the copy before from the same memory is done."""
        held = self._staging.get(key)
        if held is not None:
            held[1].synchronize()
        if held is None or held[0].size < size:
            event = held[1] if held is not None else cuda.Event(cuda.event_flags.DISABLE_TIMING)
            if held is None and len(self._staging) >= 64:  # addresses that do not come back
                self.stream.synchronize()
                self._staging.clear()
            held = self._staging[key] = (self._pinned.take(size), event)
        bytes_: npt.NDArray[np.uint8] = held[0].handle
        return bytes_[:size]

    def _profile_for(self, shapes: Mapping[str, Shape], *, complete: bool = False) -> int:
        """The first profile that takes these shapes.

        Raises:
            BadInput: none does, or with ``complete`` an input is missing.
        """
        session = self.session
        if complete and (missing := [one.name for one in session.inputs if one.name not in shapes]):
            raise BadInput(f"The engine needs the input {', '.join(missing)} as well.")
        for name, shape in shapes.items():
            tensor = session.input(name)
            fixed = len(shape) == len(tensor.shape) and all(
                known in (None, size) for known, size in zip(tensor.shape, shape, strict=True)
            )
            if not fixed:
                expected = ", ".join("?" if size is None else str(size) for size in tensor.shape)
                raise BadInput(f"'{name}' takes [{expected}], not {list(shape)}.", param=name)
        profiles = max((len(one.limits) for one in session.inputs), default=1) or 1
        for profile in range(profiles):
            if all(_fits(session.input(name), profile, shape) for name, shape in shapes.items()):
                return profile
        raise _past(session, shapes)

    def _run(
        self,
        profile: int,
        shapes: dict[str, Shape],
        inputs: dict[str, int],
        into: dict[str, DeviceArray],
        fresh: Collection[str],
    ) -> dict[str, DeviceArray]:
        session = self.session
        made: dict[str, Any] = {}
        self._configure(self._bound, profile, shapes)
        free = []
        for tensor in session.outputs:
            shape = tuple(int(size) for size in self._bound.context.get_tensor_shape(tensor.name))
            if any(size < 0 for size in shape):
                free.append(tensor)
            elif tensor.on_host:
                made[tensor.name] = self._host[tensor.name] = np.empty(shape, tensor.dtype)
            elif tensor.name in into:
                made[tensor.name] = into[tensor.name].view(shape, tensor.dtype)
            elif tensor.name in fresh:
                made[tensor.name] = self.empty(shape, tensor.dtype)
            else:
                made[tensor.name] = self._kept(self._outputs, tensor.name, shape, tensor.dtype)
        addresses = {
            **inputs,
            **{name: int(array.ctypes.data) if isinstance(array, np.ndarray) else array.address
               for name, array in made.items()},
        }  # fmt: skip
        if free:
            return self._run_free(shapes, addresses, made, free)
        self._start(profile, shapes, addresses)
        return {tensor.name: made[tensor.name] for tensor in session.outputs}

    def _start(self, profile: int, shapes: dict[str, Shape], addresses: dict[str, int]) -> None:
        """Put the engine's work on the stream: by its graph where there is one for just this work."""
        key = (profile, tuple(shapes.values()), tuple(addresses.values()))
        bound = self._captured.get(key)
        if bound is not None:
            self._captured.move_to_end(key)
            assert bound.graph is not None
            bound.graph.launch(self.stream)
            return
        if self._worth_a_graph(key) and (bound := self._spare()) is not None:
            self._configure(bound, profile, shapes)
            self._address(bound, addresses)
            self._execute(bound)  # TensorRT wants one run of a shape before it is captured
            self._capture(key, bound)
            return
        self._address(self._bound, addresses)
        self._execute(self._bound)

    def _worth_a_graph(self, key: Any) -> bool:
        """Whether this very work came not long ago, so that it will likely come again."""
        if not self.session._graphs or self.no_graphs or self._host:
            return False
        if key in self._seen:
            del self._seen[key]
            return True
        self._seen[key] = None
        while len(self._seen) > _RECENT:
            self._seen.popitem(last=False)
        return False

    def _spare(self) -> _Bound | None:
        """A context for a graph of its own: TensorRT wants a context left alone from capture on."""
        if len(self._captured) >= _GRAPHS:
            _, bound = self._captured.popitem(last=False)
            assert bound.graph is not None
            self.stream.synchronize()
            bound.graph.close()
            bound.graph = None
            return bound
        try:
            return _Bound(self._new_context())
        except (LoadError, OutOfMemory) as error:
            self.no_graphs = error.message
            logger.info("engine=%s lane=%d runs without graphs: %s", self.session.path.name, self.index, error.message)
            return None

    def _capture(self, key: Any, bound: _Bound) -> None:
        try:
            bound.graph = driver().capture(self.stream, partial(self._execute, bound))
        except (DriverError, OSError, InferenceError) as error:
            self.no_graphs = str(error)
            logger.info("engine=%s lane=%d runs without graphs: %s", self.session.path.name, self.index, error)
            return
        self._captured[key] = bound

    def _new_context(self) -> Any:
        session = self.session
        engine = session.engine
        if session.differences.user_memory == "strategy":
            context = engine.create_execution_context(tensorrt.ExecutionContextAllocationStrategy.USER_MANAGED)
        else:
            context = engine.create_execution_context_without_device_memory()
        if context is None:
            raise LoadError(f"{session.path} gives no execution context: {session._log.told()}.")
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(self._scratch.address, self._scratch_bytes)
        else:
            context.device_memory = self._scratch.address
        return context

    def _configure(self, bound: _Bound, profile: int, shapes: dict[str, Shape]) -> None:
        context, session = bound.context, self.session
        if bound.profile != profile:
            # The first context of an engine without profiles to choose from has its profile already.
            chosen = context.active_optimization_profile
            if chosen != profile and not context.set_optimization_profile_async(profile, self.stream.handle):
                raise Unsupported(
                    f"{session.path} lets one lane use its profile {profile}: {session._log.told()}.",
                    hint="Load it with lanes=1, or build it with llama-pajamas export tensorrt.",
                )
            bound.profile, bound.shapes = profile, {}
        for name, shape in shapes.items():
            if bound.shapes.get(name) != shape:
                bound.shapes.pop(name, None)
                if not context.set_input_shape(name, shape):
                    raise BadInput(f"The engine does not take {list(shape)} for '{name}': {session._log.told()}.")
                bound.shapes[name] = shape
        for name in self._host:  # values of shapes decide over the shapes of outputs
            if name in shapes:
                context.set_tensor_address(name, int(self._host[name].ctypes.data))

    def _address(self, bound: _Bound, addresses: dict[str, int]) -> None:
        for name, address in addresses.items():
            if bound.addresses.get(name) != address:
                bound.addresses.pop(name, None)
                if not bound.context.set_tensor_address(name, address):
                    raise InferenceError(f"The engine takes no memory for '{name}': {self.session._log.told()}.")
                bound.addresses[name] = address

    def _execute(self, bound: _Bound) -> None:
        if not bound.context.execute_async_v3(self.stream.handle):
            raise InferenceError(f"{self.session.path.name} failed: {self.session._log.told()}.")

    def _run_free(
        self, shapes: dict[str, Shape], addresses: dict[str, int], made: dict[str, Any], free: Sequence[Tensor]
    ) -> dict[str, DeviceArray]:
        """Run an engine of whose outputs only the run itself tells the sizes; waits for it."""
        bound = self._bound
        self._address(bound, addresses)
        for tensor in free:
            if tensor.name not in self._allocators:
                self._allocators[tensor.name] = _OutputAllocator(self._pool)
            allocator = self._allocators[tensor.name]
            allocator.start()
            if not bound.context.set_output_allocator(tensor.name, allocator):
                raise InferenceError(f"The engine takes no memory for '{tensor.name}': {self.session._log.told()}.")
        self._execute(bound)
        self.stream.synchronize()
        for tensor in free:
            made[tensor.name] = self._allocators[tensor.name].array(tensor.dtype)
        return {tensor.name: made[tensor.name] for tensor in self.session.outputs}

    def _close(self) -> None:
        try:
            self.stream.synchronize()
        except cuda.Error as error:
            logger.warning("engine=%s lane=%d: %s", self.session.path.name, self.index, error)
        for bound in self._captured.values():
            if bound.graph is not None:
                bound.graph.close()
        self._captured.clear()
        self.__dict__.pop("_bound", None)
        for kept in (self._inputs, self._outputs, self._staging, self._allocators, self._host):
            kept.clear()
        self._pool.close()
        self._pinned.close()
        self.__dict__.pop("stream", None)


class GPU:
    """One GPU, with its primary context: that of the CUDA runtime, which TensorRT and PyTorch use as well.

    The context is taken once for the life of the process: TensorRT keeps things in it that outlive its engines. A
    thread has it current only within :meth:`current`, because PyCUDA aborts a process that ends with a context on its
    stack.

    Attributes:
        index: CUDA's index.
        uuid: "GPU-...", or "" where the driver does not tell.
        name: "NVIDIA H200".
        capability: its compute capability.
        memory: bytes in all.
    """

    def __init__(self, index: int) -> None:
        device = cuda.Device(index)
        self.index = index
        self.name = str(device.name())
        self.capability = (int(device.compute_capability()[0]), int(device.compute_capability()[1]))
        self.memory = int(device.total_memory())
        self.uuid = _uuid(index)
        self._context = device.retain_primary_context()
        self._depth = threading.local()

    @contextmanager
    def current(self) -> Iterator[None]:
        """The GPU as the calling thread's own; may be nested."""
        depth = getattr(self._depth, "value", 0)
        if depth == 0:
            self._context.push()
        self._depth.value = depth + 1
        try:
            yield
        finally:
            self._depth.value = depth
            if depth == 0:
                cuda.Context.pop()

    def check_current(self) -> None:
        """See that the calling thread is within :meth:`current`. Raises InferenceError where it is not."""
        if not getattr(self._depth, "value", 0):
            raise InferenceError("A lane was used outside of `with session.lane() as lane`.")


_gpus: dict[int, GPU] = {}
_gpus_lock = threading.Lock()


def find_device(which: int | str | None = None) -> GPU:
    """A GPU by CUDA's index, or by its UUID, or the first.

    Raises:
        BadInput: there is no such GPU; the message lists those there are.
        LoadError: there is none at all, or the driver does not answer.
    """
    with _gpus_lock, mapped(LoadError, "CUDA does not start"):
        cuda.init()
        count = cuda.Device.count()
        if not count:
            raise LoadError("CUDA sees no GPU.", hint="See CUDA_VISIBLE_DEVICES, and that the driver is loaded.")
        index = 0 if which is None else _index_of(which, count)
        if index not in _gpus:
            _gpus[index] = GPU(index)
        return _gpus[index]


def _index_of(which: int | str, count: int) -> int:
    text = str(which).removeprefix("cuda:")
    if text.isdigit():
        if int(text) < count:
            return int(text)
        raise BadInput(f"There is no GPU {text}; there are {count}, from 0 on.", param="device")
    uuids = [_uuid(index) for index in range(count)]
    matching = [index for index, uuid in enumerate(uuids) if uuid and uuid.lower().startswith(text.lower())]
    if len(matching) == 1:
        return matching[0]
    raise BadInput(f"There is no GPU '{which}'.", hint=f"GPUs: {', '.join(filter(None, uuids))}.", param="device")


def _uuid(index: int) -> str:
    try:
        return driver().uuid(index)
    except (DriverError, OSError) as error:
        logger.debug("device=%d tells no UUID: %s", index, error)
        return ""


_drivers: list[Driver] = []


def driver() -> Driver:
    """The CUDA driver's calls that PyCUDA lacks. Raises OSError where there is none."""
    if not _drivers:
        _drivers.append(Driver())
    return _drivers[0]


class _Log(tensorrt.ILogger):  # type: ignore[misc]
    """TensorRT's messages: into ours, and kept to say why something failed."""

    def __init__(self) -> None:
        tensorrt.ILogger.__init__(self)
        self._errors: deque[str] = deque(maxlen=4)

    def log(self, severity: Any, message: str) -> None:
        """Called by TensorRT, from any of its threads."""
        text = " ".join(str(message).split())
        if severity in (tensorrt.ILogger.INTERNAL_ERROR, tensorrt.ILogger.ERROR):
            self._errors.append(text)
            logger.debug("tensorrt: %s", text)
        elif severity == tensorrt.ILogger.WARNING:
            logger.debug("tensorrt: %s", text)

    def told(self) -> str:
        """What it said went wrong, and forget it."""
        said = "; ".join(dict.fromkeys(self._errors))
        self._errors.clear()
        said = said[:600] + "..." if len(said) > 600 else said
        return said.rstrip(".") or "TensorRT says no more"


@contextmanager
def mapped(kind: type[LoadError] | type[InferenceError], what: str, log: _Log | None = None) -> Iterator[None]:
    """Errors of TensorRT and PyCUDA become ours.

    Args:
        kind: what they become, unless memory ran out.
        what: how the message begins ("model.engine failed").
        log: where TensorRT told more.
    """
    try:
        yield
    except OutOfMemory:
        raise
    except (LoadError, InferenceError) as error:
        if _means_out_of_memory(error.message):
            raise OutOfMemory(error.message, hint="Use a smaller batch, fewer lanes, or another GPU.") from error
        raise
    except (PajamasError, GeneratorExit):
        raise
    except MemoryError as error:
        raise OutOfMemory(f"{what}: memory ran out.") from error
    except Exception as error:  # PyCUDA's and TensorRT's errors share no base below Exception
        told = f" ({log.told()})" if log is not None and log._errors else ""
        text = " ".join(str(error).split())[:400] + told
        if isinstance(error, cuda.MemoryError) or _means_out_of_memory(text):
            raise OutOfMemory(
                f"{what}: the GPU's memory ran out ({text}).", hint="Use a smaller batch, fewer lanes, or another GPU."
            ) from error
        raise kind(f"{what}: {text}") from error


def _means_out_of_memory(text: str) -> bool:
    return any(sign in text.lower() for sign in _OUT_OF_MEMORY)


def _mem_alloc(size: int) -> Any:
    try:
        return cuda.mem_alloc(size)
    except cuda.MemoryError as error:
        free, total = cuda.mem_get_info()
        raise OutOfMemory(
            f"{size:,} bytes more do not fit: the GPU has {free:,} free of {total:,}.",
            hint="Use a smaller batch, fewer lanes, or another GPU.",
        ) from error


def _mem_free(allocation: Any) -> None:
    allocation.free()


def _pinned_alloc(size: int) -> npt.NDArray[np.uint8]:
    try:
        pinned: npt.NDArray[np.uint8] = cuda.pagelocked_empty(size, np.uint8)
    except cuda.MemoryError as error:
        raise OutOfMemory(f"{size:,} bytes of pinned host memory do not fit.") from error
    return pinned


def _pinned_free(array: Any) -> None:
    array.base.free()


def _pinned_address(array: Any) -> int:
    return int(array.ctypes.data)


def _scratch_size(engine: Any, table: Differences) -> int:
    for name in table.memory_size:
        if hasattr(engine, name):
            return int(getattr(engine, name))
    raise Unsupported(f"This TensorRT tells no engine's need of memory ({', '.join(table.memory_size)}).")


def _tensors(engine: Any, path: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    inputs, outputs = [], []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        is_input = engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT
        kind = engine.get_tensor_dtype(name).name
        if kind not in _TYPES:
            raise Unsupported(
                f"{path} has {'input' if is_input else 'output'} '{name}' of type {kind}, which NumPy lacks.",
                hint="Build it with FP32 or FP16 inputs and outputs.",
            )
        shape = tuple(int(size) if size >= 0 else None for size in engine.get_tensor_shape(name))
        on_host = engine.get_tensor_location(name) == tensorrt.TensorLocation.HOST
        limits = _limits(engine, name) if is_input and None in shape else ()
        (inputs if is_input else outputs).append(Tensor(name, shape, _TYPES[kind], limits, on_host))
    return tuple(inputs), tuple(outputs)


def _limits(engine: Any, name: str) -> tuple[tuple[Shape, Shape, Shape], ...]:
    found = []
    for profile in range(engine.num_optimization_profiles):
        low, best, high = engine.get_tensor_profile_shape(name, profile)
        found.append((tuple(map(int, low)), tuple(map(int, best)), tuple(map(int, high))))
    return tuple(found)


def _fits(tensor: Tensor, profile: int, shape: Shape) -> bool:
    if profile >= len(tensor.limits):
        return True
    low, _, high = tensor.limits[profile]
    return all(least <= size <= most for least, size, most in zip(low, shape, high, strict=True))


def _past(session: Session, shapes: Mapping[str, Shape]) -> BadInput:
    """The error for shapes that no profile takes: the limit by its number, as of a batch."""
    for name, shape in shapes.items():
        tensor = session.input(name)
        for axis, size in enumerate(shape):
            ranges = [(low[axis], high[axis]) for low, _, high in tensor.limits]
            if ranges and not any(least <= size <= most for least, most in ranges):
                what = f"A batch of {size}" if axis == 0 else f"Size {size} along axis {axis} of '{name}'"
                takes = " or ".join(f"{least} to {most}" if least != most else f"{most}" for least, most in ranges)
                return BadInput(
                    f"{what} is past what {session.path.name} was built for: {takes}.",
                    hint="Send less at once, or build it with a larger --batch." if axis == 0 else None,
                    param=name,
                )
    given = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    return BadInput(f"No profile of {session.path.name} takes these shapes together: {given}.")


def _named(tensors: Sequence[Tensor], name: str, kind: str) -> Tensor:
    for tensor in tensors:
        if tensor.name == name:
            return tensor
    names = ", ".join(tensor.name for tensor in tensors)
    raise BadInput(f"The engine has no {kind} '{name}'; it has {names}.")


class _OutputAllocator(tensorrt.IOutputAllocator):  # type: ignore[misc]
    """Memory for an output whose size only the run tells."""

    def __init__(self, pool: Pool) -> None:
        tensorrt.IOutputAllocator.__init__(self)
        self._pool = pool
        self.start()

    def start(self) -> None:
        """Forget the run before."""
        self._array: DeviceArray | None = None
        self._shape: Shape = ()

    def reallocate_output(self, name: str, memory: Any, size: int, alignment: int) -> int:
        """Called by TensorRT; 0 where there is no memory."""
        try:
            self._array = DeviceArray(self._pool.take(max(size, alignment)), (size,), np.uint8)
        except OutOfMemory as error:
            logger.debug("output=%s: %s", name, error)
            return 0
        return self._array.address

    def reallocate_output_async(self, name: str, memory: Any, size: int, alignment: int, stream: Any) -> int:
        """The same, as TensorRT 10 and later call it."""
        return self.reallocate_output(name, memory, size, alignment)

    def notify_shape(self, name: str, shape: Any) -> None:
        """Called by TensorRT once the sizes are known."""
        self._shape = tuple(int(size) for size in shape)

    def array(self, dtype: npt.DTypeLike) -> DeviceArray:
        """The output of the run."""
        if self._array is None:
            raise InferenceError("The engine asked for no memory for one of its outputs.")
        return self._array.view(self._shape, dtype)


def probe(engine: EngineFile, device: GPU) -> None:
    """Let another process load an engine of unknown make first: on a damaged one TensorRT may crash.

    Raises:
        LoadError: it does not load; the message says why, or that it took the process down.
    """
    told = f"{checksum(engine.path)}-{tensorrt.__version__}-{device.capability[0]}.{device.capability[1]}"
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


@atexit.register
def _leave_nothing_current() -> None:
    """Pop what the main thread may still have, as after an interrupt: PyCUDA aborts a process that ends so."""
    for gpu in _gpus.values():
        if getattr(gpu._depth, "value", 0):
            gpu._depth.value = 0
            cuda.Context.pop()
