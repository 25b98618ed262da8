"""A pool whose models go on GPUs, and the hardware of a machine that a test makes up."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_pajamas_run_core.artifacts.catalogue import ModelEntry
from llama_pajamas_run_core.hardware.monitor import Monitor
from llama_pajamas_run_core.hardware.readings import HostReading
from llama_pajamas_run_core.hardware.sampler import Sampler
from llama_pajamas_run_core.pool import Plan, Planner
from llama_pajamas_run_core.testing.fakes import FakeLLM
from support.fake_nvml import GPU, NVML


class GPULLM(FakeLLM):
    """A fake that takes a GPU."""

    def _load(self, path: Path, *, device: str | None = None, runs_on: str = "cuda", **options: Any) -> None:
        super()._load(path, **options)
        self.device, self._runs_on = device, runs_on

    @property
    def details(self) -> Mapping[str, Any]:
        return {"device": self._runs_on, "gpu": self.device}


def gpu_planner(options: Mapping[str, Mapping[str, Any]] | None = None, *, spreads: bool = False) -> Planner:
    """Plans every model for a runtime whose load option for a GPU is "device".

    Args:
        options: load options by model id.
        spreads: whether it puts large models on several GPUs.
    """

    def plan(entry: ModelEntry) -> Plan:
        artifact = entry.artifacts[0]
        more = dict((options or {}).get(entry.id, {}))
        return Plan("gpus", lambda: GPULLM, artifact.materialize, artifact.size, more, "device", spreads)

    return plan


class Hardware:
    """A machine's hardware, in the hands of a test.

    Attributes:
        gpus: the GPUs; what a test writes into them is what the next reading says.
        host: share of the host's memory in use.
        monitor: watches it; takes a reading only when :meth:`look` is called.
    """

    def __init__(self, *gpus: GPU, host: float = 0.1, **monitor: Any) -> None:
        self.gpus, self.host = gpus, host
        self.sampler = Sampler(nvml=NVML(*gpus), environ={})
        self.sampler._read_host = self._read_host  # type: ignore[method-assign]
        self.monitor = Monitor(self.sampler, **monitor)

    def look(self) -> None:
        """Let the monitor take a reading."""
        self.monitor.sample()

    def _read_host(self) -> HostReading:
        return HostReading(1000, round(1000 * self.host), 10, 0.5, 0.1)
