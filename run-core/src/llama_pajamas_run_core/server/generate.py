"""Answers of language models, several at once where several are asked for."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from typing import Any, Protocol

from llama_pajamas_run_core.artifacts.catalogue import ModelEntry
from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.server.services import Services
from llama_pajamas_run_core.server.sse import DONE, event
from llama_pajamas_run_core.types.chat import Completion, Delta, GenerationRequest, Usage
from llama_pajamas_run_core.types.tasks import Task


@asynccontextmanager
async def generations(
    services: Services, entry: ModelEntry, requests: Sequence[GenerationRequest]
) -> AsyncIterator[list[Generation]]:
    """Start the answers to some requests under one lease. Leaving cancels those that have not ended.

    Raises:
        PajamasError: as ``ModelPool.lease`` and ``LLMBackend.submit``.
    """
    priority = requests[0].options.priority
    async with services.lease(entry, Task.LLM, priority) as llm:
        with ExitStack() as running:
            started: list[Generation] = []
            for request in requests:
                # Rendering and tokenizing a long conversation takes its time: not on the event loop.
                generation = await services.workers.call(
                    lambda request=request: llm.submit(request),  # type: ignore[misc]
                    discard=Generation.cancel,
                )
                started.append(running.enter_context(generation))
            yield started


async def complete(services: Services, entry: ModelEntry, requests: Sequence[GenerationRequest]) -> list[Completion]:
    """The whole answers. Errors as :func:`generations`."""
    async with generations(services, entry, requests) as running:
        return [await generation.aresult() for generation in running]


async def merged(running: Sequence[Generation]) -> AsyncGenerator[tuple[int, Delta], None]:
    """The deltas of several answers as they come, each with the number of its answer.

    Raises:
        PajamasError: what ended one of them.
    """
    if len(running) == 1:
        async for delta in running[0]:
            yield 0, delta
        return
    arrived: asyncio.Queue[tuple[int, Delta | Exception | None]] = asyncio.Queue()

    async def read(index: int, generation: Generation) -> None:
        try:
            async for delta in generation:
                arrived.put_nowait((index, delta))
            arrived.put_nowait((index, None))
        except Exception as error:
            arrived.put_nowait((index, error))

    readers = [asyncio.create_task(read(index, generation)) for index, generation in enumerate(running)]
    try:
        left = len(readers)
        while left:
            index, item = await arrived.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                left -= 1
            else:
                yield index, item
    finally:
        for reader in readers:
            reader.cancel()


class Reply(Protocol):
    """What turns the deltas of some answers into the chunks of a stream."""

    @property
    def usage(self) -> Usage:
        """Of all answers that ended."""

    def chunks(self, index: int, delta: Delta) -> Iterator[dict[str, Any]]:
        """The chunks for one delta of one answer."""

    def usage_chunk(self) -> dict[str, Any]:
        """The last chunk where usage is asked for."""


async def deltas(
    services: Services,
    entry: ModelEntry,
    requests: Sequence[GenerationRequest],
    reply: Reply,
    *,
    include_usage: bool,
) -> AsyncIterator[bytes]:
    """The events of a streamed reply. Errors as :func:`generations`."""
    async with generations(services, entry, requests) as running, aclosing(merged(running)) as arriving:
        async for index, delta in arriving:
            for chunk in reply.chunks(index, delta):
                yield event(chunk)
    services.metrics.tokens(reply.usage)
    if include_usage:
        yield event(reply.usage_chunk())
    yield DONE
