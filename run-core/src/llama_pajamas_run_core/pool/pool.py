"""The pool of loaded models.

One lock guards all state and is only ever held for bookkeeping: models are loaded and unloaded on threads of their
own, so that asking for the status of everything never waits for inference or for a disk. The pool has an async door
for the server and a sync one for scripts; both lead through the same queue.
"""

import asyncio
import heapq
import itertools
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Literal, overload

from llama_pajamas_run_core.artifacts.catalogue import Catalogue, ModelEntry
from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.backends.llm import LLMBackend
from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.backends.tts import TTSBackend
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.errors import BadInput, Busy, LoadError, OutOfMemory, PajamasError, UserError
from llama_pajamas_run_core.hardware.monitor import Monitor, Watch
from llama_pajamas_run_core.pool.admission import Limits, decide, overheated
from llama_pajamas_run_core.pool.placement import Placement
from llama_pajamas_run_core.pool.plan import Plan, Planner
from llama_pajamas_run_core.pool.slot import Slot, State, Ticket
from llama_pajamas_run_core.pool.status import ModelStatus
from llama_pajamas_run_core.types.tasks import Task

_log = logging.getLogger(__name__)

#: Seconds that a model which is unloaded while it is used gets for that, before the pool is left.
_LAST_WAIT = 0.2


