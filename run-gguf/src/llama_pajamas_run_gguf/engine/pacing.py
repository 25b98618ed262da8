"""How much prompt to read in a step, so that answers being written keep flowing."""

from collections.abc import Sequence as Many

from llama_pajamas_run_gguf.engine.adapters import Adapter
from llama_pajamas_run_gguf.engine.sequence import Sequence

#: By how much of its time a step may be prolonged for each sequence that reads a long prompt: one then leaves the
#: others' answers well over half their pace, while a crowd of readers is not kept waiting for a few answers.
_PROLONGATION = 0.6
#: Prompts with no more tokens to read than this when their turn came are read at once, where there is credit for the
#: pause that it makes.
SHORT = 512
#: The longest pause of running answers for short prompts, in seconds and in steps; the longer of the two.
_PAUSE_SECONDS, _PAUSE_STEPS = 2.0, 6.0
#: Seconds of such pauses that are earned in a second.
_EARNED = 0.5
_SMALLEST_CHUNK = 2
#: Before anything is known about the machine.
_FIRST_CHUNK = 16
#: Steps for one adapter before those of another; every change has llama.cpp plan its computation anew.
_TURN = 8
_SMOOTHING = 0.2
#: So many readers at most add to a step.
_READERS = 4
#: Seconds below which being called costs more than what can be computed meanwhile.
_SHORTEST_PAUSE = 0.001
#: Seconds after which somebody who computes while nobody answers looks whether somebody came.
_LOOK_UP = 0.02


class Pacer:
    """Learns what steps cost on this machine and limits the prompt tokens of a step accordingly.

    Short prompts are read as a whole, as long as the running answers' pauses for that stay rare: in one piece they cost
    least, and whoever has just come sees a first word soonest. Long ones are read in chunks whose size is controlled by
    what steps really take.

    Args:
        batch: the most tokens of one decode call.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._steps: dict[int, float] = {}  # seconds of a step without prompts, by how many are answering
        self._per_token: float | None = None  # seconds for a token of a prompt that is read in one piece
        self._chunk: float | None = None
        self._credit: float | None = None  # seconds; None for as much as there can be
        self._clock = 0.0
        self._at_once_tokens = 0  # of the last step that was planned
        self._readers = 1  # of long prompts, in the last step that was planned

    def reading_time(self, tokens: int) -> float:
        """Seconds that reading so many tokens of prompts takes; 0 as long as nothing is known."""
        return tokens * (self._per_token or 0.0)

    def pause(self, answering: int, readers: int) -> float:
        """Seconds that something else may compute between two steps.

        Args:
            answering: how many sequences are writing an answer meanwhile.
            readers: how many wait for a long prompt to be read.
        """
        usual = self._usual(answering)
        if not answering or usual is None:
            return _LOOK_UP
        return max(usual * _PROLONGATION * min(max(readers, 1), _READERS), _SHORTEST_PAUSE)

    def shares(self, answering: int, reading: Many[Sequence]) -> list[tuple[Sequence, int]]:
        """Whose prompts the next step reads, and how many tokens of each.

        Args:
            answering: how many sequences are writing an answer in it.
            reading: those that are reading their prompt.
        """
        room = self._batch - answering
        if not answering or not reading:
            return share(room, reading)
        whole = self._at_once(room, answering, reading)
        if whole:
            return whole  # the others' turn comes when this pause is over
        return share(min(room, self._paced(answering, len(reading))), reading)

    def learn(self, seconds: float, now: float, *, answering: int, reading: int) -> None:
        """Take note of how long a step took.

        Args:
            seconds: of the step.
            now: when it ended, on a clock in seconds.
            answering: how many sequences wrote an answer in it.
            reading: how many tokens of prompts it read.
        """
        if self._credit is not None:
            self._credit += _EARNED * (now - self._clock)
        self._clock = now
        if not answering:
            if reading >= _FIRST_CHUNK:
                self._per_token = _smooth(self._per_token, seconds / reading)
            return
        if not reading:
            self._steps[answering] = _smooth(self._steps.get(answering), seconds)
            return
        usual = self._usual(answering)
        if usual is None:
            return
        if self._at_once_tokens == reading:
            self._credit = self._spendable(usual) - (seconds - usual)
            self._per_token = _smooth(self._per_token, max(seconds - usual, 0.1 * seconds) / reading)
        elif self._chunk is not None:
            self._adjust(seconds / usual, reading)

    def _at_once(self, room: int, answering: int, reading: Many[Sequence]) -> list[tuple[Sequence, int]]:
        """The short prompts, the first in line first, as far as there is credit for the pause that they make."""
        self._at_once_tokens = 0
        credit = self._spendable(self._usual(answering) or 0.0)
        cost = self._per_token or 0.0
        chosen: list[tuple[Sequence, int]] = []
        for sequence in sorted(reading, key=lambda sequence: sequence.order):
            count = sequence.readable
            total = self._at_once_tokens + count
            if count and sequence.unread <= SHORT and total <= room and total * cost <= credit:
                chosen.append((sequence, count))
                self._at_once_tokens = total
        return chosen

    def _spendable(self, usual: float) -> float:
        """Seconds that the next pause may take, given a step's usual ones."""
        most = max(_PAUSE_SECONDS, _PAUSE_STEPS * usual)
        return most if self._credit is None else min(self._credit, most)

    def _paced(self, answering: int, readers: int) -> int:
        """Tokens of long prompts that keep a step within what it may take."""
        self._readers = min(max(readers, 1), _READERS)
        usual = self._usual(answering)
        if usual is None or self._per_token is None:
            return _FIRST_CHUNK
        if self._chunk is None:
            self._chunk = usual * _PROLONGATION * self._readers / max(self._per_token, 1e-9)
        self._chunk = min(max(self._chunk, _SMALLEST_CHUNK), self._batch)
        return int(self._chunk)

    def _adjust(self, stretch: float, reading: int) -> None:
        """Bring chunks nearer to the size that stretches a step as much as it may."""
        assert self._chunk is not None
        target = 1 + _PROLONGATION * self._readers
        if stretch > target:
            self._chunk *= max(0.5, target / stretch)
        elif reading >= int(self._chunk):
            self._chunk += max(0.5, 0.05 * self._chunk)

    def _usual(self, answering: int) -> float | None:
        """Seconds of a step without prompts; of the nearest number of answers where that number was never seen."""
        if not self._steps:
            return None
        return self._steps[min(self._steps, key=lambda known: abs(known - answering))]


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
