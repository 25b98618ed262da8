"""Readings of the whole machine: what :class:`HostSampler` and NVML tell at one moment."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from llama_pajamas_run_core.hardware import nvml as library
from llama_pajamas_run_core.hardware.host import HostSampler
from llama_pajamas_run_core.hardware.nvidia import cards
from llama_pajamas_run_core.hardware.readings import GPUReading, HostReading, Reading
from llama_pajamas_run_core.hardware.visibility import hidden, visible
from llama_pajamas_run_core.types.hardware import NvidiaGPU

_log = logging.getLogger(__name__)

#: Seconds until a driver that did not answer is asked again.
_PATIENCE: Final = 60.0
#: NVML's bits for why clocks are low (nvmlClocksEventReasons); that of an idle GPU is left out.
_THROTTLING: Final = {
    0x02: "application_clocks", 0x04: "power_cap", 0x08: "hardware_slowdown", 0x10: "sync_boost",
    0x20: "thermal_software", 0x40: "thermal_hardware", 0x80: "power_brake", 0x100: "display_clocks",
}  # fmt: skip


class Sampler:
    """Takes readings. Used by one thread at a time.

    Args:
        nvml: a module with NVML's functions; the installed one if None.
        psutil: the module; the installed one if None.
        environ: environment variables, which say what GPUs may be used; those of this process if None.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        nvml: Any = None,
        psutil: Any = None,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._given, self._nvml, self._clock = nvml, None, clock
        self._environ = os.environ if environ is None else environ
        self._psutil = psutil
        self._host: HostSampler | None = None
        self._gpus: tuple[NvidiaGPU, ...] = ()
        self._notes: dict[str, str] = {}
        self._ask_again = 0.0

    def read(self) -> Reading:
        """Take a reading: facts or reasons. Never raises."""
        notes: dict[str, str] = {}
        host = HostReading()
        gpus: tuple[GPUReading, ...] = ()
        try:
            host = self._read_host()
        except Exception as error:
            notes["host"] = f"the reading failed: {type(error).__name__}: {error}"
        try:
            gpus = self._read_gpus(notes)
        except Exception as error:
            _log.debug("NVML failed", exc_info=error)
            self.close()
            notes["nvidia"] = f"the reading failed: {type(error).__name__}: {error}"
        return Reading(self._clock(), host, gpus, {**self._notes, **notes})

    def close(self) -> None:
        """Let NVML go. Harmless when it was not open; the next reading opens it again."""
        nvml, self._nvml, self._gpus = self._nvml, None, ()
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except Exception:  # there is nothing to be done about a driver that does not even say goodbye
                _log.debug("NVML did not shut down", exc_info=True)

    def _read_host(self) -> HostReading:
        if self._host is None:
            if self._psutil is None:
                try:
                    import psutil
                except ImportError:
                    self._psutil = None
                else:
                    self._psutil = psutil
            self._host = HostSampler(self._psutil, self._clock)
        return self._host.read()

    def _read_gpus(self, notes: dict[str, str]) -> tuple[GPUReading, ...]:
        if self._nvml is None and self._clock() >= self._ask_again:
            self._open()
        if self._nvml is None:
            return ()
        readings = []
        for gpu in self._gpus:
            try:
                readings.append(_gpu(self._nvml, gpu))
            except self._nvml.NVMLError as error:  # one that fell off the bus
                notes[f"GPU {gpu.index}"] = str(error)
        if self._gpus and not readings:
            self.close()  # perhaps the driver was loaded anew
            self._ask_again = self._clock() + _PATIENCE
            self._notes = dict(notes)
        return tuple(readings)

    def _open(self) -> None:
        """Initialize NVML and see which GPUs there are; where that fails, keep the reason."""
        self._notes, self._ask_again = {}, self._clock() + _PATIENCE
        try:
            nvml = library.load() if self._given is None else self._given
            library.start(nvml)
        except library.NoNVML as no:
            self._notes["nvidia"] = str(no)
            return
        self._nvml = nvml
        try:
            found, lost = cards(nvml)
        except nvml.NVMLError as error:
            self.close()
            self._notes["nvidia"] = library.reason(nvml, error)
            return
        self._gpus = visible(found, self._environ)
        reasons = [*lost, *filter(None, [hidden(found, self._gpus, self._environ)])]
        if not found and not lost:
            reasons.append("the NVIDIA driver sees no GPU")
        if reasons:
            self._notes["nvidia"] = "; ".join(reasons)


def _gpu(nvml: Any, gpu: NvidiaGPU) -> GPUReading:
    """One GPU, field by field.

    Raises:
        NVMLError: of that module, where the GPU is gone.
    """
    handle = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
    values: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, read in _FIELDS.items():
        try:
            values[name] = read(nvml, handle)
        except nvml.NVMLError as error:
            if getattr(error, "value", None) == nvml.NVML_ERROR_GPU_IS_LOST:
                raise
            missing[name] = str(error)
    memory = values.pop("memory", None)
    if memory is not None:
        values["memory"], values["memory_used"] = memory
    elif gpu.integrated:
        missing["memory"] = "it shares the host's memory"
    return GPUReading(gpu.index, gpu.uuid, gpu.name, **values, missing=missing)


def _memory(nvml: Any, handle: Any) -> tuple[int, int]:
    facts = nvml.nvmlDeviceGetMemoryInfo(handle)
    return int(facts.total), int(facts.total) - int(facts.free)  # what the driver keeps for itself counts as used


def _throttling(nvml: Any, handle: Any) -> tuple[str, ...]:
    # The older of its two names, which every driver knows.
    bits = int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    return tuple(name for bit, name in _THROTTLING.items() if bits & bit)


#: How each field is read. One that a GPU does not have (power of a part, fan-less boards, ...) is missing by itself.
_FIELDS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "memory": _memory,
    "utilization": lambda nvml, handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
    "temperature": lambda nvml, handle: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
    "power": lambda nvml, handle: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
    "power_limit": lambda nvml, handle: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
    "clock": lambda nvml, handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM) * 1e6,
    "memory_clock": lambda nvml, handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM) * 1e6,
    "throttling": _throttling,
}
