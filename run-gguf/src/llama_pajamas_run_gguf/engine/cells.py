"""Who uses which cell of the KV cache, counted without asking llama.cpp."""

from collections.abc import Sequence

import numpy as np


class CellLedger:
    """Counts the users of every cell of a KV cache.

    llama.cpp does not tell how many are free; in one pool it lets sequences share them (``llama_memory_seq_cp``). The
    ledger mirrors it with numbers of its own: which physical cell a number stands for does not matter, since any free
    cell serves.

    Args:
        size: how many cells there are.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._users = np.zeros(size, np.int32)
        self._free = list(range(size - 1, -1, -1))

    @property
    def free(self) -> int:
        """Cells that nobody uses."""
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """Give out free cells, at most as many as :attr:`free`."""
        if count > len(self._free):
            raise ValueError(f"{count} cells were asked for, {len(self._free)} are free")
        if not count:
            return []
        if count == 1:  # every step of every answer
            cell = self._free.pop()
            self._users[cell] = 1
            return [cell]
        cells = self._free[-count:]
        del self._free[-count:]
        self._users[cells] = 1
        return cells

    def share(self, cells: Sequence[int]) -> None:
        """Count one more user for each of the cells."""
        self._users[list(cells)] += 1

    def release(self, cells: Sequence[int]) -> None:
        """Count one user less; cells without users become free."""
        if not cells:
            return
        numbers = np.asarray(cells)
        self._users[numbers] -= 1
        self._free.extend(numbers[self._users[numbers] == 0].tolist())
