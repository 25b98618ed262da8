"""An OwnerThread runs everything for one model on one thread."""

import threading
import time
from collections.abc import Iterator

import pytest

from llama_pajamas_run_core.backends.owner import OwnerThread
from llama_pajamas_run_core.errors import BadInput


@pytest.fixture
def owner() -> Iterator[OwnerThread]:
    thread = OwnerThread("test-owner")
    yield thread
    thread.stop()


def test_everything_runs_on_one_thread(owner: OwnerThread) -> None:
    here = {owner.run(threading.get_ident) for _ in range(5)}
    here |= set(owner.stream(lambda: iter([threading.get_ident()])))

    def generator() -> Iterator[int]:
        yield threading.get_ident()
        yield threading.get_ident()

    here |= {owner.run(threading.get_ident), *owner.stream(generator)}
    assert len(here - {threading.get_ident()}) == 1


def test_errors_come_back_and_the_thread_goes_on(owner: OwnerThread) -> None:
    with pytest.raises(ZeroDivisionError):
        owner.run(lambda: 1 // 0)

    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    with pytest.raises(KeyError):
        list(owner.stream(broken))
    assert owner.run(lambda: 7) == 7


def test_a_stream_that_is_left_is_closed_on_its_thread(owner: OwnerThread) -> None:
    closed_on: list[int] = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed_on.append(threading.get_ident())

    for _ in owner.stream(endless):
        break
    assert owner.run(threading.get_ident) == closed_on[0]


def test_a_stream_does_not_run_far_ahead_of_its_reader(owner: OwnerThread) -> None:
    made = 0

    def counting() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    stream = owner.stream(counting)
    next(stream)
    time.sleep(0.1)
    assert made < 40
    stream.close()  # type: ignore[attr-defined]


def test_it_may_be_called_from_itself(owner: OwnerThread) -> None:
    assert owner.run(lambda: owner.run(lambda: 3)) == 3
    assert owner.run(lambda: list(owner.stream(lambda: iter([1, 2])))) == [1, 2]


def test_stopping_twice_is_harmless_and_then_work_is_refused(owner: OwnerThread) -> None:
    owner.stop()
    owner.stop()
    with pytest.raises(BadInput, match="closed"):
        owner.run(lambda: 1)


def test_work_that_comes_with_the_end_is_done_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function queued behind the end would leave its caller waiting for ever."""
    owner = OwnerThread("test-owner")
    put = owner._jobs.put
    stopper = threading.Thread(target=owner.stop)

    class Slow:
        get = owner._jobs.get

        def put(self, job: object) -> None:
            if job is not None:  # the end comes while a function is on its way into the queue
                stopper.start()
                stopper.join(0.2)
            put(job)  # type: ignore[arg-type]

    monkeypatch.setattr(owner, "_jobs", Slow())
    assert owner.submit(lambda: 7).result(timeout=5) == 7
    stopper.join(5)
    with pytest.raises(BadInput, match="closed"):
        owner.submit(lambda: 8)
