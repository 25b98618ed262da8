"""Apple's chips, as the kernel of macOS tells them."""

import json
import subprocess
import sys

from llama_pajamas_run_core.hardware.cpu import number, sysctl
from llama_pajamas_run_core.types.hardware import AppleChip


def probe_apple() -> tuple[AppleChip | None, str | None]:
    """The chip, or why there is none.

    Returns:
        (the chip, None), or (None, the reason).
    """
    if sys.platform != "darwin":
        return None, "this is no Apple system"
    facts = sysctl("machdep.cpu.brand_string", "hw.memsize", "hw.optional.arm64")
    # The kernel says so even to a process of Intel code that Rosetta runs.
    if facts.get("hw.optional.arm64") != "1":
        return None, "this Mac has an Intel processor"
    return AppleChip(
        facts.get("machdep.cpu.brand_string", "Apple silicon"), number(facts.get("hw.memsize")), _gpu_cores()
    ), None


def _gpu_cores() -> int:
    """Cores of the GPU, or 0 where the system does not tell."""
    command = ["/usr/sbin/system_profiler", "-json", "-detailLevel", "mini", "SPDisplaysDataType"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return parse_gpu_cores(text)


def parse_gpu_cores(text: str) -> int:
    """Cores of the GPU, from the JSON of ``system_profiler SPDisplaysDataType``; 0 where it does not tell."""
    try:
        displays = json.loads(text)["SPDisplaysDataType"]
    except (ValueError, KeyError, TypeError):
        return 0
    return next((number(entry.get("sppci_cores")) for entry in displays if entry.get("sppci_cores")), 0)
