"""Requests worked on together: order, company, errors and callers that leave, on real threads."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from llama_pajamas_run_core.errors import BadInput, InferenceError
from llama_pajamas_run_tensorrt.batcher import Batcher


class Desk:
    """Doubles numbers; a batch takes ``pace`` seconds from its launch on. A job "bad" fails its batch."""

    def __init__(self, pace: float = 0.0, most: int = 8) -> None:
        self.pace, self.most = pace, most
        self.batches: list[list] = []
        self.abandoned = 0
        self.gate: threading.Event | None = None
        self._next: list | None = None
        self._jobs: list | None = None
        self._done: list | None = None
        self._until = 0.0

    def prepare(self, jobs: Sequence) -> None:
        assert self._next is None, "two batches are prepared at one place"
        assert self._jobs is None, "a batch is prepared while another runs there"
        assert 1 <= len(jobs) <= self.most
        if "bad start" in jobs:
            raise InferenceError("bad start")
        self._next = list(jobs)

    def launch(self) -> None:
        assert self._next is not None
        assert self._done is None, "the results before are lost"
        self._jobs, self._next = self._next, None
        self.batches.append(self._jobs)
        self._until = time.monotonic() + self.pace

    def wait(self) -> None:
        assert self._jobs is not None
        if self.gate is not None:
            assert self.gate.wait(10)
        time.sleep(max(0.0, self._until - time.monotonic()))
        if "interrupt" in self._jobs:
            self._jobs.remove("interrupt")
            raise KeyboardInterrupt
        if "bad" in self._jobs:
            raise InferenceError("bad job")
        self._done, self._jobs = self._jobs, None

    def results(self) -> list:
        assert self._done is not None
        done, self._done = self._done, None
        if "late interrupt" in done:
            raise KeyboardInterrupt
        if "bad result" in done:
            raise InferenceError("bad result")
        return [2 * job for job in done]

    def abandon(self) -> None:
        self.abandoned += 1
        self._next = self._jobs = self._done = None


def spin_until(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this took too long"
        time.sleep(0.0005)


def test_one_alone_runs_on_its_own_thread_and_waits_for_nobody():
    seen = []

    class Here(Desk):
        def launch(self):
            seen.append(threading.current_thread())
            super().launch()

    batcher = Batcher([Here()], 8, max_wait=5.0)
    start = time.monotonic()
    assert batcher.run([1]) == [2]
    assert batcher.run([3, 4]) == [6, 8]
    assert time.monotonic() - start < 1.0
    assert seen == [threading.current_thread()] * 2
    assert batcher.batches == {1: 1, 2: 1}


@pytest.mark.parametrize("where", ["prepare", "launch", "wait", "results"])
def test_an_error_of_one_alone_leaves_its_place_free(where):
    desk = Desk()

    def fail(*jobs):
        raise InferenceError("no")

    setattr(desk, where, fail)
    batcher = Batcher([desk], 8)
    with pytest.raises(InferenceError, match="no"):
        batcher.run([1])
    delattr(desk, where)
    assert desk.abandoned == 1
    assert batcher.run([2, 3]) == [4, 6]


@pytest.mark.parametrize("places", [1, 2, 3])
def test_many_jobs_are_cut_into_batches_and_come_back_in_order(places):
    desks = [Desk(most=8) for _ in range(places)]
    batcher = Batcher(desks, 8)
    assert batcher.run(list(range(50))) == [2 * i for i in range(50)]
    sizes = [len(batch) for desk in desks for batch in desk.batches]
    assert sorted(sizes) == [2, 8, 8, 8, 8, 8, 8]


def test_the_next_batch_is_begun_before_the_one_before_is_waited_for():
    events = []

    class Told(Desk):
        def prepare(self, jobs):
            events.append(("prepare", jobs[0]))
            super().prepare(jobs)

        def launch(self):
            events.append(("launch", self._next[0]))
            super().launch()

        def results(self):
            events.append(("results", self._done[0]))
            return super().results()

    Batcher([Told(most=1), Told(most=1)], 1).run([0, 1, 2, 3])
    assert events == [
        ("prepare", 0), ("launch", 0), ("prepare", 1), ("launch", 1),
        ("prepare", 2), ("results", 0), ("launch", 2), ("prepare", 3), ("results", 1), ("launch", 3),
        ("results", 2), ("results", 3),
    ]  # fmt: skip


@pytest.mark.parametrize("fault", ["bad", "bad start", "bad result"])
@pytest.mark.parametrize("where", [0, 3, 7])
def test_a_fault_in_the_middle_of_many_batches_ends_its_request_alone(fault, where):
    desks = [Desk(most=2), Desk(most=2)]
    batcher = Batcher(desks, 2)
    jobs = list(range(8))
    jobs[where] = fault
    with ThreadPoolExecutor(4) as pool:
        faulty = pool.submit(batcher.run, jobs)
        others = [pool.submit(batcher.run, [10 * i + j for j in range(5)]) for i in range(3)]
        with pytest.raises(InferenceError, match=fault):
            faulty.result(10)
        assert [one.result(10) for one in others] == [[20 * i + 2 * j for j in range(5)] for i in range(3)]
    batcher.close()
    assert len(batcher._free) == 2


def test_what_waits_goes_into_one_batch():
    desk = Desk()
    desk.gate = threading.Event()
    batcher = Batcher([desk], 8)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher.run, [0])
        spin_until(lambda: desk.batches)
        rest = [pool.submit(batcher.run, [i, 10 * i]) for i in range(1, 5)]
        spin_until(lambda: len(batcher._queue) == 8)
        desk.gate.set()
        assert first.result(10) == [0]
        assert [one.result(10) for one in rest] == [[2 * i, 20 * i] for i in range(1, 5)]
    assert batcher.batches == {1: 1, 8: 1}
    assert sorted(desk.batches[1]) == [1, 2, 3, 4, 10, 20, 30, 40]


def test_company_is_waited_for_only_where_it_was_there_just_before():
    desk = Desk()
    batcher = Batcher([desk], 8, max_wait=0.2)
    desk.gate = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(batcher.run, [0])]
        spin_until(lambda: desk.batches)
        waiting += [pool.submit(batcher.run, [i]) for i in (1, 2)]
        spin_until(lambda: len(batcher._queue) == 2)
        desk.gate.set()
        for one in waiting:
            one.result(10)
        # Two came together just now: the first of the next two waits for the other.
        start = time.monotonic()
        one = pool.submit(batcher.run, [5])
        spin_until(lambda: batcher._gathering or one.done())
        other = pool.submit(batcher.run, [6])
        assert (one.result(10), other.result(10)) == ([10], [12])
        assert time.monotonic() - start < 0.19  # the batch was full enough before the time was up
    assert batcher.batches == {1: 1, 2: 2}
    time.sleep(0.05)
    start = time.monotonic()
    batcher.run([7])
    assert time.monotonic() - start < 0.1


def test_the_wait_for_company_is_bounded():
    desk = Desk()
    batcher = Batcher([desk], 8, max_wait=0.05)
    batcher._company, batcher._company_until = 5, time.monotonic() + 10
    start = time.monotonic()
    assert batcher.run([1]) == [2]
    assert 0.04 < time.monotonic() - start < 2.0


def test_an_error_is_that_of_its_own_request():
    desk = Desk()
    desk.gate = threading.Event()
    batcher = Batcher([desk], 8)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher.run, [0])
        spin_until(lambda: desk.batches)
        good = pool.submit(batcher.run, [1, 2])
        bad = pool.submit(batcher.run, ["bad"])
        worse = pool.submit(batcher.run, ["bad start"])
        other = pool.submit(batcher.run, [3])
        spin_until(lambda: len(batcher._queue) == 5)
        desk.gate.set()
        assert (first.result(10), good.result(10), other.result(10)) == ([0], [2, 4], [6])
        with pytest.raises(InferenceError, match="bad job"):
            bad.result(10)
        with pytest.raises(InferenceError, match="bad start"):
            worse.result(10)
    assert batcher.run([4]) == [8]
    batcher.close()


def test_after_an_error_the_rest_of_a_request_is_left_alone():
    desk = Desk(most=2)
    batcher = Batcher([desk], 2)
    with pytest.raises(InferenceError):
        batcher.run([1, 2, "bad", 3, 4, 5, 6])
    assert desk.batches == [[1, 2], ["bad", 3]]
    assert batcher.run([9]) == [18]


@pytest.fixture
def interrupted():
    """Runs jobs on a thread of its own, where a KeyboardInterrupt is expected."""
    threads, raised = [], []

    def start(batcher, jobs):
        def work():
            try:
                batcher.run(jobs)
            except KeyboardInterrupt as error:
                raised.append(error)

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(10)
    assert len(raised) == len(threads)


def test_a_caller_that_is_interrupted_leaves_the_others_their_answers(interrupted):
    desk = Desk()
    desk.gate = threading.Event()
    batcher = Batcher([desk], 8)
    with ThreadPoolExecutor(4) as pool:
        interrupted(batcher, ["interrupt"])
        spin_until(lambda: desk.batches)
        others = [pool.submit(batcher.run, [i]) for i in (1, 2, 3)]
        spin_until(lambda: len(batcher._queue) == 3)
        desk.gate.set()
        assert [one.result(10) for one in others] == [[2], [4], [6]]
    assert desk.abandoned == 1
    batcher.close()


def test_jobs_of_others_in_an_interrupted_batch_are_done_by_another(interrupted):
    desk = Desk()
    desk.gate = threading.Event()
    batcher = Batcher([desk], 8)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.run, [0])
        spin_until(lambda: desk.batches)
        interrupted(batcher, ["interrupt"])
        spin_until(lambda: len(batcher._queue) == 1)
        others = [pool.submit(batcher.run, [i]) for i in (1, 2)]
        spin_until(lambda: len(batcher._queue) == 3)
        desk.gate.set()
        assert [one.result(10) for one in (first, *others)] == [[0], [2], [4]]
    assert desk.batches == [[0], [1, 2], [1, 2]]
    batcher.close()


def test_jobs_of_others_that_were_prepared_next_are_done_by_another(interrupted):
    """The leader prepares a batch with its own last job and another's, and is interrupted before that one begins."""
    desk = Desk(most=2)
    desk.gate = threading.Event()
    batcher = Batcher([desk], 2)
    with ThreadPoolExecutor(1) as pool:
        interrupted(batcher, [1, "late interrupt", 2])
        spin_until(lambda: desk.batches)
        other = pool.submit(batcher.run, [3])
        spin_until(lambda: len(batcher._queue) == 2)
        desk.gate.set()
        assert other.result(10) == [6]
    assert desk.batches == [[1, "late interrupt"], [3]]
    batcher.close()


