"""safetensors files, checked without the safetensors package.

Format: https://github.com/huggingface/safetensors#format: the header's length, the header as JSON, the values.
"""

import json
import struct
from collections.abc import Mapping
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.artifacts.reader import Reader, open_reader
from llama_pajamas_run_core.errors import BadInput

_U64: Final = struct.Struct("<Q")
_MAX_HEADER: Final = 100_000_000  # the limit of the reference implementation
_BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F4": 4,
}  # fmt: skip


def check_safetensors(path: str | PathLike[str]) -> Mapping[str, str]:
    """Read a safetensors file's header and see that the file holds every tensor that it lists.

    Returns:
        the header's ``__metadata__``.

    Raises:
        BadInput: there is no such file, or it is no safetensors file.
        LoadError: it is damaged; the message names the file and what is wrong.
    """
    path = Path(path)
    with open_reader(path, "safetensors file") as reader:
        if not looks_like_safetensors(bytes(reader.data[:9]), reader.end):
            raise BadInput(f"{path} is no safetensors file.", param="model")
        (length,) = reader.unpack(_U64, "the header's length")
        try:
            header = json.loads(reader.take(length, "the header"))
        except (ValueError, RecursionError):
            raise reader.fail("its header is no JSON") from None
        if not isinstance(header, dict):
            raise reader.fail("its header is no JSON object")
        metadata = header.pop("__metadata__", None) or {}
        for name, entry in header.items():
            _check_tensor(reader, name, entry)
        return {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}


def looks_like_safetensors(head: bytes, size: int) -> bool:
    """Whether a file of that size that begins so may be safetensors."""
    return len(head) >= 9 and head[8:9] == b"{" and 2 <= _U64.unpack_from(head)[0] <= _MAX_HEADER and size > 8


def _check_tensor(reader: Reader, name: str, entry: Any) -> None:
    try:
        kind, shape, (start, stop) = entry["dtype"], [int(n) for n in entry["shape"]], entry["data_offsets"]
        sound = 0 <= start <= stop and min(shape, default=0) >= 0
        wanted = prod(shape) * _BITS[kind] if kind in _BITS else None
        sound = sound and (wanted is None or wanted == (stop - start) * 8)
    except (TypeError, KeyError, ValueError, OverflowError):  # JSON as Python reads it has an Infinity
        sound = False
    if not sound:
        raise reader.fail(f"the entry of the tensor {name[:80]} contradicts itself")
    if reader.at + stop > reader.end:
        raise reader.cut(reader.at + stop, f"the tensor {name[:80]}")
