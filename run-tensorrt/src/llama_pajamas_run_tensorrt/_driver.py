"""What PyCUDA lacks of the CUDA driver, through ctypes: graphs of captured work, and a device's UUID."""

import ctypes
import logging
import uuid
from collections.abc import Callable
from typing import Any, Final, Protocol

logger = logging.getLogger(__name__)

_LIBRARY: Final = "libcuda.so.1"
#: Other threads may take memory while one captures (CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).
_THREAD_LOCAL: Final = 1


class DriverError(Exception):
    """A call of the CUDA driver failed; the message names the call and CUDA's word for the error."""


class Stream(Protocol):
    """A PyCUDA stream."""

    @property
    def handle(self) -> int: ...


class Driver:
    """The calls that are needed.

    Raises:
        OSError: there is no CUDA driver.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = ctypes.CDLL(_LIBRARY) if library is None else library

    def uuid(self, device: int) -> str:
        """A device's UUID as NVML and nvidia-smi write it ("GPU-..."), for CUDA's index of it."""
        raw = (ctypes.c_ubyte * 16)()
        self._call("cuDeviceGetUuid", ctypes.byref(raw), ctypes.c_int(device))
        return f"GPU-{uuid.UUID(bytes=bytes(raw))}"

    def capture(self, stream: Stream, work: Callable[[], None]) -> "Graph":
        """Record what ``work`` puts on a stream, without running it.

        Raises:
            DriverError: it cannot be recorded.
        """
        handle = ctypes.c_void_p(stream.handle)
        self._call("cuStreamBeginCapture_v2", handle, ctypes.c_int(_THREAD_LOCAL))
        graph = ctypes.c_void_p()
        try:
            work()
        except BaseException:
            self._library.cuStreamEndCapture(handle, ctypes.byref(graph))
            if graph:
                self._library.cuGraphDestroy(graph)
            raise
        self._call("cuStreamEndCapture", handle, ctypes.byref(graph))
        executable = ctypes.c_void_p()
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        finally:
            self._library.cuGraphDestroy(graph)
        return Graph(self, executable)

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise DriverError(f"this CUDA driver has no {name}") from None
        if code := function(*arguments):
            word = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(word))
            raise DriverError(f"{name}: {word.value.decode() if word.value else code}")


class Graph:
    """Captured work that is started with one call."""

    def __init__(self, driver: Driver, executable: ctypes.c_void_p) -> None:
        self._driver, self._executable = driver, executable

    def launch(self, stream: Stream) -> None:
        """Put the work on a stream.

        Raises:
            DriverError: it failed.
        """
        self._driver._call("cuGraphLaunch", self._executable, ctypes.c_void_p(stream.handle))

    def close(self) -> None:
        """Free it, with its context current. Harmless when it was."""
        executable, self._executable = self._executable, ctypes.c_void_p()
        if executable:
            self._driver._library.cuGraphExecDestroy(executable)
