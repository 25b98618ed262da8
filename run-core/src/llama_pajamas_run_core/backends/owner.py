"""One thread that owns a model: native libraries are called from where they were loaded, one call at a time."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Generic, TypeVar

from llama_pajamas_run_core.errors import BadInput

T = TypeVar("T")

#: How many items of a stream may wait for their reader before the owner thread waits too.
_STREAM_AHEAD = 16
#: How often, in seconds, a waiting owner thread looks whether the reader has left.
_GLANCE = 0.05


class _End:
    """Marks the end of a stream, with the error that ended it."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Handover(Generic[T]):
    """Items on their way from the owner thread to the reader."""

    def __init__(self) -> None:
        self._queue: queue.Queue[T | _End] = queue.Queue(_STREAM_AHEAD)
        self._left = threading.Event()

    def fill(self, function: Callable[[], Iterator[T]]) -> None:
        """The owner thread's side: iterate until the end, an error, or the reader's leaving."""
        error: BaseException | None = None
        try:
            if not self._left.is_set():
                self._offer_all(function())
        except BaseException as raised:
            error = raised
        self._offer(_End(error))

    def items(self) -> Iterator[T]:
        """The reader's side."""
        try:
            while not isinstance(item := self._queue.get(), _End):
                yield item
            if item.error is not None:
                raise item.error
        finally:
            self._left.set()

    def _offer_all(self, iterator: Iterator[T]) -> None:
        try:
            for item in iterator:
                if not self._offer(item):
                    break
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _offer(self, item: T | _End) -> bool:
        """Hand an item over once there is room; False if the reader left."""
        while not self._left.is_set():
            try:
                self._queue.put(item, timeout=_GLANCE)
                return True
            except queue.Full:
                continue
        return False


class OwnerThread:
    """Runs functions one after another on a thread of its own.

    A daemon thread: a process that ends while a model is loaded does not hang on it.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopped = False
        self._order = threading.Lock()  # nothing is queued behind the end
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Queue a function; its result, or what it raised, comes through the future.

        Raises:
            BadInput: the thread was stopped.
        """
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        with self._order:
            if self._stopped:
                raise BadInput("The model was closed.")
            self._jobs.put(job)
        return future

    def run(self, function: Callable[[], T]) -> T:
        """Run a function on the thread and wait for its result. From the thread itself it runs at once."""
        if threading.current_thread() is self._thread:
            return function()
        return self.submit(function).result()

    def stream(self, function: Callable[[], Iterator[T]]) -> Iterator[T]:
        """Iterate on the thread; the items are handed over as they come.

        A reader that stops early closes the function's iterator, on the owner thread, at its next item.
        """
        if threading.current_thread() is self._thread:
            yield from function()
            return
        handover: _Handover[T] = _Handover()
        self.submit(lambda: handover.fill(function))
        yield from handover.items()

    def stop(self) -> None:
        """Let the queued functions finish, then end the thread. Harmless when it ended."""
        with self._order:
            if not self._stopped:
                self._stopped = True
                self._jobs.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # or the last job's model would live until the next one comes
