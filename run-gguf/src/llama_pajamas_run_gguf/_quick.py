"""llama.cpp's short calls, made without letting go of Python's lock.

ctypes releases the lock around every call, and a thread that waits for it takes it: with many readers, a call of a few
microseconds then costs as long as their work. Decoding, loading and tokenizing release it; what is here does not.
"""

import ctypes
from typing import Any

from llama_cpp import llama_cpp as _bindings

_library = ctypes.PyDLL(_bindings._lib._name)


def _quick(name: str) -> Any:
    slow = getattr(_bindings._lib, name)
    function = getattr(_library, name)
    function.argtypes, function.restype = slow.argtypes, slow.restype
    return function


sampler_sample = _quick("llama_sampler_sample")
sampler_apply = _quick("llama_sampler_apply")
sampler_accept = _quick("llama_sampler_accept")
get_logits_ith = _quick("llama_get_logits_ith")
memory_seq_rm = _quick("llama_memory_seq_rm")
memory_seq_cp = _quick("llama_memory_seq_cp")
memory_seq_pos_min = _quick("llama_memory_seq_pos_min")
token_to_piece = _quick("llama_token_to_piece")
