"""GGUF files, checked before native code sees them.

llama.cpp maps a file and trusts much of its header; a cut or forged one can end the process instead of raising. All of
the header is read here, in pure Python, and compared with the file's size.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Block sizes: ggml's ``ggml-common.h``.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.artifacts.reader import Reader, open_reader
from llama_pajamas_run_core.errors import BadInput, LoadError

MAGIC: Final = b"GGUF"

#: Tensor types: id -> (values in a block, bytes of a block).
BLOCKS: Final[Mapping[int, tuple[int, int]]] = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    9: (32, 40),  # Q8_1
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    15: (256, 292),  # Q8_K
    16: (256, 66),  # IQ2_XXS
    17: (256, 74),  # IQ2_XS
    18: (256, 98),  # IQ3_XXS
    19: (256, 50),  # IQ1_S
    20: (32, 18),  # IQ4_NL
    21: (256, 110),  # IQ3_S
    22: (256, 82),  # IQ2_S
    23: (256, 136),  # IQ4_XS
    24: (1, 1),  # I8
    25: (1, 2),  # I16
    26: (1, 4),  # I32
    27: (1, 8),  # I64
    28: (1, 8),  # F64
    29: (256, 56),  # IQ1_M
    30: (1, 2),  # BF16
    34: (256, 54),  # TQ1_0
    35: (256, 66),  # TQ2_0
    39: (32, 17),  # MXFP4
}

_SCALARS: Final = {
    code: struct.Struct("<" + letter)
    for code, letter in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
_STRING, _ARRAY = 8, 9
_U32, _U64, _COUNTS = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<QQ")
_SPLIT = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf$")
_MAX_KEY, _MAX_DIMENSIONS, _MAX_DEPTH = 65_535, 4, 8


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """What a GGUF file says about itself.

    Attributes:
        version: of the format.
        architecture: "llama", "qwen3", "clip", ...
        metadata: keys with their values; of an array only its length, as an int under "KEY.length".
        tensors: how many there are in this file.
        parts: the files of a model that is split over several, in order; else the file alone.
    """

    version: int
    architecture: str
    metadata: Mapping[str, Any]
    tensors: int
    parts: tuple[Path, ...]


def check_gguf(path: str | PathLike[str]) -> GGUFHeader:
    """Read a GGUF file's header and see that the file holds everything it lists.

    Args:
        path: the file; of a model split over several, the first one.

    Returns:
        the header. For a split model all parts were checked.

    Raises:
        BadInput: there is no such file, it is no GGUF file, or not the first part of a split model.
        LoadError: it is damaged, or a part is missing; the message names the file and what is wrong.
    """
    path = Path(path)
    header = _read(path)
    count = header.metadata.get("split.count", 0)
    if not isinstance(count, int) or count <= 1:
        return header
    number = header.metadata.get("split.no", 0)
    if not isinstance(number, int):
        raise LoadError(f"{path} is a damaged GGUF file: its split.no is {number!r}.")
    parts = _parts(path, count, number)
    for part in parts[1:]:
        _read(part)
    return GGUFHeader(header.version, header.architecture, header.metadata, header.tensors, parts)


def _parts(path: Path, count: int, number: int) -> tuple[Path, ...]:
    named = _SPLIT.match(path.name)
    if named is None or int(named["count"]) != count:
        raise LoadError(
            f"{path} is part {number + 1} of {count} of a split model, but its name does not say so.",
            hint=f"Name the parts NAME-00001-of-{count:05}.gguf and so on.",
        )
    parts = tuple(path.with_name(f"{named['stem']}-{part:05}-of-{count:05}.gguf") for part in range(1, count + 1))
    if number != 0:
        raise BadInput(f"{path} is part {number + 1} of {count} of a split model.", hint=f"Load the first: {parts[0]}.")
    if missing := [part.name for part in parts if not part.exists()]:
        raise LoadError(f"{path} is one of {count} parts; missing beside it: {', '.join(missing)}.")
    return parts


def _read(path: Path) -> GGUFHeader:
    with open_reader(path, "GGUF file") as reader:
        magic = reader.take(4, "the magic number") if reader.end >= 4 else b""
        if magic != MAGIC:
            raise BadInput(f"{path} is no GGUF file: it begins with {magic!r}.", param="model")
        (version,) = reader.unpack(_U32, "the version")
        if version in (0x02000000, 0x03000000):
            raise reader.fail("it is for big-endian machines")
        if version not in (2, 3):
            raise reader.fail(f"its version is {version}; known are 2 and 3", "Convert the model again.")
        n_tensors, n_pairs = reader.unpack(_COUNTS, "the counts")
        # A pair takes 13 bytes and a tensor 32 at the least: nonsense is told before anything is allocated for it.
        if n_pairs * 13 + n_tensors * 32 > reader.end:
            raise reader.fail(
                f"it claims {n_tensors:,} tensors and {n_pairs:,} keys, more than its {reader.end:,} bytes hold"
            )
        metadata = _metadata(reader, n_pairs)
        _tensors(reader, n_tensors, _alignment(reader, metadata))
        architecture = metadata.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            if "split.no" in metadata and metadata["split.no"]:  # only the first part carries the model's metadata
                architecture = ""
            else:
                raise reader.fail("the key general.architecture is missing")
        return GGUFHeader(version, architecture, metadata, n_tensors, (path,))


def _metadata(reader: Reader, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for index in range(count):
        key = _string(reader, f"key {index + 1} of {count}", _MAX_KEY)
        if key in metadata:
            raise reader.fail(f"the key {key} appears twice")
        (kind,) = reader.unpack(_U32, f"the type of {key}")
        if kind == _ARRAY:
            metadata[f"{key}.length"] = _skip_array(reader, key)
        elif kind == _STRING:
            metadata[key] = _string(reader, f"the value of {key}")
        elif kind in _SCALARS:
            (metadata[key],) = reader.unpack(_SCALARS[kind], f"the value of {key}")
        else:
            raise reader.fail(f"the key {key} is of the unknown type {kind}")
    return metadata


def _string(reader: Reader, what: str, limit: int | None = None) -> str:
    (length,) = reader.unpack(_U64, f"the length of {what}")
    if limit is not None and length > limit:
        raise reader.fail(f"{what} is {length:,} bytes long")
    # A value may hold any bytes (llama.cpp does not check): only names have to be text.
    return reader.take(length, what).decode("utf-8", "replace")


def _skip_array(reader: Reader, key: str, depth: int = 0) -> int:
    (kind,) = reader.unpack(_U32, f"the type of {key}")
    (count,) = reader.unpack(_U64, f"the length of {key}")
    what = f"the list {key}"
    if kind in _SCALARS:
        reader.skip(count * _SCALARS[kind].size, what)
    elif kind == _STRING:
        _skip_strings(reader, count, what)
    elif kind == _ARRAY and depth < _MAX_DEPTH and count * 12 <= reader.end - reader.at:
        for _ in range(count):
            _skip_array(reader, key, depth + 1)
    else:
        raise reader.fail(f"{what} cannot be read: {count:,} items of type {kind}")
    return int(count)


def _skip_strings(reader: Reader, count: int, what: str) -> None:
    """Pass over strings. A vocabulary has hundreds of thousands, so this loop is written for speed."""
    if count * 8 > reader.end - reader.at:
        raise reader.cut(reader.at + count * 8, what)
    data, at, end, unpack = reader.data, reader.at, reader.end, _U64.unpack_from
    for _ in range(count):
        if at + 8 > end:
            raise reader.cut(at + 8, what)
        at += 8 + unpack(data, at)[0]
        if at > end:
            raise reader.cut(at, what)
    reader.at = at


def _alignment(reader: Reader, metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
        raise reader.fail(f"general.alignment is {alignment}, not a power of two")
    return alignment


def _tensors(reader: Reader, count: int, alignment: int) -> None:
    ends: list[tuple[int, str]] = []
    names: set[str] = set()
    for index in range(count):
        name = _string(reader, f"the name of tensor {index + 1} of {count}", _MAX_KEY)
        if name in names:
            raise reader.fail(f"the tensor {name} appears twice")
        names.add(name)
        what = f"the entry of the tensor {name}"
        (dimensions,) = reader.unpack(_U32, what)
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise reader.fail(f"the tensor {name} has {dimensions} dimensions")
        shape = reader.unpack(struct.Struct(f"<{dimensions}Q"), what)
        (kind,) = reader.unpack(_U32, what)
        (offset,) = reader.unpack(_U64, what)
        if offset % alignment:
            raise reader.fail(f"the tensor {name} lies at {offset:,}, which is not a multiple of {alignment}")
        ends.append((offset + _bytes(reader, name, shape, kind), name))
    start = -(-reader.at // alignment) * alignment
    if ends:
        last, name = max(ends)
        if start + last > reader.end:
            raise reader.cut(start + last, "its last tensor " + name if count == 1 else "with its tensors it")


def _bytes(reader: Reader, name: str, shape: tuple[int, ...], kind: int) -> int:
    """A tensor's size in bytes; of a type that is not known here, at least one."""
    if prod(shape) >= 1 << 62:
        raise reader.fail(f"the tensor {name} has the impossible shape {'x'.join(map(str, shape))}")
    if kind not in BLOCKS:
        return 1
    values, size = BLOCKS[kind]
    if shape[0] % values:
        raise reader.fail(f"the tensor {name} has rows of {shape[0]:,} values, not a multiple of {values}")
    return prod(shape) // values * size
