"""Sequences in the KV cache: those being decoded, and finished ones kept for the prefixes they may share."""

import itertools
from array import array
from collections.abc import Hashable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Any

import llama_cpp
import numpy as np

from llama_pajamas_run_gguf import _quick
from llama_pajamas_run_gguf.engine.cells import CellLedger
from llama_pajamas_run_gguf.engine.prefixes import common_length
from llama_pajamas_run_gguf.engine.shelf import Shelf, Shelved
from llama_pajamas_run_gguf.engine.spans import Span
from llama_pajamas_run_gguf.engine.states import State, read_state, write_state

#: Cells that each running answer should find free when somebody joins, or the newcomer would be put back at once.
_MARGIN = 16


@dataclass(slots=True, eq=False)
class Slot:
    """A sequence in the cache.

    Attributes:
        id: llama.cpp's sequence id; in streams it is where the sequence lies, and may change between steps.
        key: sequences share only with those of the same key (the LoRA adapter that made their keys and values).
        tokens: what the cache holds, in order.
        cells: the ledger's numbers for them.
        spans: pictures and sounds among the tokens.
        busy: whether a request is using it.
        copied: whether it was offered to the shelf since it was used.
        used: when it was used last, for eviction.
    """

    id: int
    key: Hashable = None
    tokens: "array[int]" = field(default_factory=lambda: array("i"))
    cells: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    busy: bool = False
    copied: bool = False
    used: int = 0

    def whole(self, length: int) -> int:
        """The longest beginning of at most so many tokens that cuts no picture or sound in two."""
        return min([span.start for span in self.spans if span.start < length < span.end], default=length)

    def position(self, length: int) -> int:
        """llama.cpp's position of the token behind so many."""
        return length - sum(span.tokens - span.positions for span in self.spans if span.end <= length)


