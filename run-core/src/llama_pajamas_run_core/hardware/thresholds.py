"""Thresholds of readings, and the alerts that are raised while they are passed."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.hardware.readings import GPUReading, Reading

_log = logging.getLogger(__name__)

Kind = Literal["memory", "temperature", "throttling"]
#: What alerts call the processor and its memory.
HOST: Final = "host"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on there is an alert, and how far below it ends.

    Attributes:
        temperature: of a GPU, degrees Celsius.
        memory: share in use, of a GPU's memory and of the host's.
        temperature_margin: degrees below at which the alert ends.
        memory_margin: share below at which it ends.
        calm: readings in a row without throttling after which that alert ends.
    """

    temperature: float = 85.0
    memory: float = 0.90
    temperature_margin: float = 3.0
    memory_margin: float = 0.02
    calm: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.memory <= 1:
            raise BadInput(f"The threshold of memory is a share from 0 to 1, not {self.memory:g}.", param="memory")
        if not 0 < self.temperature <= 150:
            raise BadInput(f"The threshold of temperature is in degrees Celsius, not {self.temperature:g}.")


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold that is passed.

    Attributes:
        kind: "memory", "temperature" or "throttling" (by heat).
        device: a GPU's UUID, or "host".
        name: the device for people ("GPU 0", "host").
        message: one sentence without a full stop.
    """

    kind: Kind
    device: str
    name: str
    message: str


class Alarm:
    """Turns readings into alerts: one for each crossing, which lasts until the value is well below the threshold.

    Args:
        thresholds: when alerts begin and end.
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._raised: dict[tuple[str, Kind], Alert] = {}
        self._calm: dict[tuple[str, Kind], int] = {}

    def update(self, reading: Reading) -> tuple[Alert, ...]:
        """The alerts after a reading; each that begins or ends is logged."""
        now: dict[tuple[str, Kind], Alert] = {}
        for alert, on in self._judged(reading):
            key = alert.device, alert.kind
            if not on:
                continue
            now[key] = alert
            if key not in self._raised:
                _log.warning("alert=%s device=%s %s", alert.kind, alert.name, alert.message)
        for key, alert in self._raised.items():
            if key not in now:
                _log.info("alert=%s device=%s is over", alert.kind, alert.name)
        self._raised = now
        return tuple(now.values())

    def _judged(self, reading: Reading) -> Iterator[tuple[Alert, bool]]:
        share = reading.host.memory_share
        yield self._memory(HOST, HOST, share)
        for gpu in reading.gpus:
            yield self._memory(gpu.uuid, f"GPU {gpu.index}", gpu.memory_share)
            yield self._temperature(gpu)
            yield self._throttling(gpu)

    def _memory(self, device: str, name: str, share: float | None) -> tuple[Alert, bool]:
        limits = self._thresholds
        on = self._past(device, "memory", share, limits.memory, limits.memory_margin)
        message = f"{share or 0:.0%} of its memory is in use, past {limits.memory:.0%}"
        return Alert("memory", device, name, message), on

    def _temperature(self, gpu: GPUReading) -> tuple[Alert, bool]:
        limits, degrees = self._thresholds, gpu.temperature
        on = self._past(gpu.uuid, "temperature", degrees, limits.temperature, limits.temperature_margin)
        message = f"{degrees or 0:.0f} degrees Celsius, past {limits.temperature:g}"
        return Alert("temperature", gpu.uuid, f"GPU {gpu.index}", message), on

    def _throttling(self, gpu: GPUReading) -> tuple[Alert, bool]:
        key: tuple[str, Kind] = (gpu.uuid, "throttling")
        self._calm[key] = 0 if gpu.too_hot else self._calm.get(key, self._thresholds.calm) + 1
        on = self._calm[key] < self._thresholds.calm
        message = f"it computes more slowly because of its heat ({', '.join(gpu.throttling or ()) or 'until just now'})"
        return Alert("throttling", gpu.uuid, f"GPU {gpu.index}", message), on

    def _past(self, device: str, kind: Kind, value: float | None, threshold: float, margin: float) -> bool:
        """Whether an alert is on; a value that is not known ends it."""
        if value is None:
            return False
        return value >= (threshold - margin if (device, kind) in self._raised else threshold)
