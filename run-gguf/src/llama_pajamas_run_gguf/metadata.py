"""What a GGUF model says about itself, read through llama.cpp once it is loaded."""

import ctypes
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import llama_cpp

T = TypeVar("T", int, float)


def read_metadata(model: Any) -> dict[str, str]:
    """All keys with scalar values, as text; arrays are left out by llama.cpp."""
    pairs: dict[str, str] = {}
    for index in range(llama_cpp.llama_model_meta_count(model)):
        key = _text(partial(llama_cpp.llama_model_meta_key_by_index, model, index))
        pairs[key] = _text(partial(llama_cpp.llama_model_meta_val_str_by_index, model, index))
    return pairs


def description(model: Any) -> str:
    """llama.cpp's one line about the model ("qwen3 4B Q4_K - Medium")."""
    return _text(partial(llama_cpp.llama_model_desc, model))


def number(metadata: Mapping[str, str], key: str, kind: type[T]) -> T | None:
    """A numeric value, or None where the model has none or an unreadable one."""
    try:
        return kind(metadata[key])
    except (KeyError, ValueError):
        return None


def _text(read: Callable[[Any, int], int]) -> str:
    size = 256
    while True:
        buffer = ctypes.create_string_buffer(size)
        length = int(read(buffer, size))
        if length < size:
            return buffer.raw[: max(length, 0)].decode("utf-8", "replace")
        size = length + 1
