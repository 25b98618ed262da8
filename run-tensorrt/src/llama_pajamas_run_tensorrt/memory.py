"""Memory that is kept and used again: pools on the device and of pinned host memory, under one limit.

Nothing here imports an SDK: a pool is given functions that take and free memory.
"""

import threading
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import BadInput, OutOfMemory

#: Allocations up to this size are rounded to a power of two, larger ones to a multiple of it.
_STEP: Final = 2 << 20
_SMALLEST: Final = 512


class Budget:
    """Bytes that several pools may take together.

    Args:
        limit: the most, or None for as much as the device gives.
        where: for messages ("GPU 0").
    """

    def __init__(self, limit: int | None = None, where: str = "the GPU") -> None:
        self.limit, self.where = limit, where
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes taken now, those that lie ready to be used again included."""
        return self._used

    def fits(self, size: int) -> bool:
        """Take that many bytes of the budget; False where they are past its limit."""
        with self._lock:
            if self.limit is not None and self._used + size > self.limit:
                return False
            self._used += size
            return True

    def give_back(self, size: int) -> None:
        """Return bytes to the budget."""
        with self._lock:
            self._used -= size


@dataclass(frozen=True, slots=True, order=True)
class _Piece:
    """An allocation as the SDK made it."""

    size: int
    address: int
    handle: Any = field(compare=False)


class Block:
    """Memory lent by a pool; it goes back by :meth:`release`, or when nothing refers to it any more."""

    __slots__ = ("_piece", "_pool")

    def __init__(self, pool: "Pool", piece: _Piece) -> None:
        self._pool, self._piece = pool, piece

    @property
    def size(self) -> int:
        """Bytes; at least as many as were asked for."""
        return self._alive().size

    @property
    def address(self) -> int:
        """Where it begins."""
        return self._alive().address

    @property
    def handle(self) -> Any:
        """What the SDK gave."""
        return self._alive().handle

    def release(self) -> None:
        """Give the memory back to the pool. Harmless when it was."""
        piece, self._piece = self._piece, None  # type: ignore[assignment]
        if piece is not None:
            self._pool.take_back(piece)

    def __del__(self) -> None:
        self.release()

    def _alive(self) -> _Piece:
        if self._piece is None or self._pool.closed:
            raise BadInput("This memory was given back; its array cannot be used any more.")
        return self._piece


class Pool:
    """Memory of one kind, used again in the order of one stream.

    Blocks may be released from any thread, at any time; they are lent again only to the pool's own stream, whose order
    keeps new work behind the old. Memory is taken and freed by the thread that calls :meth:`take`, :meth:`trim` and
    :meth:`close`.

    Args:
        allocate: takes bytes and gives what the SDK gives; raises OutOfMemory.
        free: frees that.
        address: where it begins.
        budget: what it counts against.
    """

    def __init__(
        self,
        allocate: Callable[[int], Any],
        free: Callable[[Any], None],
        address: Callable[[Any], int] = int,
        budget: Budget | None = None,
    ) -> None:
        self._allocate, self._free, self._address = allocate, free, address
        self.budget = budget or Budget()
        self.closed = False
        self._idle: list[_Piece] = []
        self._lent: set[_Piece] = set()
        # A block may be collected as garbage in the middle of take(): only an operation without a lock is safe then.
        self._returned: deque[_Piece] = deque()

    def take(self, size: int) -> Block:
        """Lend memory.

        Args:
            size: bytes; 0 counts as 1.

        Raises:
            OutOfMemory: it is past the budget's limit, or the device has no more.
        """
        if self.closed:
            raise BadInput("The session was closed.")
        wanted = _rounded(size)
        self._collect()
        at = bisect_left(self._idle, wanted, key=lambda piece: piece.size)
        # One that is much larger is better kept for what needs it.
        fits = at < len(self._idle) and self._idle[at].size <= 2 * wanted
        piece = self._idle.pop(at) if fits else self._make(wanted)
        self._lent.add(piece)
        return Block(self, piece)

    def take_back(self, piece: _Piece) -> None:
        """Take a block's memory back; called by the block."""
        self._returned.append(piece)

    def trim(self) -> int:
        """Free what lies idle; the bytes freed."""
        self._collect()
        idle, self._idle = self._idle, []
        for piece in idle:
            self._drop(piece)
        return sum(piece.size for piece in idle)

    def close(self) -> None:
        """Free everything, what is still lent included: arrays in it cannot be used any more."""
        if self.closed:
            return
        self.trim()
        self.closed = True
        for piece in self._lent:
            self._drop(piece)
        self._lent.clear()

    def _make(self, size: int) -> _Piece:
        if not self.budget.fits(size):
            self.trim()
            if not self.budget.fits(size):
                budget = self.budget
                raise OutOfMemory(
                    f"{size:,} bytes more on {budget.where} would pass the limit of {budget.limit:,}; "
                    f"{budget.used:,} are taken.",
                    hint="Use a smaller batch or fewer lanes, or raise memory_limit.",
                )
        try:
            handle = self._first_or_after_trim(size)
        except BaseException:
            self.budget.give_back(size)
            raise
        return _Piece(size, self._address(handle), handle)

    def _first_or_after_trim(self, size: int) -> Any:
        try:
            return self._allocate(size)
        except OutOfMemory:
            if not self.trim():
                raise
            return self._allocate(size)

    def _collect(self) -> None:
        while self._returned:
            piece = self._returned.popleft()
            if piece in self._lent:
                self._lent.remove(piece)
                insort(self._idle, piece)

    def _drop(self, piece: _Piece) -> None:
        self._free(piece.handle)
        self.budget.give_back(piece.size)


def _rounded(size: int) -> int:
    if size <= _STEP:
        return max(_SMALLEST, 1 << max(size - 1, 0).bit_length())
    return -(-size // _STEP) * _STEP


class DeviceArray:
    """An array in the device's memory. It holds its memory; :meth:`release` gives it back early.

    It has ``__cuda_array_interface__``, so that PyCUDA's GPUArray, CuPy and PyTorch read it in place.

    Args:
        block: the memory.
        shape: sizes.
        dtype: element type.
    """

    __slots__ = ("_block", "dtype", "shape")

    def __init__(self, block: Block, shape: Sequence[int], dtype: npt.DTypeLike) -> None:
        self._block = block
        self.shape = tuple(int(size) for size in shape)
        self.dtype = np.dtype(dtype)
        if self.nbytes > block.size:
            raise BadInput(f"{list(shape)} of {self.dtype} needs {self.nbytes:,} bytes, the block has {block.size:,}.")

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def address(self) -> int:
        """The device address of the first element, for kernels and copies."""
        return self._block.address

    def view(self, shape: Sequence[int], dtype: npt.DTypeLike | None = None) -> "DeviceArray":
        """The same memory in another shape or type, from its beginning; it may be smaller or use all of the block."""
        return DeviceArray(self._block, shape, self.dtype if dtype is None else dtype)

    def release(self) -> None:
        """Give the memory back, for every view of it."""
        self._block.release()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False), "version": 3}

    def __repr__(self) -> str:
        return f"DeviceArray({list(self.shape)}, {self.dtype})"
