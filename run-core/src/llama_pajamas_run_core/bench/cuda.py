"""CUDA's driver through ctypes, as much of it as measuring takes: memory, copies, events. Needs no toolkit."""

import ctypes
import sys
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from types import TracebackType
from typing import Any, Final, Self

from llama_pajamas_run_core.errors import InferenceError, OutOfMemory, Unsupported

_NAMES: Final = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")
_OUT_OF_MEMORY: Final = 2

_SIGNATURES: Final[dict[str, Sequence[Any]]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxSynchronize": (),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemAllocHost_v2": (POINTER(c_void_p), c_size_t),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoD_v2": (c_uint64, c_void_p, c_size_t),
    "cuMemcpyDtoH_v2": (c_void_p, c_uint64, c_size_t),
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuEventDestroy_v2": (c_void_p,),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}


def load_driver() -> Any:
    """The driver's library.

    Raises:
        Unsupported: no NVIDIA driver is installed.
    """
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        for function, arguments in _SIGNATURES.items():
            found = getattr(library, function)
            found.argtypes, found.restype = list(arguments), c_int
        return library
    raise Unsupported("There is no NVIDIA driver on this machine (libcuda cannot be loaded).")


class Device:
    """One GPU, with the context that libraries of CUDA share. Used from the thread that made it; ``with`` closes it.

    Args:
        index: among the GPUs that this process sees (CUDA_VISIBLE_DEVICES).
        driver: the driver's library; looked for if None.

    Attributes:
        name: "NVIDIA H200".
        version: the CUDA version that the driver serves, (13, 0).

    Raises:
        Unsupported: there is no such GPU, or no driver.
        InferenceError: the driver does not start.
    """

    def __init__(self, index: int = 0, driver: Any = None) -> None:
        self._cuda = load_driver() if driver is None else driver
        self._memory: list[int] = []
        self._pinned: list[int] = []
        self._open = False
        self._call("cuInit", 0)
        count, self._device, version = c_int(), c_int(), c_int()
        self._call("cuDeviceGetCount", byref(count))
        if not 0 <= index < count.value:
            raise Unsupported(f"There is no GPU {index}: this process sees {count.value}.")
        self._call("cuDeviceGet", byref(self._device), index)
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), self._device)
        self._call("cuDriverGetVersion", byref(version))
        self.name = name.value.decode("utf-8", "replace")
        self.version = (version.value // 1000, version.value % 1000 // 10)
        context = c_void_p()
        self._call("cuDevicePrimaryCtxRetain", byref(context), self._device)
        self._open = True
        self._call("cuCtxSetCurrent", context)

    def allocate(self, size: int) -> int:
        """Memory of the GPU, freed with the device.

        Raises:
            OutOfMemory: there is not so much.
        """
        pointer = c_uint64()
        self._call("cuMemAlloc_v2", byref(pointer), size)
        self._memory.append(pointer.value)
        return pointer.value

    def pin(self, size: int) -> int:
        """Memory of the host that the GPU reads without help of the processor, freed with the device; its address.

        Raises:
            OutOfMemory: there is not so much.
        """
        pointer = c_void_p()
        self._call("cuMemAllocHost_v2", byref(pointer), size)
        assert pointer.value is not None
        self._pinned.append(pointer.value)
        return pointer.value

    def upload(self, target: int, source: int, size: int) -> None:
        """Copy from the host to the GPU, and wait until all is there."""
        self._call("cuMemcpyHtoD_v2", target, source, size)
        self._call("cuCtxSynchronize")  # from pageable memory the call returns once the last piece is staged

    def download(self, target: int, source: int, size: int) -> None:
        """Copy from the GPU to the host, and wait until all is there."""
        self._call("cuMemcpyDtoH_v2", target, source, size)

    def milliseconds(self, work: Any, *, runs: int, warmup: int) -> list[float]:
        """The time that work on the default stream takes on the GPU, by its own clock.

        Args:
            work: called without arguments; starts the work.
            runs: how often it is measured.
            warmup: how often before.
        """
        first, last = c_void_p(), c_void_p()
        self._call("cuEventCreate", byref(first), 0)
        self._call("cuEventCreate", byref(last), 0)
        try:
            for _ in range(warmup):
                work()
            taken = []
            for _ in range(runs):
                self._call("cuEventRecord", first, None)
                work()
                self._call("cuEventRecord", last, None)
                self._call("cuEventSynchronize", last)
                elapsed = c_float()
                self._call("cuEventElapsedTime", byref(elapsed), first, last)
                taken.append(elapsed.value)
            return taken
        finally:
            self._call("cuEventDestroy_v2", first)
            self._call("cuEventDestroy_v2", last)

    def close(self) -> None:
        """Free everything. Harmless when closed."""
        if not self._open:
            return
        self._open = False
        for pointer in self._memory:
            self._cuda.cuMemFree_v2(pointer)
        for pointer in self._pinned:
            self._cuda.cuMemFreeHost(pointer)
        self._memory.clear()
        self._pinned.clear()
        self._cuda.cuCtxSetCurrent(None)
        self._cuda.cuDevicePrimaryCtxRelease_v2(self._device)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._cuda, name)(*arguments)
        if code == 0:
            return
        text = c_char_p()
        self._cuda.cuGetErrorString(code, byref(text))
        said = (text.value or b"unknown error").decode("utf-8", "replace")
        if code == _OUT_OF_MEMORY:
            raise OutOfMemory(f"The GPU's driver has no memory left ({said}).")
        raise InferenceError(f"CUDA's {name} failed: {said} (error {code}).")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
