"""What the routes work with, made once for each application."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Literal, overload

from fastapi import Depends, Request

from llama_pajamas_run_core.artifacts.catalogue import Catalogue, ModelEntry, is_id
from llama_pajamas_run_core.backends.llm import LLMBackend
from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.backends.tts import TTSBackend
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.errors import BadInput, UnknownModel
from llama_pajamas_run_core.hardware.monitor import Monitor
from llama_pajamas_run_core.pool import ModelPool
from llama_pajamas_run_core.server.errors import Overtime
from llama_pajamas_run_core.server.metrics import Metrics
from llama_pajamas_run_core.server.settings import Settings
from llama_pajamas_run_core.server.workers import Workers
from llama_pajamas_run_core.types.tasks import Task


@dataclass(slots=True)
class Services:
    """What the routes work with.

    Attributes:
        catalogue: the models there are.
        pool: those that are loaded.
        settings: how the server behaves.
        metrics: what it has done.
        workers: threads for what blocks.
        monitor: watches the hardware.
        started: when it started, in seconds of a monotonic clock.
        ready: whether the models named for preloading are loaded.
        trouble: why one of them could not be.
    """

    catalogue: Catalogue
    pool: ModelPool
    settings: Settings
    metrics: Metrics = field(default_factory=Metrics)
    workers: Workers = field(default_factory=Workers)
    monitor: Monitor = field(default_factory=Monitor)
    started: float = field(default_factory=time.monotonic)
    ready: bool = True
    trouble: str | None = None

    def model(self, name: str) -> ModelEntry:
        """The model of that id or alias.

        Raises:
            UnknownModel: there is none; the message lists those there are.
        """
        if not is_id(name):
            shown = "".join(c if c.isprintable() else "?" for c in name[:60].encode("ascii", "replace").decode())
            raise UnknownModel(shown, available=tuple(entry.id for entry in self.catalogue.entries()))
        return self.catalogue.get(name)

    def model_for(self, task: Task, name: str | None, ability: str | None = None) -> ModelEntry:
        """The model of that name or, where none is named, the one that serves the task (with an ability) by default.

        Raises:
            UnknownModel: there is none of that name.
            BadInput: none is named, and none serves the task.
        """
        if name is not None:
            return self.model(name)
        entry = self.catalogue.default(task, ability)
        if entry is None:
            what = f"{task.label} ({ability})" if ability else task.label
            raise BadInput(f"There is no model for {what}.", param="model")
        return entry

    @overload
    def lease(
        self, entry: ModelEntry, task: Literal[Task.LLM], priority: int = 0
    ) -> AbstractAsyncContextManager[LLMBackend]: ...
    @overload
    def lease(
        self, entry: ModelEntry, task: Literal[Task.VISION], priority: int = 0
    ) -> AbstractAsyncContextManager[VisionBackend]: ...
    @overload
    def lease(
        self, entry: ModelEntry, task: Literal[Task.STT], priority: int = 0
    ) -> AbstractAsyncContextManager[STTBackend]: ...
    @overload
    def lease(
        self, entry: ModelEntry, task: Literal[Task.TTS], priority: int = 0
    ) -> AbstractAsyncContextManager[TTSBackend]: ...
    def lease(self, entry: ModelEntry, task: Task, priority: int = 0) -> AbstractAsyncContextManager[object]:
        """The use of a model, within the time that a request may take. Errors as ``ModelPool.lease``, and Overtime."""
        return self._lease(entry, task, priority)

    @asynccontextmanager
    async def _lease(self, entry: ModelEntry, task: Task, priority: int) -> AsyncIterator[object]:
        limit = self.settings.request_timeout
        scope = asyncio.timeout(limit)
        try:
            async with (
                scope,
                self.pool.lease(entry.id, task, priority=priority, timeout=self.settings.queue_timeout) as backend,  # type: ignore[call-overload]
            ):
                yield backend
        except TimeoutError:
            if scope.expired():
                raise Overtime(f"The request took longer than {limit:g} seconds.") from None
            raise


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


#: The services, for a route's signature.
Served = Annotated[Services, Depends(_services)]
