"""The descriptor of a runtime: facts that can be read without importing its SDK."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from llama_pajamas_run_core.errors import MissingDependency
from llama_pajamas_run_core.types.hardware import HardwareProfile
from llama_pajamas_run_core.types.tasks import Task

if TYPE_CHECKING:  # a descriptor is read without the backends
    from llama_pajamas_run_core.backends.base import Backend


@dataclass(frozen=True, slots=True)
class Room:
    """One task that a runtime does.

    Attributes:
        backend: "module:Class" of the backend.
        formats: the artifact formats it loads, by the names in ``artifacts.formats``, the best one first.
        families: model families for people ("Llama, Qwen, Mistral, ...").
        modules: the import names of the packages it needs.
        install: the command that installs them.
        device: the load option that puts a model on one NVIDIA GPU, named by its UUID; None where there is none.
        spreads: whether a model that is too large for one GPU goes over all of them where that option is not given.
    """

    backend: str
    formats: tuple[str, ...]
    families: str
    modules: tuple[str, ...]
    install: str
    device: str | None = None
    spreads: bool = False

    def missing(self) -> tuple[str, ...]:
        """The import names of the packages that are not installed. Imports nothing."""
        return tuple(name for name in self.modules if not _installed(name))

    def load_class(self) -> "type[Backend]":
        """Import the backend's class.

        Raises:
            MissingDependency: a package it needs is not installed; the message is the install line.
        """
        module, _, name = self.backend.partition(":")
        if missing := self.missing():
            raise MissingDependency(name, package=", ".join(missing), install=self.install)
        loaded: type[Backend] = getattr(import_module(module), name)
        return loaded


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What a runtime is, for discovery, selection and the documentation.

    Found through the entry-point group ``llama_pajamas.runtimes``.

    Attributes:
        name: short and unique ("gguf").
        title: for people ("llama.cpp and whisper.cpp").
        rooms: the tasks it does; a task without a room is not offered.
        hardware: what it runs on, for people.
        supports: given a machine, None if the runtime runs on it, else the reason why not. Pure; never raises.
        present: what ``supports`` found where it returned None, for people ("driver found").
        commands: what the runtime adds to the command line: a verb ("export", "verify") and the "module:function" that
            ``llama-pajamas VERB NAME`` runs. That module is imported without the SDK.
    """

    name: str
    title: str
    rooms: Mapping[Task, Room]
    hardware: str
    supports: Callable[[HardwareProfile], str | None] = field(repr=False)
    present: str = "the hardware fits"
    commands: Mapping[str, str] = field(default_factory=dict)

    def public_classes(self) -> dict[str, Room]:
        """The rooms by the name of their backend's class, as the runtime's package exports them."""
        return {room.backend.partition(":")[2]: room for room in self.rooms.values()}


@dataclass(frozen=True, slots=True)
class RuntimeState:
    """A runtime with what this environment lacks for it: all that the selection needs to know.

    Attributes:
        info: the descriptor.
        missing: for a task whose packages are not all installed, the import names of those missing.
    """

    info: RuntimeInfo
    missing: Mapping[Task, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, info: RuntimeInfo) -> "RuntimeState":
        """The state of a runtime in this environment. Imports no SDK."""
        return cls(info, {task: missing for task, room in info.rooms.items() if (missing := room.missing())})


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # the parent of a dotted name is missing, or sys.modules blocks the name
        return False
