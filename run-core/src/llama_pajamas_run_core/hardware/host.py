"""Readings of the processor and its memory: psutil where it is installed, and the limits of containers."""

import sys
import time
from collections.abc import Callable
from typing import Any, Final

from llama_pajamas_run_core.hardware.cpu import linux_memory
from llama_pajamas_run_core.hardware.limits import usable_processors
from llama_pajamas_run_core.hardware.readings import HostReading

INSTALL: Final = "uv pip install psutil"


class HostSampler:
    """Takes readings of the host. Shares of time are those since the last reading; the first one has none.

    Args:
        psutil: the module, or None where it is not installed.
        clock: seconds, monotonic.
    """

    def __init__(self, psutil: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._psutil, self._clock = psutil, clock
        self._process = psutil.Process() if psutil is not None else None
        self._processors = usable_processors()
        self._busy: tuple[float, float] | None = None
        self._own: tuple[float, float] | None = None

    def read(self) -> HostReading:
        """Take a reading. Never raises."""
        missing: dict[str, str] = {}
        if self._psutil is None:
            reason = f"the package psutil is not installed: `{INSTALL}`"
            missing = dict.fromkeys(("process_memory", "utilization", "process_utilization"), reason)
            if not sys.platform.startswith("linux"):
                missing |= dict.fromkeys(("memory", "memory_used"), reason)
        values: dict[str, Any] = {}
        for read, names in (
            (self._memory, ("memory", "memory_used")),
            (self._shares, ("utilization",)),
            (self._of_process, ("process_memory", "process_utilization")),
        ):
            try:
                values |= read()
            except Exception as error:  # psutil's errors and those of odd systems; a reading never fails
                missing |= dict.fromkeys(names, f"{type(error).__name__}: {error}")
        return HostReading(**values, missing=missing)

    def _memory(self) -> dict[str, Any]:
        if sys.platform.startswith("linux"):
            total, free = linux_memory()
        elif self._psutil is not None:
            facts = self._psutil.virtual_memory()
            total, free = int(facts.total), int(facts.available)
        else:
            return {}
        return {"memory": total, "memory_used": total - free}

    def _shares(self) -> dict[str, Any]:
        if self._psutil is None:
            return {}
        times = self._psutil.cpu_times()
        total = sum(times) - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0)  # Linux counts them in "user"
        busy = total - times.idle - getattr(times, "iowait", 0.0)
        before, self._busy = self._busy, (busy, total)
        if before is None or total <= before[1]:
            return {}
        return {"utilization": min(max((busy - before[0]) / (total - before[1]), 0.0), 1.0)}

    def _of_process(self) -> dict[str, Any]:
        if self._process is None:
            return {}
        values: dict[str, Any] = {"process_memory": int(self._process.memory_info().rss)}
        times, now = self._process.cpu_times(), self._clock()
        used = times.user + times.system
        before, self._own = self._own, (used, now)
        if before is not None and now > before[1]:
            share = (used - before[0]) / (now - before[1]) / self._processors
            values["process_utilization"] = min(max(share, 0.0), 1.0)
        return values
