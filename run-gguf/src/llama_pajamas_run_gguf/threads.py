"""How many threads to compute with."""

import os
import sys
from pathlib import Path

from llama_pajamas_run_core.hardware.limits import cpu_quota

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
#: Below this many bytes of weights, threads wait for each other longer than they work.
_SMALL_MODEL = 48 << 20


def default_threads(weights: int | None = None) -> int:
    """The physical cores this process may use: two threads on one core only get in each other's way.

    Respects the CPU affinity and the quotas of control groups.

    Args:
        weights: bytes of the weights, where that is known; small models are computed faster by one thread.
    """
    if weights is not None and weights < _SMALL_MODEL:
        return 1
    if sys.platform == "linux":
        usable = os.sched_getaffinity(0)
        cores = len({_siblings(cpu) for cpu in usable})
        quota = cpu_quota()
        return max(1, cores if quota is None else min(cores, int(quota)))
    return max(1, (os.cpu_count() or 2) // 2) if sys.platform == "win32" else max(1, os.cpu_count() or 1)


def _siblings(cpu: int) -> str:
    try:
        return Path(_SIBLINGS.format(cpu)).read_text().strip()
    except OSError:
        return str(cpu)
