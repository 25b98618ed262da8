"""The GPUs that llama.cpp was built for, and the memory that models can take: theirs and the host's."""

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import llama_cpp
from llama_cpp import _ggml

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.hardware.nvidia import probe_nvidia

_CGROUP = Path("/sys/fs/cgroup")
#: ggml's types of devices with memory of their own or, for integrated ones, the host's.
_GPU_TYPES = (1, 2)


def host_memory_free() -> int | None:
    """Bytes that can be taken without swapping, or within a container's limit; None where that is not known."""
    found = [free for free in (_system_free(), _container_free()) if free is not None]
    return min(found, default=None)


@dataclass(frozen=True, slots=True)
class GPU:
    """A GPU that llama.cpp was built for.

    Attributes:
        handle: ggml's.
        name: ggml's ("CUDA0").
        bus: its address on the PCI bus ("0000:18:00.0"), or "".
        free: bytes free on it.
    """

    handle: int
    name: str
    bus: str
    free: int


def gpu_memory_free(only: GPU | None = None) -> int:
    """Bytes free on one GPU, or on all together that llama.cpp can use; 0 without one."""
    return sum(gpu.free for gpu in gpus()) if only is None else only.free


def find_gpu(wanted: str | None) -> GPU | None:
    """The GPU to load a model on.

    Args:
        wanted: its UUID ("GPU-..."), its address on the PCI bus, ggml's name ("CUDA1") or its number among ggml's;
            None for all of them.

    Returns:
        the GPU; None for all, and where llama.cpp was built for none: what is asked of GPUs then has no effect.

    Raises:
        BadInput: there is no such GPU; the message lists those there are.
    """
    there = gpus()
    if wanted is None or not there:
        return None
    buses = {_short(gpu.bus) for gpu in probe_nvidia()[0] if gpu.uuid == wanted} - {""}
    for index, gpu in enumerate(there):
        if wanted in (gpu.name, str(index)) or _short(gpu.bus) in {_short(wanted), *buses}:
            return gpu
    shown = ", ".join(f"{gpu.name} ({gpu.bus})" if gpu.bus else gpu.name for gpu in there)
    raise BadInput(f"llama.cpp sees no GPU {wanted!r}; it sees {shown}.", param="device")


def gpus() -> list[GPU]:
    """The GPUs that llama.cpp can use."""
    if not llama_cpp.llama_supports_gpu_offload():
        return []
    library = _ggml.libggml
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_get_props.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Properties)]
    library.ggml_backend_dev_get_props.restype = None
    found = []
    for index in range(library.ggml_backend_dev_count()):
        handle, facts = library.ggml_backend_dev_get(index), _Properties()
        library.ggml_backend_dev_get_props(handle, ctypes.byref(facts))
        if facts.type in _GPU_TYPES:
            name, bus = ((text or b"").decode("utf-8", "replace") for text in (facts.name, facts.device_id))
            found.append(GPU(handle, name, bus, facts.memory_free))
    return found


class _Properties(ctypes.Structure):
    """ggml_backend_dev_props, with room for what later versions may add to the flags at its end."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("flags", ctypes.c_bool * 64),
    ]


def _short(bus: str) -> str:
    """An address without the zeros before its domain, of which NVML writes more than ggml."""
    return bus.lower().lstrip("0")


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