def test_closing_waits_for_what_was_taken():
    desk = Desk(pace=0.05)
    batcher = Batcher([desk], 1)
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(batcher.run, [i]) for i in range(3)]
        spin_until(lambda: desk.batches and len(batcher._queue) == 2)
        batcher.close()
        assert all(one.done() or one.result(10) for one in running)
    assert sorted(one.result()[0] for one in running) == [0, 2, 4]
    with pytest.raises(BadInput, match="closed"):
        batcher.run([1])


def test_a_place_can_be_borrowed_between_requests():
    desk = Desk()
    batcher = Batcher([desk], 8)
    place = batcher.borrow()
    assert place is desk
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(batcher.run, [1])
        spin_until(lambda: len(batcher._queue) == 1)
        batcher.give_back(place)
        assert waiting.result(10) == [2]


@pytest.mark.parametrize("places", [1, 2])
def test_a_crowd(places):
    desks = [Desk(most=16) for _ in range(places)]
    batcher = Batcher(desks, 16, max_wait=0.0005)

    def caller(number):
        for turn in range(60):
            value = number * 1000 + turn
            if (number + turn) % 17 == 0:
                with pytest.raises(InferenceError):
                    batcher.run(["bad"])
            elif turn % 10 == 0:
                assert batcher.run([value + i for i in range(40)]) == [2 * (value + i) for i in range(40)]
            else:
                assert batcher.run([value]) == [2 * value]
        return True

    with ThreadPoolExecutor(12) as pool:
        assert all(one for one in pool.map(caller, range(12), timeout=50))
    batcher.close()
    assert len(batcher._free) == places
    assert not batcher._sleeping
