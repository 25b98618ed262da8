"""ONNX files, looked into without the onnx package.

An ONNX file is a protobuf message (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Only the envelope is
walked: enough to tell it from other files, to see that it is whole, to read its metadata and to find the files that
hold its weights.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PureWindowsPath
from typing import Final

from llama_pajamas_run_core.artifacts.reader import Reader, open_reader
from llama_pajamas_run_core.errors import BadInput, LoadError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Field numbers of ModelProto, GraphProto, TensorProto and StringStringEntryProto.
_IR_VERSION, _GRAPH, _METADATA = 1, 7, 14
_INITIALIZER: Final = 5
_EXTERNAL_DATA: Final = 13
_KEY, _VALUE = 1, 2
#: Words by which configurations and metadata tell what a vision model does.
_SIGNS: Final = (
    ("detect", "detect"), ("segment", "detect"), ("segment", "segment"), ("pose", "detect"),
    ("yolo", "detect"), ("classif", "classify"), ("embed", "embed"), ("clip", "embed"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ONNXHeader:
    """What an ONNX file says about itself.

    Attributes:
        metadata: its metadata_props; Ultralytics puts names, task and image size there.
        external: the files beside it that hold weights.
    """

    metadata: Mapping[str, str]
    external: tuple[Path, ...]


def check_onnx(path: str | PathLike[str]) -> ONNXHeader:
    """See that a file is ONNX, whole, and that the files of its weights are there and long enough.

    Raises:
        BadInput: there is no such file, or it is no ONNX file.
        LoadError: it is damaged, or a file with its weights is; the message names the file and what is wrong.
    """
    path = Path(path)
    with open_reader(path, "ONNX file") as reader:
        if not looks_like_onnx(bytes(reader.data[:16])):
            raise BadInput(f"{path} is no ONNX file.", param="model")
        metadata: dict[str, str] = {}
        needed: dict[str, int] = {}
        graphs = 0
        for number, wire, start, end in _fields(reader):
            if number == _GRAPH and wire == _BYTES:
                graphs += 1
                for location, size in _external(Reader(path, reader.data, reader.kind, start, end)):
                    needed[location] = max(needed.get(location, 0), size)
            elif number == _METADATA and wire == _BYTES:
                pair = _pair(Reader(path, reader.data, reader.kind, start, end))
                metadata[pair[0]] = pair[1]
        if graphs != 1:
            raise reader.fail("it holds no graph")
        return ONNXHeader(metadata, tuple(_check_file(path, name, size) for name, size in needed.items()))


def vision_abilities(path: str | PathLike[str]) -> frozenset[str]:
    """What a vision model can do, as far as the files beside it and its metadata tell.

    Args:
        path: the ONNX file or TensorRT engine, or the folder it lies in.

    Returns:
        some of "detect", "segment", "classify", "embed" and "embed_text"; empty where nothing tells.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    graphs = sorted((*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx"))) if path.is_dir() else [path]
    if path.suffix == ".engine":
        graphs = []
    words = [check_onnx(graph).metadata.get("task", "") for graph in graphs]  # Ultralytics
    words += [_engine_task(engine) for engine in (sorted(folder.glob("*.engine")) if path.is_dir() else [path])]
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        words += [str(config.get(key, "")) for key in ("task", "model_type", "architectures")]
    except (OSError, ValueError, AttributeError, RecursionError):
        pass
    found = {ability for sign, ability in _SIGNS if any(sign in word.lower() for word in words)}
    if "embed" in found and any("text" in graph.stem for graph in graphs):
        found.add("embed_text")
    return frozenset(found)


def _engine_task(engine: Path) -> str:
    """What the record beside a TensorRT engine says that it does; "" where there is none."""
    try:
        return str(json.loads(engine.with_name(engine.name + ".json").read_text("utf-8"))["description"]["task"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def looks_like_onnx(head: bytes) -> bool:
    """Whether a file that begins so may be ONNX: ir_version first, a small number, then another field of a model."""
    return (
        len(head) >= 4 and head[0] == 0x08 and 0 < head[1] < 64 and (head[2] >> 3) in (2, 3, 4, 5, 6, 7, 8, 14, 20, 25)
    )


def _check_file(model: Path, location: str, size: int) -> Path:
    # As Windows reads it, which takes both slashes and has drives: the model may be meant to reach outside there.
    if PureWindowsPath(location).anchor or ".." in PureWindowsPath(location).parts:
        raise LoadError(f"{model} keeps weights in {location!r}, outside its own folder, which is not allowed.")
    path = model.parent / location
    if not path.is_file():
        raise LoadError(f"{model} keeps its weights in {location}, which is missing beside it.")
    if (actual := path.stat().st_size) < size:
        raise LoadError(f"{path} ends at {actual:,} bytes, but {model.name} needs {size:,}.", hint="Fetch it again.")
    return path


def _external(graph: Reader) -> Iterator[tuple[str, int]]:
    """(file, bytes needed in it) for each tensor of a graph whose values lie outside."""
    for number, wire, start, end in _fields(graph):
        if number != _INITIALIZER or wire != _BYTES:
            continue
        entries: dict[str, str] = {}
        for inner, kind, first, last in _fields(Reader(graph.path, graph.data, graph.kind, start, end)):
            if inner == _EXTERNAL_DATA and kind == _BYTES:
                key, value = _pair(Reader(graph.path, graph.data, graph.kind, first, last))
                entries[key] = value
        if "location" in entries:
            try:
                size = int(entries.get("offset") or 0) + int(entries.get("length") or 0)
            except ValueError:
                raise graph.fail("the place of a tensor's values is no number") from None
            yield entries["location"], size


def _pair(message: Reader) -> tuple[str, str]:
    found = {_KEY: "", _VALUE: ""}
    for number, wire, start, end in _fields(message):
        if number in found and wire == _BYTES:
            found[number] = bytes(message.data[start:end]).decode("utf-8", "replace")
    return found[_KEY], found[_VALUE]


def _fields(message: Reader) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, start, end) of each field of a message."""
    while message.at < message.end:
        tag = _varint(message)
        number, wire = tag >> 3, tag & 7
        start = message.at
        if wire == _VARINT:
            _varint(message)
        elif wire == _BYTES:
            size = _varint(message)
            start = message.skip(size, f"field {number}")
        elif wire in (_FIXED64, _FIXED32):
            message.skip(8 if wire == _FIXED64 else 4, f"field {number}")
        else:
            raise message.fail(f"at byte {start:,} it is no protobuf message")
        yield number, wire, start, message.at


def _varint(message: Reader) -> int:
    value = 0
    for shift in range(0, 70, 7):
        at = message.skip(1, "a number")
        byte = message.data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise message.fail(f"at byte {message.at:,} it is no protobuf message")
