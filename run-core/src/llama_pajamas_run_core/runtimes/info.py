"""The descriptor of a runtime: facts that can be read without importing its SDK."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec

from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.types.hardware import HardwareProfile
from llama_pajamas_run_core.types.tasks import Task


@dataclass(frozen=True, slots=True)
class Room:
    """One task that a runtime does.

    Attributes:
        backend: "module:Class" of the backend.
        formats: the artifact formats it loads, by the names in ``artifacts.formats``.
        families: model families for people ("Llama, Qwen, Mistral, ...").
        modules: the import names of the packages it needs.
        install: the command that installs them.
    """

    backend: str
    formats: tuple[str, ...]
    families: str
    modules: tuple[str, ...]
    install: str

    def missing(self) -> tuple[str, ...]:
        """The import names of the packages that are not installed. Imports nothing."""
        return tuple(name for name in self.modules if find_spec(name) is None)

    def load_class(self) -> type[Backend]:
        """Import the backend's class.

        Raises:
            MissingDependency: a package it needs is not installed.
        """
        module, _, name = self.backend.partition(":")
        loaded: type[Backend] = getattr(import_module(module), name)
        return loaded


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What a runtime is, for discovery, selection and the documentation.

    Found through the entry-point group ``llama_pajamas.runtimes``.

    Attributes:
        name: short and unique ("gguf").
        title: for people ("llama.cpp and whisper.cpp").
        rooms: the tasks it does.
        hardware: what it runs on, for people.
        supports: given a machine, None if the runtime runs on it, else the reason why not.
    """

    name: str
    title: str
    rooms: Mapping[Task, Room]
    hardware: str
    supports: Callable[[HardwareProfile], str | None] = field(repr=False)
