"""One answer on its way from the thread that makes it to the one that reads it."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self
from weakref import WeakKeyDictionary, ref

from llama_pajamas_run_core.errors import Cancelled, PajamasError
from llama_pajamas_run_core.text.stops import StopMatcher
from llama_pajamas_run_core.types.chat import (
    Completion,
    Delta,
    FinishReason,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)


class Generation:
    """A stream of :class:`Delta`, written by an engine thread and read by one reader, sync or async.

    The engine calls :meth:`push` as tokens come and ends with exactly one of :meth:`finish` and :meth:`fail`; it
    looks at :attr:`cancelled` between decode steps. Stop strings are found here, so that no engine has to: when one
    appears, the reader gets "stop" and the engine sees ``cancelled``.

    Args:
        stop: strings that end the answer.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._deltas: deque[Delta] = deque()
        self._ready = threading.Condition()
        self._stops = StopMatcher(stop)
        self._ended = False
        self._error: BaseException | None = None
        self._cancelled = False
        self._wake: Callable[[], None] | None = None
        self._on_cancel: Callable[[], None] | None = None

    # The engine's side

    def push(
        self,
        text: str = "",
        *,
        reasoning: str = "",
        tool_calls: tuple[ToolCallDelta, ...] = (),
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> None:
        """Add what one decode step produced. After a stop string or a cancellation it is dropped."""
        if self._stops.matched is not None or self._ended:
            return
        shown = self._stops.push(text) if text else ""
        if shown or reasoning or tool_calls or logprobs:
            self._put(Delta(text=shown, reasoning=reasoning, tool_calls=tool_calls, logprobs=logprobs))
        if self._stops.matched is not None:
            self._cancelled = True

    def finish(self, reason: FinishReason, usage: Usage) -> None:
        """End the answer. The first call counts."""
        if self._ended:
            return
        rest = self._stops.flush()
        if self._stops.matched is not None:
            reason = "stop"
        self._put(Delta(text=rest, finish_reason=reason, usage=usage), end=True)

    def fail(self, error: BaseException) -> None:
        """End the answer with an error, which the reader gets raised."""
        self._put(None, end=True, error=error)

    @property
    def cancelled(self) -> bool:
        """Whether the engine should stop: the reader left, or a stop string was found."""
        return self._cancelled

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found; the engine then ends with ``finish("stop", usage)``."""
        return self._stops.matched is not None

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Have a function called, from the cancelling thread, when the reader leaves: an idle engine's wake-up."""
        self._on_cancel = callback

    # The reader's side

    def cancel(self) -> None:
        """Ask the engine to stop. A reader that goes on gets :class:`Cancelled`, unless the answer had ended."""
        self._cancelled = True
        self.fail(Cancelled("The generation was cancelled."))
        if self._on_cancel is not None:
            self._on_cancel()

    def __iter__(self) -> Iterator[Delta]:
        try:
            while True:
                with self._ready:
                    self._ready.wait_for(lambda: self._deltas or self._ended)
                    if not self._deltas:
                        break
                    delta = self._deltas.popleft()
                yield delta
        finally:
            self._leave()
        self._raise()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        woken = asyncio.Event()
        self._wake = _waker(asyncio.get_running_loop(), woken)
        try:
            while True:
                woken.clear()
                while self._deltas:
                    yield self._deltas.popleft()
                if self._ended and not self._deltas:
                    break
                await woken.wait()
        finally:
            self._wake = None
            self._leave()
        self._raise()

    def result(self) -> Completion:
        """Read to the end and fold the deltas into one answer."""
        return fold(self)

    async def aresult(self) -> Completion:
        """Read to the end and fold the deltas into one answer, without blocking the event loop."""
        return fold([delta async for delta in self])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if not self._ended:
            self.cancel()

    def _raise(self) -> None:
        if self._error is not None:
            if isinstance(self._error, PajamasError):
                raise self._error
            raise self._error from None

    def _put(self, delta: Delta | None, *, end: bool = False, error: BaseException | None = None) -> None:
        with self._ready:
            if self._ended:  # an error that comes after the end is none of the answer's
                return
            if delta is not None:
                self._deltas.append(delta)
            self._ended, self._error = end, error
            self._ready.notify_all()
        if (wake := self._wake) is not None:
            wake()


def fold(deltas: "Generation | Sequence[Delta]") -> Completion:
    """Join deltas into the whole answer.

    Raises:
        PajamasError: what ended the generation, where it ended with an error.
    """
    text: list[str] = []
    reasoning: list[str] = []
    logprobs: list[TokenLogprob] = []
    calls: dict[int, ToolCall] = {}
    reason: FinishReason = "stop"
    usage = Usage(0, 0)
    for delta in deltas:
        text.append(delta.text)
        reasoning.append(delta.reasoning)
        logprobs.extend(delta.logprobs)
        for piece in delta.tool_calls:
            known = calls.get(piece.index, ToolCall("", "", ""))
            calls[piece.index] = ToolCall(
                piece.id or known.id, piece.name or known.name, known.arguments + piece.arguments
            )
        if delta.finish_reason is not None:
            reason = delta.finish_reason
        if delta.usage is not None:
            usage = delta.usage
    return Completion(
        "".join(text),
        reason,
        usage,
        reasoning="".join(reasoning),
        tool_calls=tuple(calls[index] for index in sorted(calls)),
        logprobs=tuple(logprobs),
    )


class _LoopBell:
    """Wakes many readers on one event loop with a single call into it.

    An engine that decodes thirty sequences in a step pushes thirty deltas; calling into the loop for each would cost
    more than the readers' work.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)  # the bell must not keep its own key alive
        self._lock = threading.Lock()
        self._waiting: set[asyncio.Event] = set()

    def ring(self, event: asyncio.Event) -> None:
        with self._lock:
            first = not self._waiting
            self._waiting.add(event)
        if not first:
            return
        held: list[_LoopBell] | None = getattr(_holding, "bells", None)
        if held is not None:
            held.append(self)
        else:
            self.sound()

    def sound(self) -> None:
        """Call into the loop."""
        try:
            if (loop := self._loop()) is not None:
                loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop was closed: nobody is left to be woken
            with self._lock:
                self._waiting.clear()

    def _answer(self) -> None:
        with self._lock:
            events, self._waiting = self._waiting, set()
        for event in events:
            event.set()


@contextmanager
def together() -> Iterator[None]:
    """Wake the event loops' readers at the end of the block, for all that this thread pushes within it.

    An engine then finishes its step before the readers, woken by its first delta, want Python's lock.
    """
    _holding.bells = []
    try:
        yield
    finally:
        bells, _holding.bells = _holding.bells, None
        for bell in bells:
            bell.sound()


_holding = threading.local()
_bells: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopBell] = WeakKeyDictionary()
_bells_lock = threading.Lock()


def _waker(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> Callable[[], None]:
    """A function that sets the event from any thread, sharing one call into the loop among all who ring at once."""
    with _bells_lock:
        bell = _bells.setdefault(loop, _LoopBell(loop))
    return lambda: bell.ring(event)
