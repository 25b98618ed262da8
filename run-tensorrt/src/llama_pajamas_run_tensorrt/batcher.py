"""Requests that come at the same time are worked on together: what stands between callers and the places of work.

There is no thread in between. A caller that finds a place free takes it, puts into a batch what waits there, its own
first, and does the work on its own thread; the others wait, and one of them goes on when the place is free again. So a
request that comes alone is never handed to another thread, nor waits for company.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Generic, Protocol, TypeVar

from llama_pajamas_run_core.errors import BadInput

J = TypeVar("J")
R = TypeVar("R")
J_contra = TypeVar("J_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

#: For how many seconds after a batch of several requests company is expected again.
_COMPANY: Final = 0.02
#: States of a ticket: its thread has to wait, to work, or to go home.
_WAITING, _LEADING, _DONE = 0, 1, 2


class Place(Protocol[J_contra, R_co]):
    """Where one batch at a time is worked on: prepared, launched, waited for, and its results made.

    The next batch may be prepared once the one before was waited for, before that one's results are made.
    """

    def prepare(self, jobs: Sequence[J_contra]) -> None:
        """Make a batch ready; what takes long goes on in the background. Where it fails, nothing is prepared."""

    def launch(self) -> None:
        """Start the batch that was prepared, and wait for as little as possible."""

    def wait(self) -> None:
        """Wait until the batch that was launched is done."""

    def results(self) -> Sequence[R_co]:
        """The result of each job of that batch."""

    def abandon(self) -> None:
        """Wait for what was begun, if anything, and forget it. Raises nothing."""


class _Ticket(Generic[J, R]):
    """The jobs of one caller. Its fields are changed by who holds the batcher's lock."""

    __slots__ = ("_wake", "arrived", "error", "left", "place", "results", "state")

    def __init__(self, jobs: Sequence[J]) -> None:
        self.results: list[R | None] = [None] * len(jobs)
        self.left = len(jobs)
        self.error: BaseException | None = None
        self.state = _WAITING
        self.place: Any = None
        self.arrived = time.monotonic()
        self._wake = threading.Lock()  # the cheapest thing that one thread can wait for
        self._wake.acquire()

    def sleep(self) -> None:
        """Wait for :meth:`wake`; may also return without."""
        self._wake.acquire()

    def wake(self) -> None:
        """Let the ticket's thread look at its state."""
        if self._wake.locked():
            self._wake.release()


