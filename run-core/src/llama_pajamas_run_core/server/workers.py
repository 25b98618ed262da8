"""Threads for what blocks: decoding, encoding and the backends. The event loop itself only ever passes things on."""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class _Threads:
    """A bounded set of threads, started as they are needed.

    Daemon threads, unlike those of the standard library's executor: a process that is told to stop does not wait for a
    model that takes another minute.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = self._unfinished = 0

    def submit(self, function: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()

        def job() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as error:
                    future.set_exception(error)

        with self._lock:
            self._unfinished += 1
            if self._started < min(self._unfinished, self._most):
                self._started += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
            self._jobs.put(job)
        return future

    def close(self) -> None:
        with self._lock:
            for _ in range(self._started):
                self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # or what the last job held would live until the next one comes
            with self._lock:
                self._unfinished -= 1


class Workers:
    """Bounded sets of threads: long decoding cannot take those that models need, nor the other way round.

    Args:
        codecs: how many files are decoded or encoded at once.
        models: how many calls into backends block at once.
        files: how many questions about files and folders are answered at once; they wait for neither of the others.
    """

    def __init__(self, *, codecs: int = 2, models: int = 32, files: int = 2) -> None:
        self._codecs = _Threads(codecs, "codec")
        self._models = _Threads(models, "model")
        self._files = _Threads(files, "files")

    async def decode(self, function: Callable[[], T]) -> T:
        """Run a codec's work on a thread."""
        return await asyncio.wrap_future(self._codecs.submit(function))

    async def look(self, function: Callable[[], T]) -> T:
        """See what there is on disk, or delete some of it, on a thread."""
        return await asyncio.wrap_future(self._files.submit(function))

    async def call(self, function: Callable[[], T], *, discard: Callable[[T], None] | None = None) -> T:
        """Run a backend's work on a thread.

        Args:
            function: what to run.
            discard: gets the result where nobody waits for it any more.
        """
        future = self._models.submit(function)
        waited = asyncio.wrap_future(future)
        waited.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to look at it
        try:
            return await asyncio.shield(waited)
        except asyncio.CancelledError:
            if not future.cancel() and discard is not None:
                future.add_done_callback(lambda done: _discard(done, discard))
            raise

    async def iterate(self, function: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
        """Iterate on one thread, from the first item to the closing; items come as they are made.

        A generator that wandered between threads could not be closed from the one that is inside it; here the thread
        itself closes it, at the next item after the reader left.
        """
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        items: deque[T] = deque()
        left = threading.Event()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(ready.set)
            except RuntimeError:
                left.set()  # the loop is gone, and the reader with it

        def work() -> None:
            iterator = function()
            try:
                for item in iterator:
                    if left.is_set():
                        return
                    items.append(item)
                    wake()
            finally:
                close = getattr(iterator, "close", None)
                if close is not None:
                    close()

        future = self._models.submit(work)
        future.add_done_callback(lambda _: wake())
        try:
            while True:
                ready.clear()
                ended = future.done()
                while items:
                    yield items.popleft()
                if ended:
                    future.result()
                    return
                await ready.wait()
        finally:
            left.set()
            future.cancel()

    def close(self) -> None:
        """Take no more work. Does not wait for what is running."""
        self._codecs.close()
        self._models.close()
        self._files.close()


def _discard(done: Future[T], discard: Callable[[T], None]) -> None:
    if not done.cancelled() and done.exception() is None:
        discard(done.result())
