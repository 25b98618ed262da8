"""A sequence's keys and values as bytes, to be kept or carried from one context of a model to another."""

import ctypes
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

State = npt.NDArray[np.uint8]

#: llama.cpp's mark and the sequence's id, which a state begins with, in words of 32 bits.
_MARKS = 2
_WORD = 4


def state_size(context: Any, sequence: int) -> int:
    """Bytes of a sequence's state, 0 where it has none."""
    return int(llama_cpp.llama_state_seq_get_size(context, sequence))


def read_state(context: Any, sequence: int, *, streams: int | None = None) -> State | None:
    """Copy a sequence's state out of a context; None where llama.cpp cannot.

    Args:
        context: of llama.cpp.
        sequence: its id there.
        streams: into how many streams the cache is cut that the state is for; None for one like this. Any other is
            possible for plain caches alone: those of recurrent models or with sliding windows are laid out otherwise.
    """
    size = state_size(context, sequence)
    spare = 0 if streams is None else (streams - 1) * _WORD
    state = np.empty(size + spare, np.uint8)
    read = llama_cpp.llama_state_seq_get_data(context, _pointer(state), size, sequence) if size else 0
    if not size or read != size:
        return None
    return state if streams is None else _recount(state, size, streams)


def write_state(context: Any, sequence: int, state: State) -> bool:
    """Copy a state into a context, where the sequence must be empty; False where llama.cpp finds no room for it."""
    return bool(llama_cpp.llama_state_seq_set_data(context, _pointer(state), state.nbytes, sequence))


def _recount(state: State, size: int, streams: int) -> State | None:
    """The same cells for a cache of another number of streams, in the same memory; None where there are no cells.

    Behind the marks a state is the number of streams, then of each stream the number of its cells and, unless that is
    0, the cells. In which stream's place they stand does not matter to who reads them.
    """
    words = state[: size // _WORD * _WORD].view(np.uint32)
    own = int(words[_MARKS])
    held = np.flatnonzero(words[_MARKS + 1 : _MARKS + 1 + own])  # behind the first that is not 0 these are no counts
    if not len(held):
        return None
    before = int(held[0])
    behind = own - 1 - before
    words[before : before + _MARKS] = words[:_MARKS].copy()
    words[before + _MARKS] = streams
    end = size + (streams - 1 - behind) * _WORD
    state[size - behind * _WORD : end] = 0
    return state[before * _WORD : end]


def _pointer(state: State) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
