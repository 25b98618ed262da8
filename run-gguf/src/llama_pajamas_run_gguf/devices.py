"""The memory that models can take: the host's, and that of the GPUs which llama.cpp was built for."""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any, cast

import llama_cpp
from llama_cpp import _ggml

_CGROUP = Path("/sys/fs/cgroup")
#: ggml's types of devices with memory of their own or, for integrated ones, the host's.
_GPU_TYPES = (1, 2)


def host_memory_free() -> int | None:
    """Bytes that can be taken without swapping, or within a container's limit; None where that is not known."""
    found = [free for free in (_system_free(), _container_free()) if free is not None]
    return min(found, default=None)


def gpu_memory_free() -> int:
    """Bytes free on all GPUs together that llama.cpp can use; 0 without one."""
    if not llama_cpp.llama_supports_gpu_offload():
        return 0
    library = _ggml.libggml
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    size = ctypes.POINTER(ctypes.c_size_t)
    library.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, size, size]
    total = 0
    for index in range(library.ggml_backend_dev_count()):
        device = library.ggml_backend_dev_get(index)
        if library.ggml_backend_dev_type(device) in _GPU_TYPES:
            free, whole = ctypes.c_size_t(), ctypes.c_size_t()
            library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(whole))
            total += free.value
    return total


def _system_free() -> int | None:
    if sys.platform == "win32":
        return _windows_free()
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        # Elsewhere, what is free says little, since the system fills memory with caches; most of it can be had.
        return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 0.7)
    except (ValueError, OSError):
        return None


def _container_free() -> int | None:
    try:
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        # Pages of files count as used, but are given up when memory is wanted.
        files = next(
            int(line.split()[1])
            for line in (_CGROUP / "memory.stat").read_text().splitlines()
            if line.startswith("file ")
        )
        return None if limit == "max" else max(int(limit) - int(used) + files, 0)
    except (OSError, ValueError, StopIteration):
        return None


def _windows_free() -> int | None:
    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong)
            for name in ("total", "free", "total_page", "free_page", "total_virtual", "free_virtual", "extended")
        ]

    status = Status(length=ctypes.sizeof(Status))
    kernel = cast(Any, ctypes).windll.kernel32
    return int(status.free) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None
