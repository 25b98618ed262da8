"""Types of an ML Program's values, and how they are held here."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

#: A value while a program runs: an array, a text, or several of them (of operations that take a list of values).
Array = npt.NDArray[Any]
#: A parameter that is one number; the defaults of parameters are plain ones.
Scalar = Array | float

#: How a value of each type is held. Numbers in half precision are held as float32 that are rounded to it after every
#: operation; sums inside an operation are float32, as Apple's hardware has it or better.
HELD: Final[dict[str, type[np.generic]]] = {
    "bool": np.bool_,
    "fp16": np.float32,
    "fp32": np.float32,
    "fp64": np.float64,
    "int4": np.int8,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint1": np.uint8,
    "uint2": np.uint8,
    "uint3": np.uint8,
    "uint4": np.uint8,
    "uint6": np.uint8,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
}
#: How many bits a packed integer has.
BITS: Final = {"uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6, "int4": 4}
#: How a value of each type lies in a file.
STORED: Final[dict[str, type[np.generic]]] = {**HELD, "fp16": np.float16}

_BLOCK: Final = 1 << 15
_SMALLEST, _LARGEST = np.float32(2**-14), np.float32(65504)
_STEP: Final = np.float32(0.75)  # float32 near it are 2**-24 apart, as half precision's smallest numbers are


@dataclass(frozen=True, slots=True)
class TensorType:
    """The type of a tensor, or of a state that holds one.

    Attributes:
        dtype: "fp16", "fp32", "int32", "bool", "string", ...
        shape: its sizes, None where one is free; None where even their number is.
        state: whether it is a state.
    """

    dtype: str
    shape: tuple[int | None, ...] | None
    state: bool = False

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of that shape may be of this type."""
        if self.shape is None:
            return True
        if len(self.shape) != len(shape):
            return False
        return all(one is None or one == other for one, other in zip(self.shape, shape, strict=True))

    def __str__(self) -> str:
        sizes = "any shape" if self.shape is None else ", ".join("?" if n is None else str(n) for n in self.shape)
        return f"{self.dtype} [{sizes}]"


def rounded(values: Array) -> Array:
    """Float32 numbers rounded to half precision (to nearest, ties to even), still as float32.

    The same as ``values.astype(float16).astype(float32)``, several times faster.
    """
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    out = np.empty_like(flat)
    spare = np.empty(min(_BLOCK, flat.size), np.float32)
    for start in range(0, flat.size, _BLOCK):
        source, target = flat[start : start + _BLOCK], out[start : start + _BLOCK]
        temporary = spare[: source.size]
        bits, work, result = source.view(np.uint32), temporary.view(np.uint32), target.view(np.uint32)
        np.right_shift(bits, np.uint32(13), out=work)
        np.bitwise_and(work, np.uint32(1), out=work)
        np.add(work, np.uint32(0xFFF), out=work)
        np.add(work, bits, out=result)
        np.bitwise_and(result, np.uint32(0xFFFFE000), out=result)
        sizes = np.abs(source, out=temporary)
        small = sizes < _SMALLEST
        if small.any():
            np.copyto(target, np.copysign((sizes + _STEP) - _STEP, source), where=small)
        if not sizes.max() < _LARGEST:
            _mend(source, target)
    return out.reshape(np.shape(values))


def _mend(source: Array, target: Array) -> None:
    """What is too large for half precision, and what is no number."""
    with np.errstate(invalid="ignore"):
        large = np.abs(target) > _LARGEST
    np.copyto(target, np.copysign(np.float32(np.inf), source), where=large)
    np.copyto(target, source, where=np.isnan(source))
