"""A KV cache in streams: every sequence has cells of its own, so that attention walks over no one else's.

llama.cpp computes the sequences of a step in one pass over the weights only where their ids follow one another; every
gap costs one more pass. So an id is where a sequence lies, and sequences move to where they close gaps. Nothing is
shared: what requests have in common is copied from one stream to another. (``llama_memory_seq_cp`` of a part of a
sequence would end the process here.)
"""

from array import array
from collections.abc import Hashable, Iterable
from collections.abc import Sequence as Many
from typing import Any

from llama_pajamas_run_gguf import _quick
from llama_pajamas_run_gguf.engine.cache import SequenceCache, Slot
from llama_pajamas_run_gguf.engine.copying import Copying
from llama_pajamas_run_gguf.engine.shelf import Shelf
from llama_pajamas_run_gguf.engine.states import State, read_state, write_state


class StreamCache(SequenceCache):
    """The sequences of a context with a stream for each.

    Args:
        context: of llama.cpp.
        copying: what is worth copying.
        cells: how many tokens it holds, over all streams; each has to hold the longest request.
        sequences: how many streams there are.
        gap: how many tokens' keys and values are copied in the time of one more pass over the weights.
        shelf: where sequences go that are overwritten, or None.
    """

    #: Prompts of different lengths that are read together take one more pass over the weights for every length, and a
    #: pass takes as long as computing several tokens: skipping fewer would save less than it costs.
    min_shared = 16

    def __init__(
        self, context: Any, copying: Copying, *, cells: int, sequences: int, gap: int, shelf: Shelf | None = None
    ) -> None:
        super().__init__(context, cells=cells, sequences=sequences, rewinds=True, window=0, shelf=shelf)
        self._copying = copying
        self._gap = gap
        self._lost = 0  # what gaps have cost since there were none, in tokens that could have been copied

    def admits(self, count: int, running: int) -> bool:
        """Whether there is room for one more request: a stream holds any."""
        return running < len(self.slots)

    def settle(self) -> None:
        """Idle sequences are in nobody's way."""

    def compact(self, slots: Many[Slot]) -> None:
        """Have the sequences of the next step lie side by side, once their gaps have cost as much as moving them.

        Until then somebody may come who fills the gap.
        """
        first, tokens = self._place({slot.id for slot in slots})
        if not tokens:
            self._lost = 0
        elif self._lost < tokens:
            self._lost += self._gap
        else:
            self._lost = 0
            self._gather(slots, range(first, first + len(slots)))

    def read(self, slot: Slot) -> State | None:
        """A sequence's keys and values, for a context of one sequence; None where llama.cpp cannot copy them."""
        return read_state(self._context, slot.id, streams=1)

    def _place(self, ids: set[int]) -> tuple[int, int]:
        """Where the sequences of a step come together soonest: the first id, and how many tokens have to be copied."""
        if max(ids) - min(ids) < len(ids):
            return min(ids), 0
        at = {slot.id: slot for slot in self.slots}

        def cost(first: int) -> int:
            window = range(first, first + len(ids))
            moving = sum(len(at[number].tokens) for number in ids if number not in window)
            return moving + sum(self._weight(at[number]) for number in window if number not in ids)

        first = min(range(len(self.slots) - len(ids) + 1), key=cost)
        return first, max(cost(first), 1)

    def _weight(self, slot: Slot) -> int:
        """Tokens to be copied before another sequence can lie where this one does."""
        return 0 if slot.copied and not slot.busy else len(slot.tokens)

    def _gather(self, slots: Many[Slot], window: range) -> None:
        inside = {slot.id for slot in slots if slot.id in window}
        at = {slot.id: slot for slot in self.slots}
        holes = (at[number] for number in window if number not in inside)
        for slot, hole in zip([slot for slot in slots if slot.id not in window], holes, strict=True):
            self._exchange(slot, hole)

    def _exchange(self, slot: Slot, other: Slot) -> None:
        """Move a sequence of the next step to where another one lies, which takes its place if a request is using it.

        Where llama.cpp refuses the copy, the first one stays where it is.
        """
        if not other.busy:
            self._put_away(other)
        mine, theirs = self._state(slot), self._state(other)
        if (mine is None and slot.tokens) or (theirs is None and other.tokens):
            return
        self._drop(other.id)
        if mine is None or write_state(self._context, other.id, mine):
            self._drop(slot.id)
            slot.id, other.id = other.id, slot.id
        if theirs is not None and not write_state(self._context, other.id, theirs):
            self.clear(other)  # it is computed once more

    def _state(self, slot: Slot) -> State | None:
        return read_state(self._context, slot.id) if slot.tokens else None

    def _drop(self, number: int) -> None:
        _quick.memory_seq_rm(self._memory, number, -1, -1)

    def _idle(self, source: Slot | None) -> Slot | None:
        """The sequence to overwrite: the source, or what leaves the fewest gaps, is empty, was unused the longest."""
        if source is not None and not source.busy:
            return source
        used = {slot.id for slot in self.slots if slot.busy}
        idle = [slot for slot in self.slots if not slot.busy]
        order = {slot: (_runs({*used, slot.id}), bool(slot.tokens), slot.used) for slot in idle}
        return min(idle, key=order.__getitem__, default=None)

    def _longest(self, tokens: "array[int]", key: Hashable) -> tuple[Slot | None, int]:
        """The sequence that shares the longest beginning, and how long it is, where it is worth what it costs.

        What is busy has to be copied as a whole. What is idle gives way to the request, and its rest goes to the shelf.
        """
        source, shared = super()._longest(tokens, key)
        if source is None:
            return None, 0
        length, shortest = len(source.tokens), self._copying.shortest
        if source.busy:
            worth = shared >= max(shortest, length // self._copying.per_computed)
        else:
            worth = shared >= shortest or length - shared < shortest
        return (source, shared) if worth else (None, 0)

    def _fork(self, source: Slot, target: Slot, length: int) -> None:
        """Have an empty sequence begin like another, whose keys and values are copied."""
        state = read_state(self._context, source.id)
        if state is None or not self.reserve(len(source.tokens)):
            return
        if not write_state(self._context, target.id, state):
            self.clear(target)
            return
        self.extend(target, source.tokens)
        target.spans.extend(source.spans)
        self.truncate(target, length)


def _runs(ids: Iterable[int]) -> int:
    """How many runs of consecutive numbers there are."""
    known = set(ids)
    return sum(number - 1 not in known for number in known)