class Batcher(Generic[J, R]):
    """Runs jobs of many callers in batches.

    Args:
        places: where batches are worked on, each by one thread at a time.
        most: the most jobs of a batch.
        max_wait: seconds that a request waits for company at most, where several came together just before; one that
            comes alone does not wait.
        working: what a caller's thread is in while it works on batches.
    """

    def __init__(
        self,
        places: Sequence[Place[J, R]],
        most: int,
        max_wait: float = 0.001,
        working: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.most, self.max_wait, self._working = most, max_wait, working
        #: How many batches there were of each size.
        self.batches: dict[int, int] = {}
        self._free = list(places)
        self._count = len(places)
        self._queue: deque[_Entry[J, R]] = deque()
        self._sleeping: dict[_Ticket[J, R], None] = {}
        self._changed = threading.Condition(threading.Lock())
        self._gathering = 0  # callers that have a place and wait for company
        self._closed = False
        self._company, self._company_until = 0, 0.0

    def run(self, jobs: Sequence[J]) -> list[R]:
        """Work on jobs, in as few batches as they fit in, with those of other callers.

        Args:
            jobs: at least one.

        Returns:
            the result of each, in their order.

        Raises:
            BadInput: the batcher was closed.
            BaseException: what one of the jobs raised. A batch that fails is tried once more, request by request, so
                that an error is that of its own request.
        """
        with self._changed:
            if self._closed:
                raise BadInput("The model was closed.")
            if (place := self._place_alone(len(jobs))) is None:
                ticket = self._queued(jobs)
        if place is not None:
            return self._run_alone(place, jobs)
        try:
            while ticket.state != _DONE:
                if ticket.state == _LEADING:
                    with self._working():
                        self._lead(ticket)
                else:
                    ticket.sleep()
        except BaseException:
            self._withdraw(ticket)
            raise
        if ticket.error is not None:
            raise ticket.error
        return ticket.results  # type: ignore[return-value]

    def _place_alone(self, jobs: int) -> Any:
        """A place for a request that fits into one batch and meets nobody, or None. Holds the lock."""
        if jobs > self.most or not self._free or self._queue or self._gathering:
            return None
        if time.monotonic() < self._company_until:
            return None
        self.batches[jobs] = self.batches.get(jobs, 0) + 1
        return self._free.pop()

    def _run_alone(self, place: Any, jobs: Sequence[J]) -> list[R]:
        """A batch of one request, without what only a crowd needs: that takes longer than copying a small picture."""
        try:
            with self._working():
                try:
                    place.prepare(jobs)
                    place.launch()
                    place.wait()
                    return list(place.results())
                except BaseException:
                    place.abandon()
                    raise
        finally:
            with self._changed:
                self._release(place)

    def _queued(self, jobs: Sequence[J]) -> _Ticket[J, R]:
        """A ticket for jobs that now wait in line, with a place where one is free. Holds the lock."""
        ticket: _Ticket[J, R] = _Ticket(jobs)
        self._queue.extend((ticket, index, job) for index, job in enumerate(jobs))
        if self._free and not self._gathering:
            ticket.place, ticket.state = self._free.pop(), _LEADING
        else:
            self._sleeping[ticket] = None
            if self._gathering:
                self._changed.notify_all()
        return ticket

    def borrow(self) -> Any:
        """A place for oneself, as soon as one is free; :meth:`give_back` returns it."""
        with self._changed:
            while not self._free:
                self._changed.wait()
            return self._free.pop()

    def give_back(self, place: Place[J, R]) -> None:
        """Return what :meth:`borrow` gave."""
        with self._changed:
            self._release(place)

    def close(self) -> None:
        """Take no more jobs, and wait until those taken are done."""
        with self._changed:
            self._closed = True
            while self._queue or len(self._free) < self._count:
                self._changed.wait()

    def _lead(self, ticket: _Ticket[J, R]) -> None:
        """Work on batches until the ticket is done or its last jobs are in others' hands."""
        running: deque[tuple[Any, list[_Entry[J, R]]]] = deque()
        try:
            while ticket.place is not None or running:
                self._fill(ticket, running)
                if running:
                    self._advance(ticket, running)
        except BaseException:
            for place, batch in running:
                place.abandon()
                with self._changed:
                    self._put_back([one for one in batch if one[0] is not ticket])
            raise
        finally:
            self._leave(ticket, running)

    def _advance(self, ticket: _Ticket[J, R], running: "deque[tuple[Any, list[_Entry[J, R]]]]") -> None:
        """See the oldest batch to its end; while its results are made, its place prepares the next."""
        place, batch = running[0]
        following: list[_Entry[J, R]] = []
        try:
            place.wait()
            following = self._prepare_next(ticket, place)
            results = place.results()
        except Exception as error:
            place.abandon()
            with self._changed:
                self._put_back(following)
            following = []
            self._apart(place, batch, error)
        except BaseException:  # an interrupt: the other batches are seen to where all end
            with self._changed:
                self._put_back(following)
            raise
        else:
            for (owner, index, _), result in zip(batch, results, strict=True):
                owner.results[index] = result
            self._done(batch)
        running.popleft()
        if following:
            running.append((place, following))
            if self._launched(place, following):
                return
            running.pop()
        with self._changed:
            if self._mine(ticket):
                ticket.place = place
            else:
                self._release(place)

    def _prepare_next(self, ticket: _Ticket[J, R], place: Any) -> list["_Entry[J, R]"]:
        """The batch that a place goes on with, prepared; none where the ticket has no more jobs waiting."""
        with self._changed:
            following = self._take(wait=False) if self._mine(ticket) else []
        if following:
            try:
                place.prepare([job for _, _, job in following])
            except Exception:  # it is tried again, and fails, once the batch before it is through
                with self._changed:
                    self._put_back(following)
                return []
        return following

    def _fill(self, ticket: _Ticket[J, R], running: "deque[tuple[Any, list[_Entry[J, R]]]]") -> None:
        """Begin as many batches as there are places, so that the next is prepared while one runs."""
        while ticket.place is not None:
            with self._changed:
                batch = self._take(wait=not running)
                place, ticket.place = ticket.place, None
                if not batch:
                    self._release(place)
                    return
                running.append((place, batch))
            if not self._launched(place, batch, prepare=True):
                running.pop()
                with self._changed:
                    self._release(place)
            with self._changed:
                if self._free and self._mine(ticket):
                    ticket.place = self._free.pop()

    def _leave(self, ticket: _Ticket[J, R], running: "deque[tuple[Any, list[_Entry[J, R]]]]") -> None:
        """The ticket's thread works no more: its places are free, and it is done or waits."""
        with self._changed:
            places = list(dict.fromkeys(place for place, _ in running))
            if ticket.place is not None:
                places.append(ticket.place)
            ticket.place = None
            ticket.state = _WAITING if ticket.left > 0 else _DONE
            if ticket.left > 0:
                self._sleeping[ticket] = None
                if self._queue and self._free:
                    places.append(self._free.pop())
            for place in places:
                self._release(place)

    def _mine(self, ticket: _Ticket[J, R]) -> bool:
        """Whether jobs of the ticket still wait. Holds the lock."""
        return ticket.left > 0 and any(one[0] is ticket for one in self._queue)

    def _take(self, *, wait: bool) -> list["_Entry[J, R]"]:
        """The jobs of the next batch. Holds the lock, and gives it up while it waits for company."""
        if wait and self._queue and time.monotonic() < self._company_until:
            deadline = self._queue[0][0].arrived + self.max_wait
            self._gathering += 1
            try:
                while len(self._queue) < min(self.most, self._company) and (now := time.monotonic()) < deadline:
                    self._changed.wait(deadline - now)
            finally:
                self._gathering -= 1
        batch = [self._queue.popleft() for _ in range(min(self.most, len(self._queue)))]
        if batch:
            self.batches[len(batch)] = self.batches.get(len(batch), 0) + 1
        if self._queue and self._free and not self._gathering:  # more came than fits in
            self._release(self._free.pop())
        return batch

    def _launched(self, place: Any, batch: list["_Entry[J, R]"], *, prepare: bool = False) -> bool:
        """Start a batch; False where that failed, and its jobs were seen to one by one."""
        try:
            if prepare:
                place.prepare([job for _, _, job in batch])
            place.launch()
        except Exception as error:
            place.abandon()
            self._apart(place, batch, error)
            return False
        return True

    def _put_back(self, batch: list["_Entry[J, R]"]) -> None:
        """Jobs that were taken wait again, before all others. Holds the lock."""
        self._queue.extendleft(reversed(batch))

    def _apart(self, place: Any, batch: list["_Entry[J, R]"], error: Exception) -> None:
        """After a batch failed: each request by itself, so that only the one at fault fails."""
        tickets = list(dict.fromkeys(ticket for ticket, _, _ in batch))
        for ticket in tickets:
            own = [one for one in batch if one[0] is ticket]
            if len(tickets) == 1:
                ticket.error = error
            else:
                try:
                    place.prepare([job for _, _, job in own])
                    place.launch()
                    place.wait()
                    for (_, index, _), result in zip(own, place.results(), strict=True):
                        ticket.results[index] = result
                except Exception as raised:
                    place.abandon()
                    ticket.error = raised
            self._done(own)

    def _done(self, batch: list["_Entry[J, R]"]) -> None:
        """Count jobs as done, and wake whose last they were."""
        tickets = set()
        through = []
        with self._changed:
            for ticket, _, _ in batch:
                ticket.left -= 1
                tickets.add(ticket)
            for ticket in tickets:
                if ticket.error is not None and ticket.left > 0:  # what else it asked for is of no use now
                    self._drop(ticket)
                if ticket.left <= 0 and ticket in self._sleeping:
                    del self._sleeping[ticket]
                    ticket.state = _DONE
                    through.append(ticket)
            if len(tickets) > 1:
                self._company, self._company_until = len(batch), time.monotonic() + _COMPANY
        for ticket in through:  # without the lock: they are soon back, and want it
            ticket.wake()

    def _drop(self, ticket: _Ticket[J, R]) -> None:
        """Take what was not begun of a ticket's jobs from the queue. Holds the lock."""
        before = len(self._queue)
        self._queue = deque(one for one in self._queue if one[0] is not ticket)
        ticket.left -= before - len(self._queue)

    def _release(self, place: Any) -> None:
        """A place is free: where jobs wait, the caller that waits longest goes on. Holds the lock."""
        if self._queue and self._sleeping:
            first = self._queue[0][0]
            ticket = first if first in self._sleeping else next(iter(self._sleeping))
            del self._sleeping[ticket]
            ticket.place, ticket.state = place, _LEADING
            ticket.wake()
            return
        self._free.append(place)
        self._changed.notify_all()

    def _withdraw(self, ticket: _Ticket[J, R]) -> None:
        """A caller leaves before its jobs are done: what was not begun is not done, and others go on."""
        with self._changed:
            self._sleeping.pop(ticket, None)
            self._drop(ticket)
            place, ticket.place = ticket.place, None
            if place is not None:  # it was told to go on, and left
                self._release(place)
            self._changed.notify_all()


_Entry = tuple[_Ticket[J, R], int, J]
