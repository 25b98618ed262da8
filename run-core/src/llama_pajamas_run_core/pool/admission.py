"""What has to happen before a model can be loaded: a pure decision, on which the pool acts.

When memory is past its threshold, a model that is loaded is used and waited for as ever, since that takes no more
memory. For one that is not, idle models are unloaded first, one after the other until a reading shows room; where none
is left, it is refused.

When a GPU computes more slowly because of its heat, its models work on as many requests as they have lanes, and nobody
may wait for more. A model that is not loaded goes on another GPU; where there is none, it is refused.

Who is refused gets Busy: HTTP's 503 with Retry-After.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from llama_pajamas_run_core.errors import Busy, OutOfMemory, PajamasError
from llama_pajamas_run_core.hardware.monitor import Watch
from llama_pajamas_run_core.hardware.thresholds import HOST, Alert
from llama_pajamas_run_core.pool.placement import Placement
from llama_pajamas_run_core.pool.slot import Slot, State

#: Seconds after which those who were refused because of strained hardware may try again.
RETRY_AFTER: Final = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What loaded models may take together.

    Attributes:
        budget: bytes of the host's memory; None sets no limit.
        max_loaded: models; None sets no limit.
    """

    budget: int | None
    max_loaded: int | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a model that somebody waits for.

    Attributes:
        action: "load" it, "wait" until there is room, or "refuse" those who wait.
        gpu: where it is loaded, or None where no GPU was chosen.
        victims: models to be unloaded.
        error: why it is refused.
        pass_on: whether those who came later may have their turn.
    """

    action: Literal["load", "wait", "refuse"]
    gpu: str | None = None
    victims: tuple[Slot, ...] = ()
    error: PajamasError | None = None
    pass_on: bool = True


def decide(
    slot: Slot, others: Sequence[Slot], limits: Limits, placement: Placement, watch: Watch, eased: int
) -> Decision:
    """Decide what has to happen for a model to be loaded.

    Args:
        slot: the model.
        others: the models that are loaded, being loaded or being unloaded.
        limits: what they may take.
        placement: the GPUs.
        watch: what the hardware monitor says.
        eased: the number of the reading from which on what was unloaded last shows.
    """
    if limits.budget is not None and slot.plan.memory > limits.budget:
        return Decision("refuse", error=_too_large(slot, limits.budget))
    if (alert := strain(slot, placement, watch)) is not None:
        return _under_strain(slot, others, alert, watch, eased)
    if (gpu := _fit(slot, others, others, limits, placement, watch)) is not None:
        return Decision("load", gpu=gpu or None)
    kept = [other for other in others if other.state is not State.CLOSING and other.doomed is None]
    victims = []
    candidates = [other for other in kept if other.state is State.READY and not other.pinned]
    for victim in sorted(candidates, key=lambda other: (not other.idle, other.last_used)):
        if _fit(slot, kept, others, limits, placement, watch) is not None:
            break
        kept.remove(victim)
        victims.append(victim)
    fits = _fit(slot, kept, others, limits, placement, watch) is not None
    if not fits and all(other.pinned for other in kept):
        error = OutOfMemory(
            f"There is no room for the model '{slot.entry.id}' beside those that are to stay loaded.",
            hint="Unload one of them, or raise the memory budget.",
        )
        return Decision("refuse", error=error)
    return Decision("wait", victims=tuple(victims), pass_on=False)


def strain(slot: Slot, placement: Placement, watch: Watch) -> Alert | None:
    """The alert that keeps a model from being loaded now, or None."""
    host = next((alert for alert in watch.alerts if (alert.device, alert.kind) == (HOST, "memory")), None)
    if host is not None:
        return host
    wanted = candidates_for(slot, placement)
    if wanted and not wanted.keys() - _strained(watch):
        found = [alert for alert in watch.alerts if alert.device in wanted and alert.kind != "temperature"]
        return next((alert for alert in found if alert.kind == "memory"), found[0])
    return None


def overheated(slot: Slot, watch: Watch) -> Busy | None:
    """Why nobody may wait for a loaded model: its GPU already computes more slowly because of its heat."""
    for alert in watch.alerts:
        if alert.kind == "throttling" and alert.device == slot.gpu:
            return Busy(
                f"{alert.name} is too hot to take more requests for the model '{slot.entry.id}' than it works on.",
                hint="Try again later.",
                retry_after=max(slot.expected_wait(), RETRY_AFTER),
            )
    return None


def candidates_for(slot: Slot, placement: Placement) -> dict[str, None]:
    """The GPUs that a model may be loaded on: the one its options name, or all; none if its runtime takes none."""
    option = slot.plan.device
    if option is None:
        return {}
    if option in slot.plan.options:
        named = placement.find(slot.plan.options[option])
        return {} if named is None else {named: None}
    return dict.fromkeys(placement.gpus)


def _strained(watch: Watch) -> set[str]:
    return {alert.device for alert in watch.alerts if alert.kind != "temperature"}


def _under_strain(slot: Slot, others: Sequence[Slot], alert: Alert, watch: Watch, eased: int) -> Decision:
    leaving = any(other.state is State.CLOSING or other.doomed is not None for other in others)
    if leaving or watch.count < eased:
        return Decision("wait")  # memory is being given back, or was since the last reading
    if alert.kind == "memory":
        idle = [other for other in others if other.idle and not other.pinned]
        if alert.device != HOST:
            idle = [other for other in idle if other.gpu is not None and other.gpu in _strained(watch)]
        if idle:
            return Decision("wait", victims=(min(idle, key=lambda other: other.last_used),))
    what = "has too little memory left" if alert.kind == "memory" else "is too hot"
    name = "This machine" if alert.device == HOST else alert.name
    return Decision(
        "refuse",
        error=Busy(
            f"{name} {what} for the model '{slot.entry.id}' to be loaded now.",
            hint="Try again later.",
            retry_after=RETRY_AFTER,
        ),
    )


def _fit(
    slot: Slot, kept: Sequence[Slot], others: Sequence[Slot], limits: Limits, placement: Placement, watch: Watch
) -> str | None:
    """Where a model fits beside those kept: a GPU, "" where it goes on none, or None where it does not fit."""
    if limits.max_loaded is not None and len(kept) >= limits.max_loaded:
        return None
    need = slot.plan.memory
    if limits.budget is not None and sum(other.host_memory for other in kept) + need > limits.budget:
        return None
    wanted = candidates_for(slot, placement)
    if not wanted:
        return ""
    reserved, loading = _by_gpu(kept), _by_gpu([other for other in kept if other.state is State.LOADING])
    leaving = _by_gpu([other for other in others if other not in kept])
    rooms = {uuid: placement.room(uuid, reserved, loading, leaving) for uuid in wanted}
    best = placement.best(rooms, _strained(watch)) or ""
    if not best or rooms[best] >= need:
        return best
    if any(other.gpu in wanted and not other.pinned for other in kept):
        return None
    # Where nothing more can go from there it is loaded all the same: the runtime may need less than was estimated, or
    # use other GPUs or the host's memory besides.
    return "" if slot.plan.spreads else best


def _by_gpu(slots: Sequence[Slot]) -> Mapping[str, int]:
    sums: dict[str, int] = {}
    for slot in slots:
        if slot.gpu is not None:
            sums[slot.gpu] = sums.get(slot.gpu, 0) + slot.memory
    return sums


def _too_large(slot: Slot, budget: int) -> OutOfMemory:
    need = slot.plan.memory / 2**30
    return OutOfMemory(
        f"The model '{slot.entry.id}' needs about {need:.1f} GiB; the memory budget is {budget / 2**30:.1f} GiB.",
        hint="Choose a smaller or more strongly quantized model, or raise the budget (serve --memory GIB).",
    )
