"""What a measurement gives: a median with its spread, or the reason why there is none."""

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from llama_pajamas_run_core.errors import PajamasError

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured several times.

    Attributes:
        median: in ``unit``.
        low: the lowest of all runs.
        high: the highest.
        runs: how many there were.
        unit: "ms", "GB/s", "images/s", ...
        note: how it was measured, where that is not the same for CPU and GPU.
    """

    median: float
    low: float
    high: float
    runs: int
    unit: str
    note: str = ""

    @classmethod
    def of(cls, values: Sequence[float], unit: str, note: str = "") -> "Figure":
        """The figure of several runs."""
        return cls(statistics.median(values), min(values), max(values), len(values), unit, note)

    def __str__(self) -> str:
        return f"{self.median:,.4g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Line:
    """The same thing measured on the CPU and on the GPU.

    Attributes:
        what: what was measured.
        cpu: the figure, or why there is none.
        gpu: the figure, or why there is none.
        floor: what the GPU has to reach, in the figure's unit; None where there is no floor.
        better: whether more or less is better.
    """

    what: str
    cpu: Figure | str
    gpu: Figure | str
    floor: float | None = None
    better: Literal["higher", "lower"] = "higher"

    @property
    def ratio(self) -> float | None:
        """How many times as fast the GPU is; None where one of the two is missing or they differ in kind."""
        cpu, gpu = self.cpu, self.gpu
        if isinstance(cpu, str) or isinstance(gpu, str) or not cpu.median or not gpu.median or cpu.unit != gpu.unit:
            return None
        return gpu.median / cpu.median if self.better == "higher" else cpu.median / gpu.median

    @property
    def reached(self) -> bool | None:
        """Whether the GPU reaches the floor; None without a floor or without a figure."""
        if self.floor is None or isinstance(self.gpu, str):
            return None
        return self.gpu.median >= self.floor if self.better == "higher" else self.gpu.median < self.floor

    def plain(self) -> dict[str, Any]:
        """For JSON."""

        def told(side: Figure | str) -> dict[str, Any]:
            return {"reason": side} if isinstance(side, str) else asdict(side)

        return {
            "what": self.what,
            "cpu": told(self.cpu),
            "gpu": told(self.gpu),
            "ratio": self.ratio,
            "floor": self.floor,
            "reached": self.reached,
            "better": self.better,
        }


def attempt(measure: Callable[[], T]) -> T | str:
    """What is measured, or what went wrong: one thing that cannot be measured must not take the others with it."""
    try:
        return measure()
    except PajamasError as error:
        return str(error)
    except Exception as error:
        _log.exception("a measurement failed")
        return f"{type(error).__name__}: {error}"


def timed(work: Callable[[], object], *, runs: int, warmup: int = 1) -> list[float]:
    """Seconds that each of several runs takes."""
    for _ in range(warmup):
        work()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken


def paced(work: Callable[[], object], *, seconds: float, runs: int = 5, warmup: int = 1) -> list[float]:
    """Seconds that a piece of work takes, in several runs that together take about so long.

    Args:
        work: what is measured.
        seconds: for all runs together; work that takes longer is still run as often as ``runs`` says.
        runs: how many.
        warmup: how many before them do not count.
    """
    single = min(timed(work, runs=1, warmup=warmup))
    times = max(1, round(seconds / runs / max(single, 1e-6)))

    def several() -> None:
        for _ in range(times):
            work()

    return [taken / times for taken in timed(several, runs=runs, warmup=0)]
