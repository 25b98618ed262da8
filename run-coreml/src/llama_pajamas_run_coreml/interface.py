"""What a Core ML model takes and gives, read from its package or from its compiled form."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_coreml._sdk import coremltools

_ARRAYS: Final = {65552: "fp16", 65568: "fp32", 65600: "fp64", 131080: "int8", 131104: "int32"}
_COLORS: Final = {10: "GRAY", 20: "RGB", 30: "BGR", 40: "GRAY"}
_COMPILED: Final = {"float16": "fp16", "float32": "fp32", "double": "fp64", "int32": "int32", "int8": "int8"}


@dataclass(frozen=True, slots=True)
class Feature:
    """An input, output or state as the package describes it to its user.

    Attributes:
        name: its name.
        dtype: "fp16", "fp32", "fp64", "int32", "image", or "" for one that is no tensor.
        shape: the default sizes; those of an image are [1, channels, height, width].
        ranges: for each axis the smallest and the greatest size, the greatest None where there is no limit; empty
            where only ``shapes`` may be.
        shapes: the only shapes that may be, where they are enumerated.
        colors: "RGB", "BGR" or "GRAY" of an image.
        optional: whether it may be left out.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    ranges: tuple[tuple[int, int | None], ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    colors: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Interface:
    """What one function takes and gives, for its user."""

    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: tuple[Feature, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """What a model says of itself.

    Attributes:
        path: the package or the compiled model.
        compiled: whether it is compiled.
        interfaces: what each of its functions takes and gives.
        default: the function that runs unless another is asked for.
        metadata: the user-defined metadata.
        version: Core ML's specification version: 8 is iOS 17 and macOS 14, 9 is iOS 18 and macOS 15.
    """

    path: Path
    compiled: bool
    interfaces: Mapping[str, Interface]
    default: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    version: int = 0


def read_model(path: Path) -> Model:
    """Read what a model says of itself.

    Args:
        path: an .mlpackage, an .mlmodel or an .mlmodelc.

    Raises:
        BadInput: there is no such model.
        LoadError: it is damaged.
    """
    if (path / "coremldata.bin").is_file():
        return _read_compiled(path)
    return described(path, read_spec(path))


def read_spec(path: Path) -> Any:
    """A package's specification: coremltools' protobuf message.

    Raises:
        BadInput: there is no such package.
        LoadError: it is damaged.
    """
    file = spec_file(path)
    proto = coremltools().proto.Model_pb2
    message = proto.Model()
    try:
        message.ParseFromString(file.read_bytes())
    except Exception as error:  # protobuf's DecodeError is another class in each of its versions
        raise LoadError(f"{path} is damaged: its model is no Core ML model.", hint="Fetch it again.") from error
    if not message.specificationVersion:
        raise LoadError(f"{path} is damaged: its model is empty.", hint="Fetch it again.")
    return message


def spec_file(path: Path) -> Path:
    """The file of the specification in a package.

    Raises:
        BadInput: there is no such package.
        LoadError: it is damaged.
    """
    if not path.exists():
        raise BadInput(f"There is no Core ML model {path}.", param="model")
    if path.is_file():
        return path
    manifest = path / "Manifest.json"
    try:
        listed = json.loads(manifest.read_text("utf-8"))
        entry = listed["itemInfoEntries"][listed["rootModelIdentifier"]]["path"]
        file = path / "Data" / str(entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadError(f"{path} is no whole package: {manifest.name}: {error!r}.", hint="Fetch it again.") from error
    if not file.resolve().is_relative_to(path.resolve()) or not file.is_file():
        raise LoadError(f"{path} is damaged: it has no {entry}.", hint="Fetch it again.")
    return file


def described(path: Path, spec: Any) -> Model:
    """What a specification says."""
    about = spec.description
    if len(about.functions):
        interfaces = {one.name: _interface(one) for one in about.functions}
        default = about.defaultFunctionName or next(iter(interfaces))
    else:
        interfaces, default = {"main": _interface(about)}, "main"
    return Model(path, False, interfaces, default, dict(about.metadata.userDefined), spec.specificationVersion)


def _interface(about: Any) -> Interface:
    return Interface(_features(about.input), _features(about.output), _features(about.state))


def _features(listed: Iterable[Any]) -> tuple[Feature, ...]:
    return tuple(_feature(one) for one in listed)


def _feature(one: Any) -> Feature:
    kind, optional = one.type.WhichOneof("Type"), bool(one.type.isOptional)
    if kind == "imageType":
        image = one.type.imageType
        colors = _COLORS.get(image.colorSpace, "RGB")
        return Feature(one.name, "image", (1, 1 if colors == "GRAY" else 3, image.height, image.width), colors=colors)
    if kind == "stateType":
        return _array(one.name, one.type.stateType.arrayType, optional)
    if kind == "multiArrayType":
        return _array(one.name, one.type.multiArrayType, optional)
    return Feature(one.name, "", (), optional=optional)


def _array(name: str, array: Any, optional: bool) -> Feature:
    shape = tuple(int(size) for size in array.shape)
    dtype = _ARRAYS.get(array.dataType, "")
    if array.WhichOneof("ShapeFlexibility") == "enumeratedShapes":
        shapes = tuple(tuple(int(size) for size in one.shape) for one in array.enumeratedShapes.shapes)
        return Feature(name, dtype, shape, shapes=shapes, optional=optional)
    ranges: tuple[tuple[int, int | None], ...] = tuple((size, size) for size in shape)
    if array.WhichOneof("ShapeFlexibility") == "shapeRange":
        given = array.shapeRange.sizeRanges
        ranges = tuple((int(one.lowerBound), int(one.upperBound) if one.upperBound > 0 else None) for one in given)
    return Feature(name, dtype, shape, ranges=ranges, optional=optional)


def _read_compiled(path: Path) -> Model:
    """The metadata.json that Core ML's compiler writes."""
    file = path / "metadata.json"
    try:
        (about,) = json.loads(file.read_text("utf-8"))
        interface = Interface(
            tuple(_schema(one) for one in about.get("inputSchema", ())),
            tuple(_schema(one) for one in about.get("outputSchema", ())),
            tuple(_schema(one) for one in about.get("stateSchema", ())),
        )
        metadata = {str(key): str(value) for key, value in (about.get("userDefinedMetadata") or {}).items()}
        version = int(about.get("specificationVersion", 0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(
            f"{path} cannot be used: its {file.name} says nothing that is understood ({error!r}).",
            hint="Load the .mlpackage that it was compiled from.",
        ) from error
    return Model(path, True, {"main": interface}, "main", metadata, version)


def _schema(one: Mapping[str, Any]) -> Feature:
    shape = tuple(int(size) for size in json.loads(one.get("shape") or "[]"))
    if one.get("type") == "Image":
        colors = "GRAY" if "Gray" in str(one.get("colorspace")) else "BGR" if one.get("colorspace") == "BGR" else "RGB"
        size = (1, 1 if colors == "GRAY" else 3, int(one["height"]), int(one["width"]))
        return Feature(one["name"], "image", size, colors=colors)
    dtype = _COMPILED.get(str(one.get("dataType")).lower(), "")
    optional = one.get("isOptional") == "1"
    if one.get("enumeratedShapes"):
        shapes = tuple(tuple(int(size) for size in each) for each in json.loads(one["enumeratedShapes"]))
        return Feature(one["name"], dtype, shape, shapes=shapes, optional=optional)
    ranges: tuple[tuple[int, int | None], ...] = tuple((size, size) for size in shape)
    if one.get("shapeRange"):
        given = json.loads(one["shapeRange"])
        ranges = tuple((int(low), int(high) if high > 0 else None) for low, high in given)
    return Feature(one["name"], dtype, shape, ranges=ranges, optional=optional)