class ModelPool:
    """Loads models when they are asked for, shares them, and unloads them when memory is short or nobody comes.

    Args:
        catalogue: the models there are.
        planner: how each is loaded on this machine.
        memory_budget: bytes that all loaded models may take together; None sets no limit. A model's share is reserved
            before it is loaded.
        max_loaded: how many models may be loaded at once; None sets no limit.
        keep_alive: seconds after which an idle model is unloaded; None keeps it.
        max_waiting: how many requests may wait for one model.
        placement: the GPUs, and which of them a model goes on; None stands for a machine without.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        planner: Planner,
        *,
        memory_budget: int | None = None,
        max_loaded: int | None = None,
        keep_alive: float | None = 300.0,
        max_waiting: int = 64,
        placement: Placement | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.catalogue = catalogue
        self._planner = planner
        self._plans: dict[str, tuple[ModelEntry, Plan]] = {}
        self._limits = Limits(memory_budget, max_loaded)
        self._placement = placement or Placement(())
        self._watch: Callable[[], Watch] = Watch
        self._eased = 0
        self._keep_alive = keep_alive
        self._max_waiting = max_waiting
        self._clock = clock
        self._slots: dict[tuple[str, str], Slot] = {}
        self._changed = threading.Condition()
        self._orders = itertools.count(1)
        self._closed = False
        self._keeper: threading.Thread | None = None

    # The async door

    @overload
    def lease(self, model: str, task: Literal[Task.LLM], **how: Any) -> AbstractAsyncContextManager[LLMBackend]: ...
    @overload
    def lease(
        self, model: str, task: Literal[Task.VISION], **how: Any
    ) -> AbstractAsyncContextManager[VisionBackend]: ...
    @overload
    def lease(self, model: str, task: Literal[Task.STT], **how: Any) -> AbstractAsyncContextManager[STTBackend]: ...
    @overload
    def lease(self, model: str, task: Literal[Task.TTS], **how: Any) -> AbstractAsyncContextManager[TTSBackend]: ...
    def lease(self, model: str, task: Task, **how: Any) -> AbstractAsyncContextManager[Any]:
        """The use of a model for a while; it is loaded first if it is not.

        Args:
            model: its id or alias in the catalogue.
            task: what it is wanted for.
            how: ``options`` (load options beyond the planner's: the same model with other options is another model),
                ``priority`` (higher is served first) and ``timeout`` (seconds to wait for the model; None waits on).

        Returns:
            an async context manager that gives the backend.

        Raises:
            UnknownModel: there is no such model.
            BadInput: the model is for another task.
            Busy: the queue is full, the wait took too long, or the pool is closing.
            LoadError: the model cannot be loaded.
            OutOfMemory: the model is larger than the memory budget.
            MissingDependency: its runtime's package is not installed.
        """
        return self._lease(model, task, **how)

    @asynccontextmanager
    async def _lease(
        self,
        model: str,
        task: Task,
        *,
        options: Mapping[str, Any] | None = None,
        priority: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[Backend]:
        slot, granted = self._ask(model, task, options, priority)
        try:
            async with asyncio.timeout(timeout):
                backend = await asyncio.wrap_future(granted)
        except TimeoutError:
            raise self._give_up(slot, granted, timeout) from None
        except BaseException:
            self._withdraw(slot, granted)
            raise
        start = self._clock()
        try:
            yield backend
        finally:
            self._release(slot, self._clock() - start)

    async def load(self, model: str, *, options: Mapping[str, Any] | None = None, pin: bool = False) -> ModelStatus:
        """Load a model ahead of its use.

        Args:
            model: its id or alias.
            options: load options beyond the planner's.
            pin: keep it loaded, idle or not, until it is unloaded on request.

        Raises:
            as :meth:`lease`.
        """
        entry = self.catalogue.get(model)
        async with self._lease(model, entry.task, options=options):
            return self._mark(entry, options, pin)

    async def unload(self, model: str) -> bool:
        """Unload a model once those who use it now are done.

        Returns:
            whether it was loaded.
        """
        gone = self._doom(self.catalogue.get(model))
        for future in gone:
            await asyncio.wrap_future(future)
        return bool(gone)

    async def aclose(self, timeout: float = 10.0) -> None:
        """Turn new requests away, wait for the running ones, unload everything. Harmless when closed."""
        await asyncio.to_thread(self.close, timeout)

    # The sync door

    @overload
    def use(self, model: str, task: Literal[Task.LLM], **how: Any) -> AbstractContextManager[LLMBackend]: ...
    @overload
    def use(self, model: str, task: Literal[Task.VISION], **how: Any) -> AbstractContextManager[VisionBackend]: ...
    @overload
    def use(self, model: str, task: Literal[Task.STT], **how: Any) -> AbstractContextManager[STTBackend]: ...
    @overload
    def use(self, model: str, task: Literal[Task.TTS], **how: Any) -> AbstractContextManager[TTSBackend]: ...
    def use(self, model: str, task: Task, **how: Any) -> AbstractContextManager[Any]:
        """As :meth:`lease`, for code without an event loop; it blocks."""
        return self._use(model, task, **how)

    @contextmanager
    def _use(
        self,
        model: str,
        task: Task,
        *,
        options: Mapping[str, Any] | None = None,
        priority: int = 0,
        timeout: float | None = None,
    ) -> Iterator[Backend]:
        slot, granted = self._ask(model, task, options, priority)
        try:
            backend = granted.result(timeout)
        except FutureTimeout:
            raise self._give_up(slot, granted, timeout) from None
        except BaseException:
            self._withdraw(slot, granted)
            raise
        start = self._clock()
        try:
            yield backend
        finally:
            self._release(slot, self._clock() - start)

    def close(self, timeout: float = 10.0) -> None:
        """As :meth:`aclose`, blocking."""
        with self._changed:
            self._closed = True
            for slot in self._slots.values():
                slot.refuse(Busy("The server is shutting down."))
                slot.doomed = 0
            self._advance()
            done = self._changed.wait_for(lambda: not self._live(), timeout)
            for slot in [] if done else self._live():
                _log.warning("model %s is still in use; unloading it anyway", slot.entry.id)
                if slot.state is State.READY:
                    self._start_closing(slot)
        if not done:
            with self._changed:
                self._changed.wait_for(lambda: not self._live(), _LAST_WAIT)

    def heed(self, monitor: Monitor) -> Callable[[], None]:
        """Take the readings of a monitor into account: what is loaded where, and who is turned away.

        ``pool/admission.py`` says what strained hardware means for those who ask.

        Args:
            monitor: watches the hardware.

        Returns:
            ends it.
        """
        look = self._placement.look
        self._watch = monitor.watch
        self._placement.look = lambda: monitor.watch().reading
        unsubscribe = monitor.subscribe(self._reconsider)

        def end() -> None:
            unsubscribe()
            self._watch, self._placement.look = Watch, look
            self._reconsider()

        return end

    def __enter__(self) -> "ModelPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the outside sees

    def status(self) -> tuple[ModelStatus, ...]:
        """All models that are loaded, are being loaded, or failed to. Never waits for inference."""
        with self._changed:
            now = self._clock()
            return tuple(slot.status(now) for slot in self._slots.values())

    @property
    def memory(self) -> int:
        """Bytes reserved now."""
        with self._changed:
            return sum(slot.memory for slot in self._slots.values())

    # Asking and returning

    def _ask(
        self, model: str, task: Task, options: Mapping[str, Any] | None, priority: int
    ) -> tuple[Slot, Future[Backend]]:
        entry = self.catalogue.get(model)
        if entry.task is not task:
            raise BadInput(
                f"The model '{entry.id}' is for {entry.task.label}, not for {task.label}.",
                hint="The list of models says what each is for.",
                param="model",
            )
        key = _key(entry, options)
        with self._changed:
            slot = self._slots.get(key)
        plan = slot.plan if slot is not None else self._planned(entry, options)
        if plan.device is not None and (slot is None or slot.state is State.ABSENT):
            self._placement.refresh()
        with self._changed:
            if self._closed:
                raise Busy("The server is shutting down.", retry_after=5.0)
            slot = self._slots.setdefault(key, Slot(entry, plan, dict(options or {})))
            if (failure := slot.failure(self._clock())) is not None:
                raise failure
            slot.drop_cancelled()
            if len(slot.waiting) >= self._max_waiting:
                raise Busy(
                    f"The queue of the model '{entry.id}' is full: {len(slot.waiting)} requests wait.",
                    hint="Try again later.",
                    retry_after=slot.expected_wait(),
                )
            if slot.full and (hot := overheated(slot, self._watch())) is not None:
                raise hot
            ticket = Ticket(next(self._orders), priority)
            heapq.heappush(slot.waiting, ticket)
            self._advance()
        return slot, ticket.granted

    def plan(self, entry: ModelEntry) -> Plan:
        """How a model is, or would be, loaded here.

        Raises:
            PajamasError: no runtime of this machine runs it; the message gives the reasons.
        """
        known = self._plans.get(entry.id)
        if known is None or known[0] is not entry:
            known = self._plans[entry.id] = (entry, self._planner(entry))
        return known[1]

    def _planned(self, entry: ModelEntry, options: Mapping[str, Any] | None) -> Plan:
        plan = self.plan(entry)
        return replace(plan, options={**plan.options, **options}) if options else plan

    def _withdraw(self, slot: Slot, granted: Future[Backend]) -> None:
        """One who waited leaves. The lease may have been granted in the same moment."""
        with self._changed:
            if not granted.cancel() and granted.exception() is None:
                self._release(slot, 0.0)
            else:
                self._advance()

    def _give_up(self, slot: Slot, granted: Future[Backend], timeout: float | None) -> Busy:
        self._withdraw(slot, granted)
        return Busy(
            f"The model '{slot.entry.id}' was not free within {timeout:g} seconds.",
            hint="Try again later.",
            retry_after=slot.expected_wait(),
        )

    def _release(self, slot: Slot, seconds: float) -> None:
        with self._changed:
            slot.users -= 1
            slot.last_used = self._clock()
            slot.measure(seconds)
            self._advance()

    def _mark(self, entry: ModelEntry, options: Mapping[str, Any] | None, pin: bool) -> ModelStatus:
        with self._changed:
            slot = self._slots[_key(entry, options)]
            slot.pinned = slot.pinned or pin
            return slot.status(self._clock())

    def _doom(self, entry: ModelEntry) -> list[Future[None]]:
        with self._changed:
            gone: list[Future[None]] = []
            for slot in self._slots.values():
                if slot.entry.id == entry.id and slot.state in (State.READY, State.LOADING, State.CLOSING):
                    slot.pinned = False
                    if slot.state is not State.CLOSING:
                        slot.doomed = next(self._orders)
                    slot.gone.append(Future())
                    gone.append(slot.gone[-1])
            self._advance()
            return gone

    # Moving things on. All of it runs under the lock and returns at once.

    def _advance(self) -> None:
        """Do whatever has become possible: admit, make room, load, unload."""
        for slot in list(self._slots.values()):
            slot.drop_cancelled()
            if slot.state is State.READY:
                slot.admit()
                if slot.spent():
                    self._start_closing(slot)
        wanting = [slot for slot in self._slots.values() if slot.state is State.ABSENT and slot.waiting]
        for slot in sorted(wanting, key=lambda slot: min(ticket.order for ticket in slot.waiting)):
            if not self._make_room(slot):
                break  # the one that came first is served first, or a large model would never get its room
        for key, slot in list(self._slots.items()):
            if slot.state is State.ABSENT and not slot.waiting and slot.error is None:
                del self._slots[key]
        self._changed.notify_all()

    def _make_room(self, slot: Slot) -> bool:
        """Start loading a model, or set in motion what must happen before.

        Returns:
            whether those who came later may have their turn.
        """
        others = [other for other in self._slots.values() if other.state is not State.ABSENT]
        decision = decide(slot, others, self._limits, self._placement, self._watch(), self._eased)
        for victim in decision.victims:
            victim.doomed = next(self._orders)
            _log.info("model %s makes room for %s", victim.entry.id, slot.entry.id)
            if victim.spent():
                self._start_closing(victim)
        if decision.action == "load":
            slot.state, slot.doomed, slot.error, slot.gpu = State.LOADING, None, None, decision.gpu
            _spawn(f"load-{slot.entry.id}", self._load, slot)
        elif decision.error is not None:
            slot.refuse(decision.error)
        return decision.pass_on

    def _reconsider(self) -> None:
        """See whether strained hardware has recovered for those who wait for a model to be loaded."""
        with self._changed:
            if any(slot.waiting and slot.state is State.ABSENT for slot in self._slots.values()):
                self._advance()

    def _start_closing(self, slot: Slot) -> None:
        backend, slot.backend = slot.backend, None
        slot.state, slot.details = State.CLOSING, {}
        assert backend is not None
        _spawn(f"unload-{slot.entry.id}", self._unload, slot, backend)

    def _live(self) -> list[Slot]:
        return [slot for slot in self._slots.values() if slot.state is not State.ABSENT]

    # On threads of their own

    def _load(self, slot: Slot) -> None:
        start = time.monotonic()
        backend: Backend | None = None
        error: Exception | None = None
        try:
            # With a single GPU the runtime finds it by itself.
            backend = slot.plan.load(slot.gpu if len(self._placement.gpus) > 1 else None)
        except MemoryError:
            error = OutOfMemory(f"Memory ran out while the model '{slot.entry.id}' was loaded.")
        except PajamasError as raised:
            error = raised
        except Exception as raised:
            _log.exception("loading model %s failed", slot.entry.id)
            error = LoadError(f"The model '{slot.entry.id}' could not be loaded: {type(raised).__name__}.")
        with self._changed:
            if backend is not None:
                slot.backend, slot.details = backend, dict(backend.details)
                if slot.details.get("device") == "cpu":
                    slot.gpu = None
                slot.lanes = max(backend.lanes, 1)
                slot.state, slot.failures, slot.last_used = State.READY, 0, self._clock()
                self._start_keeper()
                _log.info(
                    "model=%s runtime=%s loaded in %.2f s", slot.entry.id, slot.plan.runtime, time.monotonic() - start
                )
            else:
                assert error is not None
                _log.warning("model=%s runtime=%s not loaded: %s", slot.entry.id, slot.plan.runtime, error)
                slot.state, slot.gpu = State.ABSENT, None
                self._end(slot)
                self._fail(slot, error)
            self._advance()

    def _fail(self, slot: Slot, error: Exception) -> None:
        """Tell all who waited. What is not the user's to mend is not tried again at once."""
        if isinstance(error, UserError):
            slot.refuse(error)
            return
        slot.remember_failure(error, self._clock())
        slot.refuse((slot.failure(self._clock()) or error) if isinstance(error, LoadError) else error)

    def _unload(self, slot: Slot, backend: Backend) -> None:
        try:
            backend.close()
        except Exception:
            _log.exception("unloading model %s failed", slot.entry.id)
        with self._changed:
            _log.info("model=%s unloaded", slot.entry.id)
            slot.state, slot.doomed, slot.gpu = State.ABSENT, None, None
            # A reading may be under way that began before; the one after it shows the memory that is free now.
            self._eased = self._watch().count + 2
            self._end(slot)
            self._advance()

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
        with self._changed:
            while not self._closed:
                now, wake = self._clock(), None
                for slot in [slot for slot in self._slots.values() if slot.idle and not slot.pinned]:
                    left = slot.last_used + self._keep_alive - now
                    if left <= 0:
                        slot.doomed = next(self._orders)
                        self._start_closing(slot)
                    else:
                        wake = left if wake is None else min(wake, left)
                self._changed.wait(wake)


def _key(entry: ModelEntry, options: Mapping[str, Any] | None) -> tuple[str, str]:
    return entry.id, json.dumps(dict(options or {}), sort_keys=True, default=str)


def _spawn(name: str, work: Callable[..., None], *arguments: Any) -> threading.Thread:
    """A daemon thread: a process that ends does not wait for a load that hangs."""
    thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
    thread.start()
    return thread
