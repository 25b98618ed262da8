"""A sequence's keys and values as bytes, to be kept or carried from one context of a model to another."""

import ctypes
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

State = npt.NDArray[np.uint8]


def state_size(context: Any, sequence: int) -> int:
    """Bytes of a sequence's state, 0 where it has none."""
    return int(llama_cpp.llama_state_seq_get_size(context, sequence))


def read_state(context: Any, sequence: int) -> State | None:
    """Copy a sequence's state out of a context; None where llama.cpp cannot."""
    size = state_size(context, sequence)
    state = np.empty(size, np.uint8)
    read = llama_cpp.llama_state_seq_get_data(context, _pointer(state), size, sequence) if size else 0
    return state if size and read == size else None


def write_state(context: Any, sequence: int, state: State) -> bool:
    """Copy a state into a context, where the sequence must be empty; False where llama.cpp finds no room for it."""
    return bool(llama_cpp.llama_state_seq_set_data(context, _pointer(state), state.nbytes, sequence))


def _pointer(state: State) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
