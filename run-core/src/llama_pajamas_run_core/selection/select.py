"""The choice of a runtime: a pure function of the machine, the task and what is installed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from llama_pajamas_run_core.errors import BadInput, Unsupported
from llama_pajamas_run_core.runtimes.info import Room, RuntimeState
from llama_pajamas_run_core.selection.matrix import known_runtimes, ranking
from llama_pajamas_run_core.types.hardware import HardwareProfile
from llama_pajamas_run_core.types.tasks import Task


@dataclass(frozen=True, slots=True)
class Candidate:
    """A runtime that was considered.

    Attributes:
        runtime: its short name ("tensorrt").
        title: its name for people ("TensorRT").
        usable: whether it could serve the task here and now.
        taken: whether it is the one chosen.
        reason: why it was taken, or why not; one sentence without the title and the full stop.
        room: its room for the task; None where it has none.
        format: the artifact format it would load; None where no formats were asked about, or none fits.
    """

    runtime: str
    title: str
    usable: bool
    taken: bool
    reason: str
    room: Room | None = None
    format: str | None = None

    def __str__(self) -> str:
        return f"{self.title}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome of a choice.

    Attributes:
        task: what the runtime is for.
        candidates: every runtime considered, the best first.
    """

    task: Task
    candidates: tuple[Candidate, ...]

    @property
    def chosen(self) -> Candidate | None:
        """The runtime taken, or None where none serves."""
        return next((candidate for candidate in self.candidates if candidate.taken), None)

    def require(self) -> Candidate:
        """The runtime taken.

        Raises:
            Unsupported: there is none; the message gives every candidate's reason.
        """
        if (chosen := self.chosen) is not None:
            return chosen
        reasons = "; ".join(str(candidate) for candidate in self.candidates)
        raise Unsupported(f"No runtime can serve {self.task.label} here ({reasons}).", param="model")


def select(
    profile: HardwareProfile,
    task: Task,
    runtimes: Sequence[RuntimeState],
    formats: Iterable[str] | None = None,
    prefer: str | Sequence[str] | None = None,
) -> Selection:
    """Choose the runtime for a task on a machine.

    Args:
        profile: the machine.
        task: what is to be done.
        runtimes: the runtimes there are, as ``runtimes.discovery.installed()`` gives them.
        formats: the artifact formats in which the model is to be had; None to ask about no model in particular.
        prefer: names of runtimes to rank before all others. One that cannot serve is passed over, with its reason.

    Returns:
        the choice, with a reason for every candidate: those that the matrix knows for the task and those installed.

    Raises:
        BadInput: ``prefer`` names a runtime that neither the matrix nor the environment knows.
    """
    states = {state.info.name: state for state in runtimes}
    wanted = (prefer,) if isinstance(prefer, str) else tuple(prefer or ())
    check_preference(wanted, runtimes)
    offered = None if formats is None else tuple(dict.fromkeys(formats))
    why = {rank.runtime: rank.why for rank in ranking(profile, task)}
    others = [name for name, state in states.items() if task in state.info.rooms]
    order = dict.fromkeys((*(name for name in wanted if name in states), *why, *others, *known_runtimes(task)))
    candidates = [_consider(name, states.get(name), profile, task, offered) for name in order]
    first = next((index for index, candidate in enumerate(candidates) if candidate.usable), None)
    for index, candidate in enumerate(candidates):
        if not candidate.usable:
            continue
        reason = why.get(candidate.runtime, "installed, and runs on this machine")
        if candidate.runtime in wanted:
            reason = f"asked for; {reason}"
        if index == first:
            candidates[index] = replace(candidate, taken=True, reason=reason)
        else:
            assert first is not None
            candidates[index] = replace(candidate, reason=f"ranked after {candidates[first].title}; {reason}")
    return Selection(task, tuple(sorted(candidates, key=lambda candidate: not candidate.usable)))


def _consider(
    name: str, state: RuntimeState | None, profile: HardwareProfile, task: Task, formats: tuple[str, ...] | None
) -> Candidate:
    """One runtime, with the most fundamental reason against it: what cannot be changed comes before what can."""
    if state is None:
        return Candidate(name, name, False, False, f"the package llama-pajamas-run-{name} is not installed")
    info = state.info
    room = info.rooms.get(task)

    def rejected(reason: str) -> Candidate:
        return Candidate(name, info.title, False, False, reason, room)

    if (unsupported := info.supports(profile)) is not None:
        return rejected(unsupported)
    if room is None:
        return rejected(f"run-{name} has no room for {task.label} in this version")
    fitting = None
    if formats is not None:
        fitting = next((known for known in room.formats if known in formats), None)
        if fitting is None:
            return rejected(f"the model is not available as {_any_of(room.formats)}: it is {_any_of(formats)}")
    if missing := state.missing.get(task):
        noun = "package" if len(missing) == 1 else "packages"
        verb = "is" if len(missing) == 1 else "are"
        return rejected(f"{info.present}, but the {noun} {', '.join(missing)} {verb} not installed: `{room.install}`")
    return Candidate(name, info.title, True, False, "", room, fitting)


def check_preference(wanted: Sequence[str], runtimes: Sequence[RuntimeState]) -> None:
    """See that there are runtimes of these names.

    Raises:
        BadInput: neither the matrix nor the environment knows one of them; the message lists those known.
    """
    known = {*(state.info.name for state in runtimes), *(name for task in Task for name in known_runtimes(task))}
    for name in wanted:
        if name not in known:
            raise BadInput(
                f"There is no runtime '{name}'.", hint=f"Runtimes: {', '.join(sorted(known))}.", param="runtime"
            )


def _any_of(names: Sequence[str]) -> str:
    return " or ".join(names) if names else "no format at all"
