"""The processor and the memory, on Linux, macOS and Windows, with psutil or without."""

import ctypes
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from llama_pajamas_run_core.hardware.limits import memory_left, memory_limit, usable_processors
from llama_pajamas_run_core.types.hardware import Processor

#: Instruction sets that matter to inference, by the names that Linux gives them, with ours.
FEATURES: Final = {
    "sse4_2": "sse4_2", "avx": "avx", "f16c": "f16c", "fma": "fma", "bmi2": "bmi2", "avx2": "avx2",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f", "avx512bw": "avx512bw", "avx512vl": "avx512vl", "avx512dq": "avx512dq",
    "avx512_vnni": "avx512_vnni", "avx512vbmi": "avx512_vbmi", "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16", "amx_tile": "amx_tile", "amx_int8": "amx_int8", "amx_bf16": "amx_bf16",
    "amx_fp16": "amx_fp16",
    "asimd": "neon", "neon": "neon", "asimdhp": "fp16", "asimddp": "dotprod", "i8mm": "i8mm", "bf16": "bf16",
    "sve": "sve", "sve2": "sve2", "sme": "sme",
}  # fmt: skip

#: macOS's names: ``sysctl machdep.cpu`` on Intel, ``hw.optional`` on Apple silicon.
_MAC_INTEL: Final = {
    "SSE4.2": "sse4_2", "AVX1.0": "avx", "F16C": "f16c", "FMA": "fma", "BMI2": "bmi2", "AVX2": "avx2",
    "AVX512F": "avx512f", "AVX512BW": "avx512bw", "AVX512VL": "avx512vl", "AVX512DQ": "avx512dq",
    "AVX512VNNI": "avx512_vnni",
}  # fmt: skip
_MAC_ARM: Final = {
    "hw.optional.neon": "neon", "hw.optional.arm.FEAT_FP16": "fp16", "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_I8MM": "i8mm", "hw.optional.arm.FEAT_BF16": "bf16", "hw.optional.arm.FEAT_SME": "sme",
}  # fmt: skip

#: Windows's numbers for ``IsProcessorFeaturePresent``. FMA, F16C and BMI2 have none; processors with AVX2 have them.
_WINDOWS: Final = {
    38: ("sse4_2",), 39: ("avx",), 40: ("avx2", "fma", "f16c", "bmi2"), 41: ("avx512f",),
    19: ("neon",), 43: ("dotprod",), 46: ("sve",), 66: ("i8mm",),
}  # fmt: skip

# The vendors' numbers for ARM cores without a name in /proc/cpuinfo: (implementer, part) -> name.
_ARM_CORES: Final = {
    ("0x41", "0xd03"): "Cortex-A53", ("0x41", "0xd08"): "Cortex-A72", ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse N1", ("0x41", "0xd40"): "Neoverse V1", ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd49"): "Neoverse N2", ("0x41", "0xd4f"): "Neoverse V2",
}  # fmt: skip


def probe_processor() -> Processor:
    """The processor of this machine and its memory, as far as this process may use them."""
    if sys.platform == "darwin":
        return _mac()
    if sys.platform == "win32":
        return _windows()
    return linux_processor()


