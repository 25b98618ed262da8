"""What the hardware does at one moment: values, and for each that is missing the reason."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

#: Reasons for throttling that mean that a GPU is too hot.
THERMAL: Final = frozenset({"thermal_software", "thermal_hardware"})


@dataclass(frozen=True, slots=True)
class GPUReading:
    """A GPU at one moment. None stands for what it does not tell; ``missing`` says why.

    Attributes:
        index: as in the hardware profile.
        uuid: as there.
        name: as there.
        memory: bytes in all.
        memory_used: bytes in use, by whomever.
        utilization: share of the time in which it computed, 0 to 1, over the driver's last sampling period.
        temperature: degrees Celsius.
        power: watts.
        power_limit: the most watts it takes.
        clock: of its processors, in hertz.
        memory_clock: of its memory, in hertz.
        throttling: why its clocks are lower than they might be: "power_cap", "thermal_software", "thermal_hardware",
            "power_brake", "hardware_slowdown", "sync_boost", "application_clocks" or "display_clocks"; empty when they
            are not, or when it idles.
        missing: the names of fields that could not be read, with the reason.
    """

    index: int
    uuid: str
    name: str
    memory: int | None = None
    memory_used: int | None = None
    utilization: float | None = None
    temperature: float | None = None
    power: float | None = None
    power_limit: float | None = None
    clock: float | None = None
    memory_clock: float | None = None
    throttling: tuple[str, ...] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def memory_free(self) -> int | None:
        """Bytes that are not in use."""
        return None if self.memory is None or self.memory_used is None else self.memory - self.memory_used

    @property
    def memory_share(self) -> float | None:
        """The part of its memory that is in use, 0 to 1."""
        return None if not self.memory or self.memory_used is None else self.memory_used / self.memory

    @property
    def too_hot(self) -> bool:
        """Whether it computes more slowly because of its temperature."""
        return bool(THERMAL.intersection(self.throttling or ()))


@dataclass(frozen=True, slots=True)
class HostReading:
    """The processor and its memory at one moment. None stands for what is not known; ``missing`` says why.

    Attributes:
        memory: bytes in all, or what a container allows.
        memory_used: bytes that cannot be had without swapping.
        process_memory: bytes of memory that this process holds.
        utilization: share of the processors' time in use since the last reading, 0 to 1.
        process_utilization: the part of the processors that this process used since then, 0 to 1.
        missing: the names of fields that could not be read, with the reason.
    """

    memory: int | None = None
    memory_used: int | None = None
    process_memory: int | None = None
    utilization: float | None = None
    process_utilization: float | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def memory_share(self) -> float | None:
        """The part of the memory that is in use, 0 to 1."""
        return None if not self.memory or self.memory_used is None else self.memory_used / self.memory


@dataclass(frozen=True, slots=True)
class Reading:
    """The machine at one moment.

    Attributes:
        time: seconds of a monotonic clock.
        host: the processor and its memory.
        gpus: the GPUs that this process may use and that answered.
        notes: for what did not answer, why.
    """

    time: float
    host: HostReading
    gpus: tuple[GPUReading, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)

    def gpu(self, uuid: str) -> GPUReading | None:
        """The GPU of that UUID, if it answered."""
        return next((gpu for gpu in self.gpus if gpu.uuid == uuid), None)

    def plain(self) -> dict[str, Any]:
        """For JSON, without the time, which means nothing to others."""
        fields = asdict(self)
        del fields["time"]
        return fields
