"""The last reading of the hardware as gauges for Prometheus. What is not known has no sample."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from llama_pajamas_run_core.hardware.monitor import Watch
from llama_pajamas_run_core.hardware.readings import GPUReading, HostReading

#: A metric: its name without the prefix, its kind, its help, and (labels, value) for each sample.
Family = tuple[str, str, str, list[tuple[str, float]]]

_HOST: Final[tuple[tuple[str, str, Callable[[HostReading], float | None]], ...]] = (
    ("host_memory_bytes", "Memory of the host, or what a container allows.", lambda host: host.memory),
    ("host_memory_used_bytes", "Memory of the host in use.", lambda host: host.memory_used),
    ("host_utilization_ratio", "Share of the processors' time in use.", lambda host: host.utilization),
    ("process_memory_bytes", "Memory of this process.", lambda host: host.process_memory),
    ("process_utilization_ratio", "Share of the processors that this process uses.", lambda h: h.process_utilization),
)
_GPU: Final[tuple[tuple[str, str, Callable[[GPUReading], float | None]], ...]] = (
    ("gpu_memory_bytes", "Memory of a GPU.", lambda gpu: gpu.memory),
    ("gpu_memory_used_bytes", "Memory of a GPU in use, by whomever.", lambda gpu: gpu.memory_used),
    ("gpu_utilization_ratio", "Share of the time in which a GPU computed.", lambda gpu: gpu.utilization),
    ("gpu_temperature_celsius", "Temperature of a GPU.", lambda gpu: gpu.temperature),
    ("gpu_power_watts", "Power that a GPU takes.", lambda gpu: gpu.power),
    ("gpu_power_limit_watts", "The most power that a GPU takes.", lambda gpu: gpu.power_limit),
    ("gpu_clock_hertz", "Clock of a GPU's processors.", lambda gpu: gpu.clock),
    ("gpu_memory_clock_hertz", "Clock of a GPU's memory.", lambda gpu: gpu.memory_clock),
)


def hardware_families(seen: Watch) -> Iterable[Family]:
    """The gauges of the hardware.

    Args:
        seen: what the monitor knows; nothing before its first reading.
    """
    if seen.reading is None:
        return
    host, gpus = seen.reading.host, seen.reading.gpus
    for name, help_, read in _HOST:
        if (value := read(host)) is not None:
            yield name, "gauge", help_, [("", round(value, 6))]
    for name, help_, of_gpu in _GPU:
        values = [(_labels(gpu), of_gpu(gpu)) for gpu in gpus]
        if samples := [(labels, round(value, 6)) for labels, value in values if value is not None]:
            yield name, "gauge", help_, samples
    throttled = [(f'{_labels(gpu)},reason="{reason}"', 1.0) for gpu in gpus for reason in gpu.throttling or ()]
    if throttled:
        yield "gpu_throttled", "gauge", "Why the clocks of a GPU are low.", throttled
    kinds = Counter[str](alert.kind for alert in seen.alerts)
    warnings = [(f'kind="{kind}"', float(kinds[kind])) for kind in ("memory", "temperature", "throttling")]
    yield "hardware_warnings", "gauge", "Thresholds of the hardware that are passed, by kind.", warnings


def _labels(gpu: GPUReading) -> str:
    return f'gpu="{gpu.index}",uuid="{gpu.uuid}"'
