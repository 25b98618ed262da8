"""The models in memory: how they come in, stay and go.

One lock guards all state and is only ever held for bookkeeping: models are loaded and unloaded on threads of their
own, so that asking for the status of everything never waits for inference or for a disk.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.errors import Busy, LoadError, OutOfMemory, PajamasError, UserError
from llama_pajamas_run_core.hardware.monitor import Monitor, Watch
from llama_pajamas_run_core.pool.admission import Limits, decide
from llama_pajamas_run_core.pool.placement import Placement
from llama_pajamas_run_core.pool.slot import Loaded, Slot, State

_log = logging.getLogger(__name__)

#: Seconds that a model which is unloaded while it is used gets for that, before the pool is left.
_LAST_WAIT = 0.2


class Residents:
    """The models that are in memory, on their way there, or waited for.

    Args:
        limits: what they may take together.
        placement: the GPUs, and which of them a model goes on.
        keep_alive: seconds after which an idle model is unloaded; None keeps it.
        clock: seconds, monotonic.

    Attributes:
        changed: the lock of all that is here and of the slots; notified of every change.
        slots: the models, by id and load options.
        placement: the GPUs.
        watch: what the hardware monitor says.
        closed: whether nobody is let in any more.
    """

    def __init__(
        self,
        limits: Limits,
        placement: Placement,
        *,
        keep_alive: float | None,
        clock: Callable[[], float],
    ) -> None:
        self.changed = threading.Condition()
        self.slots: dict[tuple[str, str], Slot] = {}
        self.placement = placement
        self.watch: Callable[[], Watch] = Watch
        self.closed = False
        self._limits = limits
        self._keep_alive = keep_alive
        self._clock = clock
        self._orders = itertools.count(1)
        self._eased = 0
        self._keeper: threading.Thread | None = None

    def order(self) -> int:
        """A number for a ticket, higher than all before."""
        return next(self._orders)

    def doom(self, id: str) -> list[Future[None]]:
        """Unload a model once those who use it now are done.

        Returns:
            for each of it that is loaded, what is set when it is not any more.
        """
        with self.changed:
            gone: list[Future[None]] = []
            for slot in self.slots.values():
                if slot.entry.id == id and slot.state in (State.READY, State.LOADING, State.CLOSING):
                    slot.pinned = False
                    if slot.state is not State.CLOSING:
                        slot.doomed = self.order()
                    slot.gone.append(Future())
                    gone.append(slot.gone[-1])
            self.advance()
            return gone

    def close(self, timeout: float) -> None:
        """Turn new requests away, wait for the running ones, unload everything. Harmless when closed. Blocks.

        Args:
            timeout: seconds to wait for.
        """
        with self.changed:
            self.closed = True
            for slot in self.slots.values():
                slot.refuse(Busy("The server is shutting down."))
                slot.doomed = 0
            self.advance()
            done = self.changed.wait_for(lambda: not self._live(), timeout)
            for slot in [] if done else self._live():
                _log.warning("model %s is still in use; unloading it anyway", slot.entry.id)
                if slot.state is State.READY:
                    self._start_closing(slot)
        if not done:
            with self.changed:
                self.changed.wait_for(lambda: not self._live(), _LAST_WAIT)

    def heed(self, monitor: Monitor) -> Callable[[], None]:
        """Go by a monitor's readings; what is returned ends it."""
        look = self.placement.look
        self.watch = monitor.watch
        self.placement.look = lambda: monitor.watch().reading
        unsubscribe = monitor.subscribe(self._reconsider)

        def end() -> None:
            unsubscribe()
            self.watch, self.placement.look = Watch, look
            self._reconsider()

        return end

    # Moving things on. All of it runs under the lock and returns at once.

    def advance(self) -> None:
        """Do whatever has become possible: admit, make room, load, unload."""
        for slot in list(self.slots.values()):
            slot.drop_cancelled()
            if slot.state is State.READY:
                slot.admit()
                if slot.spent():
                    self._start_closing(slot)
        wanting = [slot for slot in self.slots.values() if slot.state is State.ABSENT and slot.waiting]
        for slot in sorted(wanting, key=lambda slot: min(ticket.order for ticket in slot.waiting)):
            if not self._make_room(slot):
                break  # the one that came first is served first, or a large model would never get its room
        for key, slot in list(self.slots.items()):
            if slot.state is State.ABSENT and not slot.waiting and slot.error is None:
                del self.slots[key]
        self.changed.notify_all()

    def _make_room(self, slot: Slot) -> bool:
        """Start loading a model, or set in motion what must happen before.

        Returns:
            whether those who came later may have their turn.
        """
        others = [other for other in self.slots.values() if other.state is not State.ABSENT]
        decision = decide(slot, others, self._limits, self.placement, self.watch(), self._eased)
        for victim in decision.victims:
            victim.doomed = self.order()
            _log.info("model %s makes room for %s", victim.entry.id, slot.entry.id)
            if victim.spent():
                self._start_closing(victim)
        if decision.action == "load":
            slot.state, slot.doomed, slot.error = State.LOADING, None, None
            slot.gpu, slot.on_host = decision.gpu, None
            _spawn(f"load-{slot.entry.id}", self._load, slot)
        elif decision.error is not None:
            slot.refuse(decision.error)
        return decision.pass_on

    def _reconsider(self) -> None:
        """See whether strained hardware has recovered for those who wait for a model to be loaded."""
        with self.changed:
            if any(slot.waiting and slot.state is State.ABSENT for slot in self.slots.values()):
                self.advance()

    def _start_closing(self, slot: Slot) -> None:
        backend, slot.backend = slot.backend, None
        slot.state, slot.details = State.CLOSING, {}
        assert backend is not None
        _spawn(f"unload-{slot.entry.id}", self._unload, slot, backend)

    def _live(self) -> list[Slot]:
        return [slot for slot in self.slots.values() if slot.state is not State.ABSENT]

    # On threads of their own

    def _load(self, slot: Slot) -> None:
        start = time.monotonic()
        loaded = self._loaded(slot)
        with self.changed:
            if isinstance(loaded, Loaded):
                slot.take(loaded, self._clock())
                self._start_keeper()
                _log.info(
                    "model=%s runtime=%s loaded in %.2f s", slot.entry.id, slot.plan.runtime, time.monotonic() - start
                )
            else:
                _log.warning("model=%s runtime=%s not loaded: %s", slot.entry.id, slot.plan.runtime, loaded)
                slot.state, slot.gpu, slot.pinned = State.ABSENT, None, False
                self._end(slot)
                self._fail(slot, loaded)
            self.advance()

    def _loaded(self, slot: Slot) -> Loaded | PajamasError:
        """The model, or why there is none."""
        with ExitStack() as unless_taken:
            try:
                # With a single GPU the runtime finds it by itself.
                backend = slot.plan.load(slot.gpu if len(self.placement.gpus) > 1 else None)
                unless_taken.callback(_close, backend, slot.entry.id)
                loaded = Loaded.of(backend)
            except MemoryError:
                return OutOfMemory(f"Memory ran out while the model '{slot.entry.id}' was loaded.")
            except PajamasError as error:
                return error
            except BaseException as error:  # panics of Rust's libraries are no Exceptions
                _log.exception("loading model %s failed", slot.entry.id)
                return LoadError(f"The model '{slot.entry.id}' could not be loaded: {type(error).__name__}.")
            unless_taken.pop_all()
        return loaded

    def _fail(self, slot: Slot, error: PajamasError) -> None:
        """Tell all who waited. What is not the user's to mend is not tried again at once."""
        if isinstance(error, UserError):
            slot.refuse(error)
            return
        slot.remember_failure(error, self._clock())
        slot.refuse((slot.failure(self._clock()) or error) if isinstance(error, LoadError) else error)

    def _unload(self, slot: Slot, backend: Backend) -> None:
        _close(backend, slot.entry.id)
        with self.changed:
            _log.info("model=%s unloaded", slot.entry.id)
            slot.state, slot.doomed, slot.gpu = State.ABSENT, None, None
            # A reading may be under way that began before; the one after it shows the memory that is free now.
            self._eased = self.watch().count + 2
            self._end(slot)
            self.advance()

    def _end(self, slot: Slot) -> None:
        gone, slot.gone = slot.gone, []
        for future in gone:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def _start_keeper(self) -> None:
        if self._keeper is None and self._keep_alive is not None:
            self._keeper = _spawn("pool-keeper", self._keep)

    def _keep(self) -> None:
        """Unload what was idle for too long. Ends when the pool was closed."""
        assert self._keep_alive is not None
        with self.changed:
            while not self.closed:
                now, wake = self._clock(), threading.TIMEOUT_MAX
                for slot in [slot for slot in self.slots.values() if slot.idle and not slot.pinned]:
                    left = slot.last_used + self._keep_alive - now
                    if left <= 0:
                        slot.doomed = self.order()
                        self._start_closing(slot)
                    else:
                        wake = min(wake, left)
                self.changed.wait(wake)


def _close(backend: Backend, id: str) -> None:
    try:
        backend.close()
    except BaseException:  # panics of Rust's libraries are no Exceptions
        _log.exception("unloading model %s failed", id)


def _spawn(name: str, work: Callable[..., None], *arguments: Any) -> threading.Thread:
    """A daemon thread: a process that ends does not wait for a load that hangs."""
    thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
    thread.start()
    return thread
