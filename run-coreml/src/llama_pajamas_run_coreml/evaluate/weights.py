"""The weights beside a program: a file of blobs, each behind a header of 64 bytes.

Interface: MILBlob's storage format, as in https://github.com/apple/coremltools/tree/main/mlmodel/src/MILBlob.
"""

import struct
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_coreml.evaluate.types import BITS, STORED, Array

_SENTINEL: Final = 0xDEADBEEF
_HEADER: Final = struct.Struct("<IIQQ")
#: The number of each type in a blob's header.
_TYPES: Final = {
    1: "fp16", 2: "fp32", 3: "uint8", 4: "int8", 6: "int16", 7: "uint16", 8: "int4", 9: "uint1", 10: "uint2",
    11: "uint4", 12: "uint3", 13: "uint6", 14: "int32", 15: "uint32",
}  # fmt: skip


class WeightFile:
    """A file of weights, mapped into memory.

    Raises:
        LoadError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._bytes: npt.NDArray[np.uint8] = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise LoadError(f"The weights {path} cannot be read: {error}.", hint="Fetch the package again.") from error

    def read(self, offset: int, dtype: str, shape: tuple[int, ...]) -> Array:
        """The values of the blob at an offset.

        Args:
            offset: where its header lies.
            dtype: the type that the program declares.
            shape: the shape that the program declares.

        Raises:
            LoadError: there is no such blob, or it is of another type or size.
        """
        header = self._bytes[offset : offset + _HEADER.size].tobytes()
        if len(header) < _HEADER.size:
            raise self._damaged(f"it ends before the weights at byte {offset}")
        sentinel, number, size, start = _HEADER.unpack(header)
        if sentinel != _SENTINEL:
            raise self._damaged(f"there are no weights at byte {offset}")
        if _TYPES.get(number) != dtype:
            raise self._damaged(f"the weights at byte {offset} are {_TYPES.get(number, number)}, not {dtype}")
        count = int(np.prod(shape, dtype=np.int64))
        wanted = -(-count * BITS[dtype] // 8) if dtype in BITS else count * np.dtype(STORED[dtype]).itemsize
        data = self._bytes[start : start + size]
        if size != wanted or len(data) != wanted:
            raise self._damaged(f"the weights at byte {offset} have {len(data)} bytes where {wanted} are declared")
        return unpacked(data, dtype, count).reshape(shape)

    def _damaged(self, what: str) -> LoadError:
        return LoadError(f"The weights {self._path} are damaged: {what}.", hint="Fetch the package again.")


def unpacked(data: npt.NDArray[np.uint8], dtype: str, count: int) -> Array:
    """The numbers in packed bytes: little-endian, those of less than eight bits from the lowest bit on.

    Args:
        data: the bytes.
        dtype: the type of the numbers.
        count: how many there are.

    Returns:
        one axis, as the type is stored.
    """
    if dtype not in BITS:
        return data.view(STORED[dtype])
    width = BITS[dtype]
    bits = np.unpackbits(data, count=count * width, bitorder="little").reshape(count, width)
    numbers = (bits << np.arange(width, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    if dtype == "int4":
        return (numbers.astype(np.int8) ^ 8) - 8
    return numbers
