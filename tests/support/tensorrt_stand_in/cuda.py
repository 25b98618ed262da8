"""The CUDA driver as PyCUDA and libcuda give it, on the host's memory: part of the stand-in for TensorRT."""

import ctypes
import threading
import weakref
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


class Error(Exception):
    """pycuda.driver.Error."""


class LogicError(Error):
    """pycuda.driver.LogicError."""


class OutOfDeviceMemory(Error):
    """pycuda.driver.MemoryError."""


def make_cuda() -> ModuleType:
    """A module like pycuda.driver, with one GPU of compute capability 9.0 and eight gigabytes."""
    cuda = ModuleType("pycuda.driver")
    state = SimpleNamespace(allocated=0, pinned=0, peak=0, total=8 << 30, local=threading.local(), streams={}, waits=[])

    def stack() -> list[Any]:
        if not hasattr(state.local, "stack"):
            state.local.stack = []
        return state.local.stack

    def need() -> None:
        if not stack():
            raise LogicError("no currently active context?")

    class Context:
        def push(self) -> None:
            stack().append(self)

        @staticmethod
        def pop() -> None:
            if not stack():
                raise LogicError("context::pop failed: invalid device context - cannot pop non-current context")
            stack().pop()

    primary = Context()

    class Device:
        def __init__(self, index: int) -> None:
            if index != 0:
                raise LogicError("cuDeviceGet failed: invalid device ordinal")

        @staticmethod
        def count() -> int:
            return 1

        def name(self) -> str:
            return "NVIDIA H200 (stood in for)"

        def compute_capability(self) -> tuple[int, int]:
            return (9, 0)

        def total_memory(self) -> int:
            return state.total

        def retain_primary_context(self) -> Context:
            return primary

    class DeviceAllocation:
        def __init__(self, size: int) -> None:
            self.memory: np.ndarray | None = np.empty(size + 256, np.uint8)
            self.size = size
            self.address = -(-self.memory.ctypes.data // 256) * 256

        def __int__(self) -> int:
            return self.address

        def free(self) -> None:
            need()
            assert self.memory is not None, "freed twice"
            self.memory = None
            state.allocated -= self.size

    def mem_alloc(size: int) -> DeviceAllocation:
        need()
        if state.allocated + size > state.total:
            raise OutOfDeviceMemory("cuMemAlloc failed: out of memory")
        state.allocated += size
        state.peak = max(state.peak, state.allocated)
        return DeviceAllocation(size)

    class HostAllocation(np.ndarray):
        def free(self) -> None:
            need()
            state.pinned -= self.nbytes

    def pagelocked_empty(shape: int, dtype: Any) -> np.ndarray:
        need()
        owner = np.empty(shape, dtype).view(HostAllocation)
        state.pinned += owner.nbytes

        class Pinned(np.ndarray):
            base = property(lambda self: owner)  # PyCUDA's arrays have the allocation as their base

        return owner.view(Pinned)

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            need()
            self.flags = flags
            self.recording: list[Any] | None = None
            self.handle = id(self)
            state.streams[self.handle] = weakref.ref(self)

        def put(self, work: Any) -> None:
            if self.recording is not None:
                self.recording.append(work)
            else:
                work()

        def synchronize(self) -> None:
            need()
            assert self.recording is None, "a stream that is captured cannot be waited for"

        def wait_for_event(self, event: "Event") -> None:
            need()
            assert event.recorded_on is not None, "an event that was never recorded keeps nobody waiting"
            state.waits.append((self, event.recorded_on))

    class Event:
        recorded_on: Stream | None = None

        def __init__(self, flags: int = 0) -> None:
            need()

        def record(self, stream: Stream | None = None) -> "Event":
            need()
            self.recorded_on = stream
            return self

        def synchronize(self) -> None:
            need()

    def memcpy_htod_async(dest: int, src: np.ndarray, stream: Stream) -> None:
        need()
        assert src.flags.c_contiguous
        stream.put(lambda: ctypes.memmove(int(dest), src.ctypes.data, src.nbytes))

    def memcpy_dtoh_async(dest: np.ndarray, src: int, stream: Stream) -> None:
        need()
        assert dest.flags.c_contiguous
        stream.put(lambda: ctypes.memmove(dest.ctypes.data, int(src), dest.nbytes))

    def memcpy_dtod_async(dest: int, src: int, size: int, stream: Stream) -> None:
        need()
        stream.put(lambda: ctypes.memmove(int(dest), int(src), size))

    def memcpy_htod(dest: int, src: np.ndarray) -> None:
        need()
        source = np.ascontiguousarray(src)
        ctypes.memmove(int(dest), source.ctypes.data, source.nbytes)

    def memset_d8_async(dest: int, value: int, count: int, stream: Stream) -> None:
        need()
        stream.put(lambda: ctypes.memset(int(dest), value, count))

    def mem_get_info() -> tuple[int, int]:
        need()
        return state.total - state.allocated, state.total

    cuda.Error, cuda.LogicError, cuda.MemoryError = Error, LogicError, OutOfDeviceMemory
    cuda.Device, cuda.Context, cuda.Stream, cuda.Event = Device, Context, Stream, Event
    cuda.event_flags = SimpleNamespace(DEFAULT=0, DISABLE_TIMING=2)
    cuda.init = lambda: None
    cuda.mem_alloc, cuda.mem_get_info, cuda.pagelocked_empty = mem_alloc, mem_get_info, pagelocked_empty
    cuda.memcpy_htod_async, cuda.memcpy_dtoh_async = memcpy_htod_async, memcpy_dtoh_async
    cuda.memcpy_dtod_async, cuda.memcpy_htod, cuda.memset_d8_async = memcpy_dtod_async, memcpy_htod, memset_d8_async
    cuda.get_driver_version = lambda: 13000
    cuda.state = state
    return cuda


class Library:
    """libcuda's calls for graphs: what is put on a capturing stream is kept, and done again at each launch."""

    def __init__(self, cuda: ModuleType) -> None:
        self._cuda = cuda
        self._graphs: dict[int, list[Any]] = {}
        self.launches = 0
        self.fails: str | None = None

    @property
    def graphs(self) -> int:
        """How many graphs there are now."""
        return len(self._graphs)

    def cuDeviceGetUuid(self, out: Any, device: Any) -> int:
        out._obj[:] = range(1, 17)
        return 0

    def cuGetErrorName(self, code: int, out: Any) -> int:
        out._obj.value = b"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
        return 0

    def cuStreamBeginCapture_v2(self, stream: Any, mode: Any) -> int:
        if self.fails == "capture":
            return 900
        assert mode.value == 1
        self._stream(stream).recording = []
        return 0

    def cuStreamEndCapture(self, stream: Any, out: Any) -> int:
        stream_ = self._stream(stream)
        out._obj.value = self._keep(stream_.recording)
        stream_.recording = None
        return 0

    def cuGraphInstantiateWithFlags(self, out: Any, graph: Any, flags: Any) -> int:
        out._obj.value = self._keep(self._graphs[graph.value])
        return 0

    def cuGraphLaunch(self, graph: Any, stream: Any) -> int:
        self.launches += 1
        for work in self._graphs[graph.value]:
            self._stream(stream).put(work)
        return 0

    def cuGraphDestroy(self, graph: Any) -> int:
        del self._graphs[graph.value]
        return 0

    cuGraphExecDestroy = cuGraphDestroy

    def _keep(self, work: list[Any]) -> int:
        number = max(self._graphs, default=0) + 1
        self._graphs[number] = work
        return number

    def _stream(self, handle: Any) -> Any:
        return self._cuda.state.streams[handle.value]()
