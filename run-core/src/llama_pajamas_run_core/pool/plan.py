"""How a model of the catalogue would be loaded on this machine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_pajamas_run_core.artifacts.catalogue import Artifact, ModelEntry
from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.runtimes.info import RuntimeState
from llama_pajamas_run_core.selection.select import select
from llama_pajamas_run_core.types.hardware import HardwareProfile

#: A loaded model takes its file's size, more for caches and scratch space in proportion, and something of its own.
_MEMORY_FACTOR = 1.2
_MEMORY_BASE = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to load a model.

    Attributes:
        runtime: the runtime's short name.
        backend: gives the backend's class; importing the runtime's SDK waits until it is called.
        artifact: gives the path of the model's file or folder; may have to make or fetch it.
        memory: bytes to be reserved before the model is loaded.
        options: load options of the runtime.
        device: the load option that takes the UUID of a GPU; None where the runtime takes none.
        spreads: whether the runtime puts a model on several GPUs where it is given none.
    """

    runtime: str
    backend: Callable[[], type[Backend]]
    artifact: Callable[[], Path]
    memory: int
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    spreads: bool = False

    def load(self, gpu: str | None = None) -> Backend:
        """Load the model. Blocks.

        Args:
            gpu: the UUID of the GPU to load it on; None leaves that to the runtime. What the options say goes first.

        Raises:
            LoadError: the model cannot be loaded.
            MissingDependency: the runtime's package is not installed.
        """
        chosen = {self.device: gpu} if self.device is not None and gpu is not None else {}
        return self.backend()(self.artifact(), **{**chosen, **self.options})


#: Decides how a model is loaded; raises a PajamasError that says why where it cannot be.
Planner = Callable[[ModelEntry], Plan]


class SelectionPlanner:
    """Plans by the selection matrix: the best runtime that this machine has for one of the model's artifacts.

    Args:
        profile: the machine.
        runtimes: those installed, as ``runtimes.discovery.installed()`` gives them.
        prefer: names of runtimes to be taken first, where they can run the model at all.
        options: load options by model id.
    """

    def __init__(
        self,
        profile: HardwareProfile,
        runtimes: Sequence[RuntimeState],
        *,
        prefer: Sequence[str] = (),
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._profile = profile
        self._runtimes = tuple(runtimes)
        self._prefer = tuple(prefer)
        self._options = options or {}

    def __call__(self, entry: ModelEntry) -> Plan:
        """Plan the loading of a model.

        Raises:
            PajamasError: no runtime of this machine runs the model; the message gives the reasons.
        """
        chosen = select(self._profile, entry.task, self._runtimes, sorted(entry.formats), self._prefer).require()
        # A chosen candidate has both.
        assert chosen.room is not None
        assert chosen.format is not None
        artifact = entry.artifact(chosen.format)
        return Plan(
            chosen.runtime,
            chosen.room.load_class,
            artifact.materialize,
            memory_of(artifact),
            {**artifact.options, **self._options.get(entry.id, {})},
            chosen.room.device,
            chosen.room.spreads,
        )


def memory_of(artifact: Artifact) -> int:
    """An estimate, in bytes, of what the loaded artifact takes."""
    return int(artifact.size * _MEMORY_FACTOR) + _MEMORY_BASE