def architecture(machine: str | None = None) -> str:
    """One name for each architecture: "x86_64" and "arm64", whatever the system calls them."""
    name = (machine if machine is not None else platform.machine()).lower()
    return {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64"}.get(name, name)


def linux_processor(root: Path = Path("/"), machine: str | None = None) -> Processor:
    """The processor as /proc and /sys tell it.

    Args:
        root: where /proc and /sys are.
        machine: the architecture; that of this machine if None.
    """
    text = _read(root / "proc/cpuinfo")
    flags: set[str] = set()
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if colon and key in ("flags", "Features"):
            flags.update(value.split())
        elif colon:
            facts.setdefault(key, value)
    threads = usable_processors(root)
    total, free = linux_memory(root)
    return Processor(
        _linux_name(facts, root),
        architecture(machine),
        min(threads, _linux_cores(root, threads)),
        threads,
        named_features(flags, FEATURES),
        total,
        free,
    )


def linux_memory(root: Path = Path("/")) -> tuple[int, int]:
    """(bytes in all, bytes that can be taken without swapping), within the limits of control groups."""
    numbers = {
        key: int(kib) * 1024 for key, kib in re.findall(r"^(\w+):\s+(\d+) kB", _read(root / "proc/meminfo"), re.M)
    }
    total, free = numbers.get("MemTotal", 0), numbers.get("MemAvailable", numbers.get("MemFree", 0))
    if (limit := memory_limit(root)) is not None and limit < total:
        total = limit
    if (left := memory_left(root)) is not None:
        free = min(free, left)
    return total, min(free, total)


def named_features(found: Iterable[str], names: dict[str, str]) -> frozenset[str]:
    """Our names for the instruction sets found."""
    return frozenset(names[name] for name in found if name in names)


def _linux_name(facts: dict[str, str], root: Path) -> str:
    board = _read(root / "proc/device-tree/model").strip("\x00\n ")
    core = _ARM_CORES.get((facts.get("CPU implementer", ""), facts.get("CPU part", "")), "")
    if name := facts.get("model name") or facts.get("Model"):
        return re.sub(r"\s+", " ", name)
    return " ".join(filter(None, (board, f"({core})" if board and core else core))) or platform.machine() or "unknown"


def _linux_cores(root: Path, threads: int) -> int:
    """Physical cores among the processors of this process, by their (package, core) pairs."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    pairs = set()
    for folder in (root / "sys/devices/system/cpu").glob("cpu[0-9]*"):
        number = folder.name.removeprefix("cpu")
        if not number.isdigit() or (allowed is not None and int(number) not in allowed):
            continue
        package, core = (_read(folder / "topology" / name).strip() for name in ("physical_package_id", "core_id"))
        if core:
            pairs.add((package, core))
    return len(pairs) or threads


def _mac() -> Processor:
    names = ("machdep.cpu.brand_string", "hw.memsize", "hw.physicalcpu", "hw.logicalcpu", "machdep.cpu.features")
    facts = sysctl(*names, "machdep.cpu.leaf7_features", *_MAC_ARM)
    intel = f"{facts.get('machdep.cpu.features', '')} {facts.get('machdep.cpu.leaf7_features', '')}".split()
    features = named_features(intel, _MAC_INTEL) | {ours for name, ours in _MAC_ARM.items() if facts.get(name) == "1"}
    total = number(facts.get("hw.memsize"))
    return Processor(
        facts.get("machdep.cpu.brand_string", "") or platform.processor() or "unknown",
        "arm64" if facts.get("hw.optional.neon") == "1" else architecture(),
        number(facts.get("hw.physicalcpu")) or 1,
        number(facts.get("hw.logicalcpu")) or os.cpu_count() or 1,
        features,
        total,
        _psutil_free() or _mac_free() or total // 2,
    )


def sysctl(*names: str) -> dict[str, str]:
    """Values of macOS's kernel state; a name that the kernel does not know is left out."""
    try:
        # Unknown names make the exit status non-zero, but the known ones are still printed.
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-i", *names], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = (line.partition(": ") for line in done.stdout.splitlines())
    return {name: value.strip() for name, colon, value in lines if colon}


def _mac_free() -> int:
    try:
        text = subprocess.run(["/usr/bin/vm_stat"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return parse_vm_stat(text)


def parse_vm_stat(text: str) -> int:
    """Bytes that macOS can give without swapping, from the output of ``vm_stat``."""
    page = re.search(r"page size of (\d+) bytes", text)
    counts = dict(re.findall(r"^Pages ([\w ]+):\s+(\d+)\.", text, re.M))
    pages = sum(int(counts.get(name, 0)) for name in ("free", "inactive", "speculative", "purgeable"))
    return pages * int(page[1]) if page else 0


def number(text: str | None) -> int:
    """An integer, or 0 where the text is none."""
    return int(text) if text is not None and text.strip().isdigit() else 0


def _psutil_free() -> int:
    try:
        import psutil
    except ImportError:
        return 0
    return int(psutil.virtual_memory().available)


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = [
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        *((f"rest{index}", ctypes.c_uint64) for index in range(5)),
    ]


def _windows() -> Processor:
    if sys.platform != "win32":  # for the type checker, which looks at one system at a time
        raise OSError("this is not Windows")
    import winreg

    kernel = ctypes.windll.kernel32
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    kernel.GlobalMemoryStatusEx(ctypes.byref(status))
    features = {ours for code, names in _WINDOWS.items() if kernel.IsProcessorFeaturePresent(code) for ours in names}
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
        name = str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    process, system = ctypes.c_size_t(), ctypes.c_size_t()
    kernel.GetProcessAffinityMask(ctypes.c_void_p(-1), ctypes.byref(process), ctypes.byref(system))
    threads = process.value.bit_count() or os.cpu_count() or 1
    cores = _psutil_cores() or threads
    return Processor(
        name, architecture(), min(cores, threads), threads, frozenset(features), status.total, status.available
    )


def _psutil_cores() -> int:
    try:
        import psutil
    except ImportError:
        return 0
    return int(psutil.cpu_count(logical=False) or 0)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
