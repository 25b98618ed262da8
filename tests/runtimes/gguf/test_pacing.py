"""How much prompt is read in a step, on a machine whose steps take what the test says."""

from dataclasses import dataclass

import pytest

pytest.importorskip("llama_cpp")

from llama_pajamas_run_gguf.engine.pacing import Pacer


@dataclass(eq=False)
class Reader:
    arrival: int
    readable: int
    unread: int
    priority: int = 0

    @property
    def order(self) -> tuple[int, int]:
        return (-self.priority, self.arrival)


class Machine:
    """Steps cost 10 ms, half a millisecond for each answer and one for each token of a prompt."""

    def __init__(self) -> None:
        self.pacer = Pacer(512)
        self.clock = 0.0
        self._learn(answering=0, reading=256)
        for _ in range(5):
            self._learn(answering=4, reading=0)

    @staticmethod
    def cost(answering: int, reading: int) -> float:
        return 0.010 + 0.0005 * answering + 0.001 * reading

    def _learn(self, answering: int, reading: int) -> float:
        seconds = self.cost(answering, reading)
        self.clock += seconds
        self.pacer.learn(seconds, self.clock, answering=answering, reading=reading)
        return seconds

    def step(self, answering: int, reading: list[Reader]) -> float:
        shares = self.pacer.shares(answering, reading)
        for reader, count in shares:
            reader.readable -= count
        reading[:] = [reader for reader in reading if reader.readable]
        return self._learn(answering, sum(count for _, count in shares))


def test_without_answers_prompts_fill_the_batch() -> None:
    readers = [Reader(0, 4000, 4000), Reader(1, 64, 64)]
    assert sum(count for _, count in Machine().pacer.shares(0, readers)) == 512


def test_short_prompts_are_read_at_once() -> None:
    machine = Machine()
    readers = [Reader(number, 60, 60) for number in range(7)]
    machine.step(4, readers)
    assert readers == []


def test_a_long_prompt_leaves_answers_more_than_half_their_pace() -> None:
    machine = Machine()
    usual = machine.cost(4, 0)
    readers = [Reader(0, 4000, 4000)]
    steps = []
    while readers:
        steps.append(machine.step(4, readers))
    assert max(steps) < 2 * usual
    assert sum(steps) < 4 * 4.0  # reading it alone takes four seconds


def test_steps_that_become_dearer_are_noticed() -> None:
    machine = Machine()
    usual, readers, steps = machine.cost(4, 0), [Reader(0, 20000, 20000)], []
    for number in range(600):
        machine.cost = lambda answering, reading, n=number: 0.012 + 0.001 * (1 + n / 200) * reading  # type: ignore[misc]
        steps.append(machine.step(4, readers))
    assert max(steps[20:]) < 2 * usual


def test_pauses_for_short_prompts_stay_rare() -> None:
    machine = Machine()
    paused, start = 0.0, machine.clock
    for number in range(2000):  # a newcomer at every step
        seconds = machine.step(4, [Reader(number, 300, 300)])
        paused += seconds if seconds > 0.2 else 0.0
    assert paused < 0.6 * (machine.clock - start)  # half of the time, and what these steps take anyway


def test_a_long_prompt_is_not_starved_by_short_ones() -> None:
    machine = Machine()
    long = Reader(0, 2000, 2000)
    readers = [long]
    for number in range(1, 1500):
        if number % 4 == 0:
            readers.append(Reader(number, 100, 100))
        machine.step(4, readers)
        if long not in readers:
            return
    pytest.fail("the long prompt was never read")
