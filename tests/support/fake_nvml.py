"""A stand-in for the module pynvml: what the probes and the monitor call, with GPUs that a test makes up."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    def __init__(self, value: int = 999) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


class NotSupported(NVMLError):
    def __init__(self) -> None:
        super().__init__(3)


@dataclass
class Part:
    """A part of a GPU that MIG sets apart."""

    uuid: str
    memory: int = 1000
    ids: tuple[int, int] = (1, 0)


@dataclass
class GPU:
    """A GPU; ``None`` for what it does not tell."""

    uuid: str = "GPU-0"
    memory: int | None = 1000
    used: int = 500
    capability: tuple[int, int] = (9, 0)
    utilization: int | None = 0
    temperature: int | None = 40
    power: int | None = 100_000
    power_limit: int | None = 700_000
    clock: int | None = 1980
    memory_clock: int | None = 3201
    throttling: int | None = 0
    bus: str = "00000000:18:00.0"
    lost: bool = False
    parts: tuple[Part, ...] | None = None
    links: dict[int, str] = field(default_factory=dict)
    shape: str = "NVIDIA H200"


class NVML:
    """What is used of pynvml.

    Args:
        gpus: the GPUs.
        init: the number of an error that initializing raises.
        levels: what of the PCI bus lies between two GPUs, by their indexes.
    """

    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupported
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_ERROR_DRIVER_NOT_LOADED = 9
    NVML_ERROR_NO_PERMISSION = 4
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18
    NVML_ERROR_GPU_IS_LOST = 15
    NVML_DEVICE_MIG_ENABLE = 1
    NVML_NVLINK_MAX_LINKS = 18
    NVML_NVLINK_DEVICE_TYPE_GPU = 0
    NVML_NVLINK_DEVICE_TYPE_SWITCH = 2
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2

    def __init__(self, *gpus: GPU, init: int | None = None, levels: dict[tuple[int, int], int] | None = None) -> None:
        self.gpus, self.init, self.levels = list(gpus), init, levels or {}
        self.open = 0
        self.calls = 0

    def nvmlInit(self) -> None:
        self.calls += 1
        if self.init is not None:
            raise NVMLError(self.init)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.82.07"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 12080

    def nvmlDeviceGetCount(self) -> int:
        assert self.open > 0, "NVML is not initialized"
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> GPU:
        return self._alive(self.gpus[index])

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        assert self.open > 0, "NVML is not initialized"
        for gpu in self.gpus:
            for known in (gpu, *(gpu.parts or ())):
                if known.uuid == uuid:
                    self._alive(gpu)
                    return known
        raise NVMLError(6)

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        return str(handle.uuid)

    def nvmlDeviceGetName(self, handle: Any) -> bytes:
        if isinstance(handle, Part):
            return b"NVIDIA H200 MIG 1g.18gb"
        return str(handle.shape).encode()  # older versions of the package give bytes

    def nvmlDeviceGetCudaComputeCapability(self, handle: GPU) -> list[int]:
        return list(handle.capability)

    def nvmlDeviceGetPciInfo(self, handle: GPU) -> Any:
        return SimpleNamespace(busId=handle.bus.encode())

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        if handle.memory is None:
            raise NotSupported
        used = getattr(handle, "used", 0)
        return SimpleNamespace(total=handle.memory, free=handle.memory - used)

    def nvmlDeviceGetMigMode(self, handle: GPU) -> list[int]:
        return [0, 0] if handle.parts is None else [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: GPU) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: GPU, place: int) -> Part:
        parts = handle.parts or ()
        if place >= len(parts):
            raise NVMLError(6)
        return parts[place]

    def nvmlDeviceGetGpuInstanceId(self, part: Part) -> int:
        return part.ids[0]

    def nvmlDeviceGetComputeInstanceId(self, part: Part) -> int:
        return part.ids[1]

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        return SimpleNamespace(gpu=self._told(handle, "utilization"), memory=0)

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int:
        return self._told(handle, "temperature")

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:
        return self._told(handle, "power")

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Any) -> int:
        return self._told(handle, "power_limit")

    def nvmlDeviceGetClockInfo(self, handle: Any, which: int) -> int:
        return self._told(handle, "clock" if which == self.NVML_CLOCK_SM else "memory_clock")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any) -> int:
        return self._told(handle, "throttling")

    def nvmlDeviceGetNvLinkState(self, handle: GPU, link: int) -> int:
        if not handle.links:
            raise NotSupported
        return int(link in handle.links)

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle: GPU, link: int) -> int:
        return 2 if handle.links[link] == "switch" else 0

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: GPU, link: int) -> Any:
        return SimpleNamespace(busId=handle.links[link])

    def nvmlDeviceGetTopologyCommonAncestor(self, first: GPU, second: GPU) -> int:
        pair = (self.gpus.index(first), self.gpus.index(second))
        if pair not in self.levels:
            raise NotSupported
        return self.levels[pair]

    def _alive(self, gpu: GPU) -> GPU:
        if gpu.lost:
            raise NVMLError(self.NVML_ERROR_GPU_IS_LOST)
        return gpu

    def _told(self, handle: Any, what: str) -> int:
        value = getattr(handle, what, None)
        if value is None:
            raise NotSupported
        return int(value)
