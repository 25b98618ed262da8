"""Replies on their way: work in a task of its own, a reader that may be slow, a client that may leave."""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llama_pajamas_run_core.server.errors import ClientGone

T = TypeVar("T")


class Feed:
    """Runs an async iterator of bytes to its end, however slowly its items are taken.

    So a model's lease lasts as long as the model works, not as long as the client reads. All of the iterator runs in
    one task: what it opens is closed in the same place.
    """

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._items: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._error: Exception | None = None
        self._ended = False
        self._silence = _Silence(self._news.set)
        self._task = asyncio.create_task(self._run(source))

    async def _run(self, source: AsyncIterator[bytes]) -> None:
        try:
            async for item in source:
                self._items.append(item)
                self._news.set()
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._news.set()

    async def started(self, patience: float | None) -> None:
        """Wait for the first item, or until patience (seconds) runs out.

        Raises:
            Exception: what the iterator raised before its first item.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not self._items and not self._ended:
                    await self._news.wait()
                    self._news.clear()
        if self._error is not None and not self._items:
            raise self._error

    async def take(self, patience: float | None) -> bytes | None:
        """All items by now in one piece; b"" after so many seconds of silence; None at the end.

        Raises:
            Exception: what the iterator raised, after its last item.
        """
        self._silence.begin(patience)
        while not self._items and not self._ended:
            if self._silence.over:
                return b""
            self._news.clear()
            await self._news.wait()
        if self._items:
            data = b"".join(self._items)
            self._items.clear()
            return data
        if self._error is not None:
            raise self._error
        return None

    async def close(self) -> None:
        """Stop the work, wherever it is. Harmless at the end."""
        self._silence.end()
        self._task.cancel()
        await asyncio.wait([self._task])


class _Silence:
    """Notices that nothing comes for some seconds, with one timer for all items: a timer for each would cost as much
    as sending it.

    Args:
        tell: called when the time is over.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._until = math.inf
        self._timer: asyncio.TimerHandle | None = None

    @property
    def over(self) -> bool:
        """Whether the time is over that began last."""
        return self._loop.time() >= self._until

    def begin(self, seconds: float | None) -> None:
        """From now on so many seconds may pass, or any time if None."""
        self._until = math.inf if seconds is None else self._loop.time() + seconds
        if self._timer is None and seconds is not None:
            self._timer = self._loop.call_at(self._until, self._look)

    def end(self) -> None:
        """Notice nothing any more."""
        self._until = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self.over:
            self._tell()
        elif self._until < math.inf:  # something came meanwhile
            self._timer = self._loop.call_at(self._until, self._look)


class Streamed(Response):
    """A reply whose body is a feed.

    Args:
        feed: the body.
        media_type: its type.
        headers: further headers.
        silence: seconds without data after which ``ping`` is sent.
        ping: what is sent then, or None for nothing.
        on_error: makes the last bytes from an error; without it, an error breaks the connection off, as the only
            honest end of a body that cannot carry one.
        on_leave: called when the client leaves before the end.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        media_type: str,
        headers: dict[str, str] | None = None,
        silence: float | None = None,
        ping: bytes | None = None,
        on_error: Callable[[Exception], bytes] | None = None,
        on_leave: Callable[[], None] | None = None,
    ) -> None:
        self._feed = feed
        self._silence = silence if ping else None
        self._ping = ping or b""
        self._on_error = on_error
        self._on_leave = on_leave
        self._gone = False
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the body as it comes."""
        watcher = asyncio.create_task(self._watch(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._send_all(send)
            if not self._gone:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:  # some servers tell of a client that left in this way
            self._gone = True
        finally:
            watcher.cancel()
            await self._feed.close()
            if self._gone and self._on_leave is not None:
                self._on_leave()

    async def _send_all(self, send: Send) -> None:
        while not self._gone:
            try:
                data = await self._feed.take(self._silence)
            except Exception as error:
                if self._gone:
                    return
                if self._on_error is None:
                    raise
                await send({"type": "http.response.body", "body": self._on_error(error), "more_body": True})
                return
            if data is None or self._gone:
                return
            await send({"type": "http.response.body", "body": data or self._ping, "more_body": True})

    async def _watch(self, receive: Receive) -> None:
        await _left(receive)
        self._gone = True
        await self._feed.close()


async def while_connected(request: Request, work: Coroutine[Any, Any, T], on_leave: Callable[[], None]) -> T:
    """Do some work as long as the client waits for it; it is cancelled when the client leaves.

    Args:
        request: whose body has been read.
        work: what to do.
        on_leave: called when the client left.

    Raises:
        ClientGone: the client left.
        Exception: what the work raised.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.create_task(_left(request.receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            on_leave()
            raise ClientGone
        return task.result()
    finally:
        watcher.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


async def _left(receive: Receive) -> None:
    """Wait until the client closes the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
