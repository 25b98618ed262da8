"""The tokens of one decode call, filled through numpy."""

import ctypes
from array import array
from typing import Any

import llama_cpp
import numpy as np


class Batch:
    """A ``llama_batch`` over arrays of our own, so that whole prompt chunks are written at once.

    Args:
        size: the most tokens it takes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(size, np.int32)
        self._counts = np.ones(size, np.int32)
        self._sequences = np.zeros(size, np.int32)
        self._wanted = np.zeros(size, np.int8)
        first, step = self._sequences.ctypes.data, self._sequences.itemsize
        pointer = ctypes.POINTER(llama_cpp.llama_seq_id)
        self._pointers = (pointer * size)(*(ctypes.cast(first + step * index, pointer) for index in range(size)))
        self.native = llama_cpp.llama_batch(
            n_tokens=0,
            token=self._tokens.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token)),
            embd=None,
            pos=self._positions.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_pos)),
            n_seq_id=self._counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=ctypes.cast(self._pointers, ctypes.POINTER(pointer)),
            logits=self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    @property
    def length(self) -> int:
        """Tokens in it."""
        return int(self.native.n_tokens)

    @property
    def room(self) -> int:
        """Tokens that still go in."""
        return self.size - int(self.native.n_tokens)

    def clear(self) -> None:
        """Empty it."""
        self.native.n_tokens = 0

    def add(
        self, tokens: "array[int] | np.ndarray[Any, np.dtype[np.int32]]", position: int, sequence: int, *, wanted: int
    ) -> range:
        """Add tokens of one sequence.

        Args:
            tokens: the tokens.
            position: of the first one.
            sequence: whose they are.
            wanted: of how many of the last tokens the logits are wanted.

        Returns:
            where in the batch the wanted ones are.
        """
        start = self.length
        end = start + len(tokens)
        if len(tokens) == 1:  # every step of every answer: slices take several times as long
            self._tokens[start] = tokens[0]
            self._positions[start] = position
            self._sequences[start] = sequence
            self._wanted[start] = wanted
        else:
            self._tokens[start:end] = tokens
            self._positions[start:end] = np.arange(position, position + len(tokens))
            self._sequences[start:end] = sequence
            self._wanted[start : end - wanted] = 0
            self._wanted[end - wanted : end] = 1
        self.native.n_tokens = end
        return range(end - wanted, end)
