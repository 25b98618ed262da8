"""Idle conversations in the host's memory.

Every step's attention looks over all of the KV cache up to the last cell in use, so that conversations which merely
wait there for their next turn slow the others down. On the shelf they cost nothing until they are wanted again.
"""

from array import array
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from llama_pajamas_run_gguf.engine.copying import Copying
from llama_pajamas_run_gguf.engine.prefixes import common_length
from llama_pajamas_run_gguf.engine.states import State, read_state, state_size, write_state

#: The most sequences on the shelf: each is looked at whenever a request comes or goes.
_MOST = 256


@dataclass(slots=True, eq=False)
class Shelved:
    """The keys and values of one sequence.

    Attributes:
        key: as of the slot it came from.
        tokens: of the sequence.
        state: llama.cpp's bytes.
    """

    key: Hashable
    tokens: "array[int]"
    state: State


class Shelf:
    """Sequences of one context, the longest unused first.

    Args:
        context: of llama.cpp.
        copying: what is worth copying.
        limit: the most bytes it takes.
    """

    def __init__(self, context: Any, copying: Copying, *, limit: int) -> None:
        self._context = context
        self._limit = limit
        self._copying = copying
        self._shelved: list[Shelved] = []
        self.bytes = 0

    def put(self, sequence: int, key: Hashable, tokens: "array[int]", *, most: int | None = None) -> None:
        """Copy a sequence out of the cache, if it is long enough and there is room for it. Nothing is copied twice.

        Args:
            sequence: llama.cpp's id.
            key: sequences share only with those of the same key.
            tokens: what the sequence holds.
            most: bytes of a sequence that is worth it now; any that has room if None.
        """
        if len(tokens) < self._copying.shortest:
            return
        shorter: list[Shelved] = []
        # The newest first: what is put away was most often copied just before.
        for other in [other for other in reversed(self._shelved) if other.key == key]:
            common = _common(other.tokens, tokens)
            if common == len(tokens):  # a longer one that begins like it serves as well
                self._touch(other)
                return
            if common == len(other.tokens):
                shorter.append(other)
        size = state_size(self._context, sequence)
        if not 0 < size <= (self._limit if most is None else min(self._limit, most)):
            return
        for other in shorter:
            self._drop(other)
        while self.bytes + size > self._limit or len(self._shelved) >= _MOST:
            self._drop(self._shelved[0])
        state = read_state(self._context, sequence)
        if state is None:
            return
        self._shelved.append(Shelved(key, array("i", tokens), state))
        self.bytes += size

    def longest(self, tokens: "array[int]", key: Hashable, more_than: int) -> tuple[Shelved | None, int]:
        """The sequence that shares the longest beginning, where it is worth copying, and how long that is.

        Args:
            tokens: of a request; the last one is not counted.
            key: of the request.
            more_than: a beginning of no more tokens than that is of no use.
        """
        best: Shelved | None = None
        for shelved in self._shelved:
            if shelved.key != key or len(shelved.tokens) <= more_than:
                continue
            common = min(_common(shelved.tokens, tokens), len(tokens) - 1)
            if common > more_than and common * self._copying.per_computed >= len(shelved.tokens):
                best, more_than = shelved, common
        return best, more_than if best is not None else 0

    def restore(self, shelved: Shelved, sequence: int) -> bool:
        """Copy a sequence back into the cache, where it must be empty; False where llama.cpp finds no room."""
        self._touch(shelved)
        return write_state(self._context, sequence, shelved.state)

    def clear(self) -> None:
        """Forget everything."""
        self._shelved.clear()
        self.bytes = 0

    def _touch(self, shelved: Shelved) -> None:
        if shelved in self._shelved:  # else it had to make room meanwhile
            self._shelved.remove(shelved)
            self._shelved.append(shelved)

    def _drop(self, shelved: Shelved) -> None:
        self._shelved.remove(shelved)
        self.bytes -= shelved.state.nbytes


def _common(one: "array[int]", other: "array[int]") -> int:
    return common_length(np.frombuffer(one, np.int32), np.frombuffer(other, np.int32))
