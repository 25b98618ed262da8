"""Pixels copied to pinned memory, those of large batches by several threads."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt


class Copiers:
    """Threads that fill pinned memory together.

    Args:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "copy-pixels")

    def begin(
        self, into: npt.NDArray[np.uint8], offsets: Sequence[int], pictures: Sequence[npt.NDArray[np.uint8]]
    ) -> "Copying":
        """Begin to copy pictures to their places.

        Args:
            into: uint8 [n].
            offsets: where each begins.
            pictures: uint8 [height, width, 3] each.
        """
        step = -(-len(pictures) // self.threads)
        parts = []
        for first in range(0, len(pictures), step):
            last = min(first + step, len(pictures))
            end = offsets[last - 1] + pictures[last - 1].size
            copied = self._pool.submit(_copy_all, pictures[first:last], into, offsets[first:last])
            parts.append((offsets[first], end, copied))
        return Copying(parts)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


class Copying:
    """Pictures on their way to pinned memory, in parts: first and last byte, and what tells that it is there."""

    def __init__(self, parts: Sequence[tuple[int, int, Future[None]]]) -> None:
        self._parts = parts

    def parts(self) -> Iterator[tuple[int, int]]:
        """First and last byte of each part, as soon as it is there."""
        for first, last, copied in self._parts:
            copied.result()
            yield first, last

    def settle(self) -> None:
        """Wait until nothing is written any more. Raises nothing."""
        for _, _, copied in self._parts:
            copied.exception()


def copy_pixels(pixels: npt.NDArray[np.uint8], into: npt.NDArray[np.uint8], offset: int) -> None:
    """Copy a picture.

    Args:
        pixels: uint8 [height, width, 3], also a view with gaps.
        into: uint8 [n].
        offset: where it begins there.
    """
    np.copyto(into[offset : offset + pixels.size].reshape(pixels.shape), pixels)


def _copy_all(pictures: Sequence[npt.NDArray[np.uint8]], into: npt.NDArray[np.uint8], offsets: Sequence[int]) -> None:
    for pixels, offset in zip(pictures, offsets, strict=True):
        copy_pixels(pixels, into, offset)
