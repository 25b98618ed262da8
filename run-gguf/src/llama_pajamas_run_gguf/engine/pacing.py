"""How much prompt to read in a step, so that answers being written keep flowing."""

from collections.abc import Sequence as Many

from llama_pajamas_run_gguf.engine.adapters import Adapter
from llama_pajamas_run_gguf.engine.sequence import Sequence

#: By how much of its time a step may be prolonged for each sequence that reads its prompt: one long prompt then leaves
#: the others' answers half their pace at the least, while a crowd of newcomers is not kept waiting for a few answers.
_PROLONGATION = 0.8
_SMALLEST_CHUNK = 4
#: Before anything is known about the machine.
_FIRST_CHUNK = 16
#: Steps for one adapter before those of another; every change has llama.cpp plan its computation anew.
_TURN = 8
_SMOOTHING = 0.2


class Pacer:
    """Learns what tokens cost on this machine and limits the prompt tokens of a step accordingly.

    Args:
        batch: the most tokens of one decode call.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._step: float | None = None
        self._per_token: float | None = None

    def budget(self, answering: int, reading: int) -> int:
        """The most prompt tokens for the next step.

        Args:
            answering: how many sequences are writing an answer in it.
            reading: how many are reading their prompt.
        """
        room = self._batch - answering
        if not answering:
            return room
        if self._step is None or self._per_token is None:
            return min(room, _FIRST_CHUNK * reading)
        allowed = int(self._step * _PROLONGATION * reading / max(self._per_token, 1e-9))
        return min(room, max(allowed, _SMALLEST_CHUNK))

    def learn(self, seconds: float, *, answering: int, reading: int) -> None:
        """Take note of how long a step took."""
        if reading == 0 and answering:
            self._step = _smooth(self._step, seconds)
        elif reading >= _SMALLEST_CHUNK:
            rest = seconds - (self._step or 0.0) if answering else seconds
            self._per_token = _smooth(self._per_token, max(rest, 0.1 * seconds) / reading)


class Turn:
    """Whose adapter the next steps use; each gets its turn."""

    def __init__(self) -> None:
        self._current: Adapter | None = None
        self._steps = 0

    def choose(self, wanted: Many[Adapter | None]) -> Adapter | None:
        """The adapter for the next step.

        Args:
            wanted: those of the running sequences, the one that waits longest first; at least one.
        """
        if self._current in wanted and (self._steps < _TURN or len(set(wanted)) == 1):
            self._steps += 1
            return self._current
        others = [adapter for adapter in wanted if adapter is not self._current]
        self._current, self._steps = (others or list(wanted))[0], 1
        return self._current


def share(budget: int, reading: Many[Sequence]) -> list[tuple[Sequence, int]]:
    """Divide a step's prompt tokens among the sequences that read their prompts.

    The first in line gets half, so that no long prompt starves; the rest goes to the shortest remainders, so that short
    prompts need not wait for long ones.
    """
    if not reading:
        return []
    first = min(reading, key=lambda sequence: sequence.order)
    others = sorted((s for s in reading if s is not first), key=lambda s: (-s.priority, s.readable, s.arrival))
    parts = {first: min(first.readable, max(budget // 2, 1) if others else budget)}
    left = budget - parts[first]
    for sequence in others:
        if left <= 0:
            break
        parts[sequence] = min(sequence.readable, left)
        left -= parts[sequence]
    if left > 0:
        parts[first] += min(first.readable - parts[first], left)
    return [(sequence, count) for sequence, count in parts.items() if count > 0]


def _smooth(old: float | None, new: float) -> float:
    return new if old is None else old + _SMOOTHING * (new - old)
