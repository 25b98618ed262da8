"""What is compared: a model in one runtime and precision, or the reason why that cannot be run here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.errors import PajamasError, Unsupported
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.types.tasks import Task

B = TypeVar("B", bound=Backend)


@dataclass(frozen=True, slots=True)
class Subject(Generic[B]):
    """A runtime and a precision.

    Attributes:
        name: for people: "llama.cpp, Q4_K_M".
        open: loads the model, given a folder for what has to be derived first. Raises a PajamasError that says why
            where it cannot be loaded here.
        exact: whether its figures have to reach the floors; not where the precision is meant to cost something.
    """

    name: str
    open: Callable[[Path], B]
    exact: bool = True


def installed(machine: Machine, task: Task, runtime: str, open: Callable[[Path], B]) -> Callable[[Path], B]:
    """How to open a model of one's own in a runtime, where this machine has that.

    Args:
        machine: this one.
        task: what the model does.
        runtime: the runtime's short name.
        open: loads it.
    """

    def checked(folder: Path) -> B:
        _check(machine, task, runtime)
        return open(folder)

    return checked


def catalogued(machine: Machine, task: Any, model: str, runtime: str, **options: Any) -> Callable[[Path], Any]:
    """How to open a model of the catalogue in a runtime, whichever one the selection would take.

    Args:
        machine: this one.
        task: what the model does.
        model: its id.
        runtime: the runtime's short name.
        options: the runtime's load options.
    """

    def open(_: Path) -> Any:
        _check(machine, task, runtime, model)
        return machine.open(task, model, runtime=runtime, **options)

    return open


def reason(error: PajamasError) -> str:
    """Why something could not be run, for a table."""
    return str(error).rstrip(".")


def _check(machine: Machine, task: Task, runtime: str, model: str | None = None) -> None:
    entry = None if model is None else machine.find(model, task)
    for candidate in machine.selection(task, entry, runtime=runtime).candidates:
        if candidate.runtime == runtime and not candidate.usable:
            raise Unsupported(candidate.reason)
