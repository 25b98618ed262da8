"""One model's place in the pool: its state, who uses it and who waits for it. Only touched under the pool's lock."""

import heapq
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from llama_pajamas_run_core.artifacts.catalogue import ModelEntry
from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_core.pool.plan import Plan
from llama_pajamas_run_core.pool.status import ModelStatus

#: After a failed load, the next try waits this long in seconds, twice as long each time, up to the limit.
_BACKOFF = 10.0
_BACKOFF_LIMIT = 300.0
#: How much one more lease weighs in the mean lease time.
_SMOOTHING = 0.2


class State(StrEnum):
    """Where a model is in its life."""

    ABSENT = "unloaded"
    LOADING = "loading"
    READY = "loaded"
    CLOSING = "unloading"


class FailedLoad(LoadError):
    """A model could not be loaded, and is not tried again before a while has passed.

    Attributes:
        retry_after: seconds until it is.
    """

    def __init__(self, message: str, *, hint: str | None = None, retry_after: float) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


@dataclass(slots=True)
class Ticket:
    """One who waits for a lease; lower sorts first.

    Attributes:
        order: increases with each ticket of the pool.
        priority: higher is served first.
        granted: gets the backend, or why there is none.
    """

    order: int
    priority: int
    granted: Future[Backend] = field(default_factory=Future)

    def __lt__(self, other: "Ticket") -> bool:
        return (-self.priority, self.order) < (-other.priority, other.order)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model, with what it says about itself.

    Attributes:
        backend: the model.
        details: facts for people.
        lanes: how many requests it works on at once.
        on_host: bytes of the host's memory that it takes; None where it does not say.
    """

    backend: Backend
    details: Mapping[str, Any]
    lanes: int
    on_host: int | None

    @classmethod
    def of(cls, backend: Backend) -> "Loaded":
        """Ask a backend about itself; it may have to ask its library."""
        return cls(backend, dict(backend.details), max(backend.lanes, 1), backend.host_memory)


@dataclass(slots=True, eq=False)
class Slot:
    """A model with its load options.

    Attributes:
        entry: the model in the catalogue.
        plan: how it is loaded.
        extra: load options beyond the plan's.
        state: where it is in its life.
        backend: the loaded model.
        details: what the backend said about itself when it was loaded.
        lanes: how many leases may be held at once.
        users: how many are held.
        waiting: a heap of those who wait.
        last_used: when a lease last ended, on the pool's clock.
        pinned: whether it stays, idle or not.
        doomed: the number of the ticket from which on none is admitted before the model was unloaded; None if it stays.
        error: why the last load failed.
        failures: how many loads failed in a row.
        retry_at: when a failed load is tried again, on the pool's clock.
        lease_seconds: a running mean.
        gone: set when the model is next unloaded.
        gpu: the UUID of the GPU that it is on, as far as is known.
        on_host: bytes of the host's memory that the loaded backend says it takes; None where it does not say.
    """

    entry: ModelEntry
    plan: Plan
    extra: Mapping[str, Any]
    state: State = State.ABSENT
    backend: Backend | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    lanes: int = 1
    users: int = 0
    waiting: list[Ticket] = field(default_factory=list)
    last_used: float = 0.0
    pinned: bool = False
    doomed: int | None = None
    error: Exception | None = None
    failures: int = 0
    retry_at: float = 0.0
    lease_seconds: float = 1.0
    gone: list[Future[None]] = field(default_factory=list)
    gpu: str | None = None
    on_host: int | None = None

    @property
    def memory(self) -> int:
        """Bytes that are reserved for it now, wherever they are."""
        return 0 if self.state is State.ABSENT else self.plan.memory

    @property
    def host_memory(self) -> int:
        """Bytes it holds of the host's memory now: what was estimated, until its backend says better.

        On its way to a GPU a model may pass through the host's memory, and whether it gets there is only known when it
        is loaded: many a runtime falls back on the processor.
        """
        return self.memory if self.on_host is None or self.state is State.LOADING else self.on_host

    @property
    def idle(self) -> bool:
        """Whether it is loaded and nobody uses it or waits for it."""
        return self.state is State.READY and not self.users and not self.waiting

    @property
    def full(self) -> bool:
        """Whether it is loaded and one more would have to wait."""
        return self.state is State.READY and self.users + len(self.waiting) >= self.lanes

    def take(self, loaded: Loaded, now: float) -> None:
        """The model was loaded."""
        self.backend, self.details = loaded.backend, loaded.details
        self.lanes, self.on_host = loaded.lanes, loaded.on_host
        if self.details.get("device") == "cpu":
            self.gpu = None
        self.state, self.failures, self.last_used = State.READY, 0, now

    def renew(self, entry: ModelEntry, plan: Plan) -> None:
        """Take the model as it is now, where it changed since it was last loaded or could not be."""
        if self.state is State.ABSENT and self.entry is not entry:
            self.entry, self.plan = entry, plan
            self.error, self.failures, self.retry_at = None, 0, 0.0

    def drop_cancelled(self) -> None:
        """Forget those who no longer wait."""
        kept = [ticket for ticket in self.waiting if not ticket.granted.cancelled()]
        if len(kept) != len(self.waiting):
            heapq.heapify(kept)
            self.waiting = kept

    def admit(self) -> None:
        """Give the free lanes to those who wait, in order."""
        while self.backend is not None and self.users < self.lanes and (ticket := self._next()) is not None:
            if ticket.granted.set_running_or_notify_cancel():
                self.users += 1
                ticket.granted.set_result(self.backend)

    def _next(self) -> Ticket | None:
        """Take the first that may come in off the heap."""
        if self.doomed is None:
            return heapq.heappop(self.waiting) if self.waiting else None
        before = [ticket for ticket in self.waiting if ticket.order < self.doomed]
        if not before:
            return None
        first = min(before)
        self.waiting.remove(first)
        heapq.heapify(self.waiting)
        return first

    def refuse(self, error: Exception) -> None:
        """Send all who wait away."""
        waiting, self.waiting = self.waiting, []
        for ticket in waiting:
            if ticket.granted.set_running_or_notify_cancel():
                ticket.granted.set_exception(error)

    def spent(self) -> bool:
        """Whether it is doomed, nobody uses it, and all who were promised a lease had theirs."""
        if self.state is not State.READY or self.doomed is None or self.users:
            return False
        return not any(ticket.order < self.doomed for ticket in self.waiting)

    def remember_failure(self, error: Exception, now: float) -> None:
        """Keep why a load failed, and when it may be tried again."""
        self.failures += 1
        self.error = error
        self.retry_at = now + min(_BACKOFF * 2 ** (self.failures - 1), _BACKOFF_LIMIT)

    def failure(self, now: float) -> FailedLoad | None:
        """Why the model cannot be had now, within the pause after a failed load."""
        if self.error is None or now >= self.retry_at:
            return None
        message, hint = getattr(self.error, "message", str(self.error)), getattr(self.error, "hint", None)
        return FailedLoad(message, hint=hint, retry_after=self.retry_at - now)

    def expected_wait(self) -> float:
        """Seconds, from 1 to 60, after which a lane will probably be free."""
        return min(max(self.lease_seconds * (len(self.waiting) + 1) / self.lanes, 1.0), 60.0)

    def measure(self, seconds: float) -> None:
        """Take the length of a lease into the mean."""
        self.lease_seconds += _SMOOTHING * (seconds - self.lease_seconds)

    def status(self, now: float) -> ModelStatus:
        """What the outside sees."""
        failed = self.state is State.ABSENT and self.error is not None
        waiting = sum(not ticket.granted.cancelled() for ticket in self.waiting)
        return ModelStatus(
            self.entry.id,
            self.entry.task,
            "failed" if failed else self.state.value,
            self.plan.runtime,
            users=self.users,
            waiting=waiting,
            memory=self.memory,
            idle=max(now - self.last_used, 0.0) if self.idle else 0.0,
            options=dict(self.extra),
            details=self.details,
            error=str(self.error) if failed else None,
            gpu=self.gpu,
        )
