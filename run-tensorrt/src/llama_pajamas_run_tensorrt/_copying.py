"""Pixels copied to pinned memory: by the thread that needs them there, and by helpers as far as they come in time."""

import threading
import time
from collections.abc import Iterator, Sequence
from itertools import count
from queue import SimpleQueue
from typing import Final

import numpy as np
import numpy.typing as npt

#: Bytes in all, and of a picture, for which one more helper is worth its waking.
_HELPED, _HELPED_EACH = 2 << 20, 80 << 10
#: The least and the most bytes of a piece, which one thread copies at a time.
_LEAST_PIECE, _MOST_PIECE = 160 << 10, 1 << 20
#: How many bytes are told at once, but for the last.
_TOLD: Final = 512 << 10
#: Where nobody helps, a copy of up to this many bytes keeps Python's lock: to give it away and get it back takes more.
AT_ONCE: Final = 256 << 10
#: A copy of up to this many bytes is the caller's alone: to cut it into pieces for helpers takes longer than they save.
CUT: Final = 2 << 20
#: How often the other threads are let run for a piece that they are copying, before they are waited for in earnest:
#: a thread that sleeps takes longer to wake than a piece takes to copy.
_GLANCES: Final = 50

Pixels = npt.NDArray[np.uint8]
#: First and last byte of a piece, and the pixels that lie there with their offsets.
_Piece = tuple[int, int, list[tuple[Pixels, int]]]


class Copiers:
    """Threads that help to fill pinned memory.

    Args:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._work: SimpleQueue[Copying | None] = SimpleQueue()
        self._started = [
            threading.Thread(target=self._help, name=f"copy-pixels-{index}", daemon=True) for index in range(threads)
        ]
        for thread in self._started:
            thread.start()

    def help(self, copying: "Copying") -> None:
        """Wake as many helpers as are of use."""
        of_use = min(copying.size // _HELPED, copying.size // copying.pictures // _HELPED_EACH, copying.pieces - 1)
        copying.helped = of_use > 0
        for _ in range(min(self.threads, of_use)):
            self._work.put(copying)

    def close(self) -> None:
        """End the threads."""
        for _ in self._started:
            self._work.put(None)
        for thread in self._started:
            thread.join()

    def _help(self) -> None:
        while (copying := self._work.get()) is not None:
            copying.help()
            del copying  # the pixels are the caller's to free


class Copying:
    """Pictures on their way to pinned memory.

    They are cut into pieces, and each thread takes the next one when it is done with one. Nobody waits for a helper
    that has not come yet.

    Args:
        into: uint8 [n].
        offsets: where each picture begins there.
        pictures: uint8 [height, width, 3] each, also views with gaps.
    """

    def __init__(self, into: Pixels, offsets: Sequence[int], pictures: Sequence[Pixels]) -> None:
        self.size, self.pictures = sum(one.size for one in pictures), len(pictures)
        self.helped = False
        self._into = into
        self._pieces = _cut(offsets, pictures, min(max(self.size // 32, _LEAST_PIECE), _MOST_PIECE))
        self._turn = count()
        self._finished: SimpleQueue[tuple[int, Exception | None]] = SimpleQueue()
        self._left = len(self._pieces)  # those that neither this thread has copied nor a helper has told of

    @property
    def pieces(self) -> int:
        """How many there are."""
        return len(self._pieces)

    def help(self) -> None:
        """Copy pieces while there are any; called by helpers."""
        while (index := next(self._turn)) < len(self._pieces):
            error = None
            try:
                self._copy(index)
            except Exception as raised:
                error = raised
            self._finished.put((index, error))

    def ready(self) -> Iterator[tuple[int, int]]:
        """Copy what no helper does, and tell first and last byte of what is there, from the beginning to the end."""
        pieces, done, at, told = self._pieces, bytearray(len(self._pieces)), 0, 0
        while at < len(pieces):
            if (index := next(self._turn)) < len(pieces):
                self._left -= 1
                self._copy(index)
                done[index] = 1
            else:
                done[self._heard()] = 1
            while not self._finished.empty():
                done[self._heard()] = 1
            while at < len(pieces) and done[at]:
                at += 1
            if at > told and (at == len(pieces) or pieces[at - 1][1] - pieces[told][0] >= _TOLD):
                yield pieces[told][0], pieces[at - 1][1]
                told = at

    def settle(self) -> None:
        """See to it that nothing is written any more. Raises nothing."""
        while next(self._turn) < len(self._pieces):
            self._left -= 1
        while self._left > 0:
            self._finished.get()
            self._left -= 1

    def _heard(self) -> int:
        """The number of a piece that a helper has copied; waits for one."""
        for _ in range(_GLANCES):
            if not self._finished.empty():
                break
            time.sleep(0)
        index, error = self._finished.get()
        self._left -= 1
        if error is not None:
            raise error
        return index

    def _copy(self, index: int) -> None:
        for pixels, offset in self._pieces[index][2]:
            copy_pixels(pixels, self._into, offset, at_once=not self.helped)


def copy_pixels(pixels: Pixels, into: Pixels, offset: int, *, at_once: bool) -> None:
    """Copy a picture.

    Args:
        pixels: uint8 [height, width, 3], also a view with gaps.
        into: uint8 [n].
        offset: where it begins there.
        at_once: whether a small one is copied without letting other threads run.
    """
    part = into[offset : offset + pixels.size]
    if at_once and pixels.size <= AT_ONCE and pixels.flags.c_contiguous:
        part.data[:] = pixels.reshape(-1).data
    else:
        np.copyto(part.reshape(pixels.shape), pixels)


def copied(into: Pixels, offsets: Sequence[int], pictures: Sequence[Pixels]) -> Iterator[tuple[int, int]]:
    """Copy pictures in this thread alone, and tell first and last byte of what is there, as :meth:`Copying.ready`.

    Args:
        into, offsets, pictures: as for :class:`Copying`.
    """
    told = end = offsets[0]
    whole = offsets[-1] + pictures[-1].size - told <= AT_ONCE
    for pixels, offset in zip(pictures, offsets, strict=True):
        # In two parts, the one on its way to the GPU while the other is copied. The GPU waits for the way of the second
        # alone, which is short; the way is some four times as fast as the copy.
        rows = len(pixels) if pixels.size <= _TOLD else -(-3 * len(pixels) // 4)
        for first in range(0, len(pixels), rows):
            part = pixels[first : first + rows]
            begin = offset + first * 3 * pixels.shape[1]
            copy_pixels(part, into, begin, at_once=whole)
            end = begin + part.size
            if end - told >= _TOLD:
                yield told, end
                told = end
    if end > told:
        yield told, end


def _cut(offsets: Sequence[int], pictures: Sequence[Pixels], size: int) -> list[_Piece]:
    """Pieces of about that many bytes: parts of large pictures, several small ones."""
    pieces: list[_Piece] = []
    held: list[tuple[Pixels, int]] = []
    for pixels, offset in zip(pictures, offsets, strict=True):
        height, row = len(pixels), 3 * pixels.shape[1]
        # Of about the same size, so that the last, for which the GPU waits, is no larger than the others.
        rows = -(-height // max(1, round(pixels.size / size)))
        for first in range(0, height, rows):
            part = pixels[first : first + rows] if rows < height else pixels
            held.append((part, offset + first * row))
            begin, (last, at) = held[0][1], held[-1]
            if at + last.size - begin >= size or rows < height:
                pieces.append((begin, at + last.size, held))
                held = []
    if held:
        pieces.append((held[0][1], held[-1][1] + held[-1][0].size, held))
    return pieces