class SequenceCache:
    """The sequences of one context, which share one pool of cells.

    Args:
        context: of llama.cpp.
        cells: how many tokens it holds.
        sequences: how many sequence ids there are.
        rewinds: whether a sequence can be cut at any place; without that only whole sequences are continued.
        window: tokens of sliding-window attention, 0 without.
        shelf: where idle sequences go that would slow the others down, or None.
        idle: how many cells idle sequences may hold without that; all of them if None.
    """

    #: Tokens of the shortest common beginning that is of use.
    min_shared = 4

    def __init__(
        self,
        context: Any,
        *,
        cells: int,
        sequences: int,
        rewinds: bool,
        window: int,
        shelf: Shelf | None = None,
        idle: int | None = None,
    ) -> None:
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        self._shelf = shelf
        self._idle_cells = cells if idle is None else idle
        self._rewinds = rewinds
        self._window = window
        self._clock = itertools.count(1)
        self.ledger = CellLedger(cells)
        self.slots = [Slot(number) for number in range(sequences)]

    @property
    def available(self) -> int:
        """Cells that are free or held by idle sequences alone."""
        return self.ledger.size - len({cell for slot in self.slots if slot.busy for cell in slot.cells})

    def admits(self, count: int, running: int) -> bool:
        """Whether there is room for one more request.

        Args:
            count: its tokens.
            running: how many others run.
        """
        return not running or count + _MARGIN * (running + 1) <= self.available

    def acquire(self, tokens: "array[int]", key: Hashable) -> Slot | None:
        """A sequence for a request, holding as much of the beginning of its tokens as the cache has.

        The last token is never taken from the cache: its logits are wanted.

        Returns:
            the sequence, or None while all are busy.
        """
        source, shared = self._longest(tokens, key)
        if self._shelf is not None:
            shelved, more = self._shelf.longest(tokens, key, max(shared, self.min_shared - 1))
            if shelved is not None and (slot := self._unshelve(shelved, more)) is not None:
                return self._begin(slot, key)
        if source is not None and not source.busy and shared == len(source.tokens):
            return self._begin(source, key)
        slot = self._idle(source)
        if slot is None:
            return None
        if slot is source:
            self._shelve(slot)
            self.truncate(slot, shared)
            return self._begin(slot, key)
        self._put_away(slot)
        if source is not None:
            self._fork(source, slot, shared)
        return self._begin(slot, key)

    def release(self, slot: Slot, *, keep: bool = True) -> None:
        """End a request's use of its sequence; kept, it serves requests that begin like it."""
        slot.busy = False
        slot.used = next(self._clock)
        if not keep:
            self.clear(slot)

    def reserve(self, count: int) -> bool:
        """See that so many cells are free, dropping idle sequences, the longest unused first, as needed."""
        while self.ledger.free < count:
            idle = [slot for slot in self.slots if not slot.busy and slot.cells]
            if not idle:
                return False
            self._put_away(min(idle, key=lambda slot: slot.used))
        return True

    def settle(self) -> None:
        """Take idle sequences out of the way of busy ones, the longest unused first."""
        if not any(slot.busy for slot in self.slots):
            return  # nobody is slowed down
        idle = sorted((slot for slot in self.slots if not slot.busy and slot.cells), key=lambda slot: slot.used)
        held = sum(len(slot.cells) for slot in idle)
        for slot in idle:
            if held <= self._idle_cells:
                return
            held -= len(slot.cells)
            self._put_away(slot)

    def copy_ahead(self, most: int) -> bool:
        """Copy one idle sequence to the shelf while there is time: later it can be taken out of the way at once.

        Args:
            most: bytes; a larger one would keep the next request waiting.

        Returns:
            whether there was one.
        """
        waiting = (slot for slot in self.slots if slot.tokens and not (slot.busy or slot.copied or slot.spans))
        if self._shelf is None or (slot := next(waiting, None)) is None:
            return False
        slot.copied = True
        self._shelf.put(slot.id, slot.key, slot.tokens, most=most)
        return True

    def extend(self, slot: Slot, tokens: "array[int]") -> None:
        """Record tokens that the next decode call adds to a sequence; :meth:`reserve` must have found room."""
        slot.cells.extend(self.ledger.take(len(tokens)))
        slot.tokens.extend(tokens)

    def hold(self, count: int) -> list[int]:
        """Keep cells free for a sequence that is computed elsewhere; :meth:`reserve` must have found room."""
        return self.ledger.take(count)

    def let_go(self, cells: list[int]) -> None:
        """Let others have cells that were held."""
        self.ledger.release(cells)

    def compact(self, slots: Many[Slot]) -> None:
        """See that what the next step computes lies where llama.cpp computes it at once: in one pool, anywhere."""

    def read(self, slot: Slot) -> State | None:
        """A sequence's keys and values, for a context of one sequence; None where llama.cpp cannot copy them."""
        return read_state(self._context, slot.id)

    def replace(self, slot: Slot, tokens: "array[int]", state: State) -> bool:
        """Give a sequence keys and values that were computed elsewhere; it is empty where there is no room for them."""
        self.clear(slot)
        if not self.reserve(len(tokens)) or not write_state(self._context, slot.id, state):
            self.clear(slot)
            return False
        self.extend(slot, tokens)
        return True

    def truncate(self, slot: Slot, length: int) -> None:
        """Cut a sequence; what cannot be cut is cleared."""
        if length >= len(slot.tokens):
            return
        length = slot.whole(length)
        if length <= 0 or not _quick.memory_seq_rm(self._memory, slot.id, slot.position(length), -1):
            self.clear(slot)
            return
        slot.spans = [span for span in slot.spans if span.end <= length]
        self.ledger.release(slot.cells[length:])
        del slot.cells[length:], slot.tokens[length:]

    def clear(self, slot: Slot) -> None:
        """Empty a sequence."""
        _quick.memory_seq_rm(self._memory, slot.id, -1, -1)
        self.ledger.release(slot.cells)
        slot.cells.clear()
        slot.spans.clear()
        del slot.tokens[:]

    def drop_idle(self) -> None:
        """Forget all sequences that no request uses."""
        if self._shelf is not None:
            self._shelf.clear()
        for slot in self.slots:
            if not slot.busy:
                self.clear(slot)

    def _put_away(self, slot: Slot) -> None:
        """Empty an idle sequence; it may be wanted again."""
        self._shelve(slot)
        self.clear(slot)

    def _shelve(self, slot: Slot) -> None:
        """Keep an idle sequence on the shelf, before its place is used for something else."""
        if self._shelf is not None and slot.tokens and not slot.spans:
            self._shelf.put(slot.id, slot.key, slot.tokens)

    def _unshelve(self, shelved: Shelved, shared: int) -> Slot | None:
        """A sequence that begins like a shelved one; None where there is no room for it, or it is of no use."""
        assert self._shelf is not None
        length = len(shelved.tokens)
        if (shared < length and not self._rewinds) or (slot := self._idle(None)) is None:
            return None
        tokens = shelved.tokens
        self._put_away(slot)
        if not self.reserve(length) or not self._shelf.restore(shelved, slot.id):
            return None
        slot.key = shelved.key
        self.extend(slot, tokens)
        if not self._usable(slot, shared):
            self.clear(slot)
            return None
        self.truncate(slot, shared)
        return slot

    def _begin(self, slot: Slot, key: Hashable) -> Slot:
        slot.busy, slot.copied, slot.key, slot.used = True, False, key, next(self._clock)
        return slot

    def _idle(self, source: Slot | None) -> Slot | None:
        """The sequence to overwrite: an empty one, else the longest unused; the source only if there is no other.

        Args:
            source: what the request begins like, or None.
        """
        idle = [slot for slot in self.slots if not slot.busy]
        if not idle:
            return None
        return min(idle, key=lambda slot: (slot is source, bool(slot.tokens), slot.used))

    def _longest(self, tokens: "array[int]", key: Hashable) -> tuple[Slot | None, int]:
        """The sequence that shares the longest beginning, and how long it is."""
        wanted = np.frombuffer(tokens, np.int32)
        best: Slot | None = None
        length = self.min_shared - 1
        for slot in self.slots:
            if slot.key != key or len(slot.tokens) <= length:
                continue
            if not self._rewinds and slot.busy:
                continue
            common = slot.whole(min(common_length(wanted, np.frombuffer(slot.tokens, np.int32)), len(wanted) - 1))
            if common > length and self._usable(slot, common):
                best, length = slot, common
        return best, length if best is not None else 0

    def _usable(self, slot: Slot, length: int) -> bool:
        if not self._rewinds:
            return length == len(slot.tokens)
        oldest = _quick.memory_seq_pos_min(self._memory, slot.id)
        start = slot.position(length) - self._window if self._window else 0
        return bool(0 <= oldest <= max(0, start))

    def _fork(self, source: Slot, target: Slot, length: int) -> None:
        """Have an empty sequence begin like another."""
        _quick.memory_seq_cp(self._memory, source.id, target.id, 0, source.position(length))
        cells = source.cells[:length]
        self.ledger.share(cells)
        target.cells.extend(cells)
        target.tokens.extend(source.tokens[:length])
        target.spans.extend(span for span in source.spans if span.end <= length)
