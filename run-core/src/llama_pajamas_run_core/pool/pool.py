"""The pool of loaded models: who gets to use one, and when.

It has an async door for the server and a sync one for scripts; both lead through the same queue. How models come into
memory and leave it is in ``residents``.
"""

import asyncio
import heapq
import json
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
from llama_pajamas_run_core.errors import BadInput, Busy
from llama_pajamas_run_core.hardware.monitor import Monitor
from llama_pajamas_run_core.pool.admission import Limits, overheated
from llama_pajamas_run_core.pool.placement import Placement
from llama_pajamas_run_core.pool.plan import Plan, Planner
from llama_pajamas_run_core.pool.residents import Residents
from llama_pajamas_run_core.pool.slot import Slot, State, Ticket
from llama_pajamas_run_core.pool.status import ModelStatus
from llama_pajamas_run_core.types.tasks import Task


class ModelPool:
    """Loads models when they are asked for, shares them, and unloads them when memory is short or nobody comes.

    Args:
        catalogue: the models there are.
        planner: how each is loaded on this machine.
        memory_budget: bytes of the host's memory that all loaded models may take together; None sets no limit. A
            model's share is reserved before it is loaded; what its backend then says to be elsewhere is given back.
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
        self._max_waiting = max_waiting
        self._clock = clock
        self._residents = Residents(
            Limits(memory_budget, max_loaded), placement or Placement(()), keep_alive=keep_alive, clock=clock
        )
        self._lock, self._slots = self._residents.changed, self._residents.slots

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
        pin: bool = False,
    ) -> AsyncIterator[Backend]:
        slot, granted = self._ask(model, task, options, priority, pin=pin)
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
        async with self._lease(model, entry.task, options=options, pin=pin):
            with self._lock:
                return self._slots[_key(entry, options)].status(self._clock())

    async def unload(self, model: str) -> bool:
        """Unload a model once those who use it now are done.

        Returns:
            whether it was loaded.
        """
        gone = self._residents.doom(self.catalogue.get(model).id)
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
        self._residents.close(timeout)

    def heed(self, monitor: Monitor) -> Callable[[], None]:
        """Take the readings of a monitor into account: what is loaded where, and who is turned away.

        ``pool/admission.py`` says what strained hardware means for those who ask.

        Args:
            monitor: watches the hardware.

        Returns:
            ends it.
        """
        return self._residents.heed(monitor)

    def __enter__(self) -> "ModelPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the outside sees

    def status(self) -> tuple[ModelStatus, ...]:
        """All models that are loaded, are being loaded, or failed to. Never waits for inference."""
        with self._lock:
            now = self._clock()
            return tuple(slot.status(now) for slot in self._slots.values())

    @property
    def memory(self) -> int:
        """Bytes reserved now."""
        with self._lock:
            return sum(slot.memory for slot in self._slots.values())

    # Asking and returning

    def _ask(
        self, model: str, task: Task, options: Mapping[str, Any] | None, priority: int, *, pin: bool = False
    ) -> tuple[Slot, Future[Backend]]:
        entry = self.catalogue.get(model)
        if entry.task is not task:
            raise BadInput(
                f"The model '{entry.id}' is for {entry.task.label}, not for {task.label}.",
                hint="The list of models says what each is for.",
                param="model",
            )
        key = _key(entry, options)
        with self._lock:
            slot = self._slots.get(key)
            plan = None if slot is None or slot.state is State.ABSENT else slot.plan
        if plan is None:
            plan = self._planned(entry, options)
            if plan.device is not None:
                self._residents.placement.refresh()
        with self._lock:
            if self._residents.closed:
                raise Busy("The server is shutting down.", retry_after=5.0)
            slot = self._slots.setdefault(key, Slot(entry, plan, dict(options or {})))
            slot.renew(entry, plan)
            if (failure := slot.failure(self._clock())) is not None:
                raise failure
            slot.drop_cancelled()
            if len(slot.waiting) >= self._max_waiting:
                raise Busy(
                    f"The queue of the model '{entry.id}' is full: {len(slot.waiting)} requests wait.",
                    hint="Try again later.",
                    retry_after=slot.expected_wait(),
                )
            if slot.full and (hot := overheated(slot, self._residents.watch())) is not None:
                raise hot
            slot.pinned = slot.pinned or pin
            ticket = Ticket(self._residents.order(), priority)
            heapq.heappush(slot.waiting, ticket)
            self._residents.advance()
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
        with self._lock:
            if not granted.cancel() and granted.exception() is None:
                self._release(slot, 0.0)
            else:
                self._residents.advance()

    def _give_up(self, slot: Slot, granted: Future[Backend], timeout: float | None) -> Busy:
        self._withdraw(slot, granted)
        return Busy(
            f"The model '{slot.entry.id}' was not free within {timeout:g} seconds.",
            hint="Try again later.",
            retry_after=slot.expected_wait(),
        )

    def _release(self, slot: Slot, seconds: float) -> None:
        with self._lock:
            slot.users -= 1
            slot.last_used = self._clock()
            slot.measure(seconds)
            self._residents.advance()


def _key(entry: ModelEntry, options: Mapping[str, Any] | None) -> tuple[str, str]:
    return entry.id, json.dumps(dict(options or {}), sort_keys=True, default=str)
