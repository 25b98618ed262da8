"""From a package on disk to its program as plain data."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from llama_pajamas_run_core.errors import LoadError, Unsupported
from llama_pajamas_run_coreml._sdk import coremltools
from llama_pajamas_run_coreml.evaluate.program import Block, Constant, Function, Operand, Operation, Package, Result
from llama_pajamas_run_coreml.evaluate.types import HELD, Array, TensorType
from llama_pajamas_run_coreml.evaluate.weights import WeightFile, unpacked
from llama_pajamas_run_coreml.interface import described, read_spec, spec_file

_TYPES: Final = {
    "BOOL": "bool", "STRING": "string", "FLOAT16": "fp16", "FLOAT32": "fp32", "FLOAT64": "fp64", "INT4": "int4",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64", "UINT1": "uint1", "UINT2": "uint2",
    "UINT3": "uint3", "UINT4": "uint4", "UINT6": "uint6", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32",
    "UINT64": "uint64",
}  # fmt: skip
#: What a path to weights begins with: the folder of the specification.
_MODEL_PATH: Final = "@model_path/"


def read_package(path: Path) -> Package:
    """Read a package's program, with its weights.

    Args:
        path: an .mlpackage, or an .mlmodel file that holds an ML Program.

    Raises:
        BadInput: there is no such package.
        LoadError: it is damaged.
        Unsupported: it holds no ML Program, or a value of a type that is not understood.
    """
    spec = read_spec(path)
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise Unsupported(
            f"{path} holds a {kind or 'model of an unknown kind'}, not an ML Program.",
            hint="Convert the model again with convert_to='mlprogram'; leave suppression of doubles (NMS) out.",
            param="model",
        )
    model = described(path, spec)
    reader = _Reader(path, spec_file(path).parent)
    functions = {name: reader.function(one) for name, one in spec.mlProgram.functions.items()}
    if model.default not in functions:
        raise LoadError(f"{path} is damaged: its program has no function '{model.default}'.")
    return Package(path, functions, model.interfaces, model.default, model.metadata, model.version)


@dataclass(slots=True)
class _Reader:
    """Turns protobuf messages into plain data.

    Attributes:
        path: the package, for messages.
        folder: where the specification lies.
        files: the files of weights that were opened.
    """

    path: Path
    folder: Path
    files: dict[Path, WeightFile] = field(default_factory=dict)

    def function(self, message: Any) -> Function:
        body = message.block_specializations[message.opset] if message.block_specializations else None
        if body is None or message.opset not in message.block_specializations:
            raise LoadError(f"{self.path} is damaged: a function has no body.")
        return Function(self.results(message.inputs), self.block(body), str(message.opset))

    def block(self, message: Any) -> Block:
        operations = tuple(self.operation(one) for one in message.operations)
        return Block(self.results(message.inputs), operations, tuple(message.outputs))

    def operation(self, message: Any) -> Operation:
        inputs = {name: self.operands(argument) for name, argument in message.inputs.items()}
        for name, value in message.attributes.items():
            if name != "name" and name not in inputs:  # a name is for people
                inputs[name] = (self.constant(value),)
        blocks = tuple(self.block(one) for one in message.blocks)
        return Operation(str(message.type), inputs, self.results(message.outputs), blocks)

    def operands(self, argument: Any) -> tuple[Operand, ...]:
        return tuple(
            one.name if one.WhichOneof("binding") == "name" else self.constant(one.value) for one in argument.arguments
        )

    def results(self, listed: Iterable[Any]) -> tuple[Result, ...]:
        return tuple(Result(one.name, self.type(one.type)) for one in listed)

    def type(self, message: Any) -> TensorType:
        kind = message.WhichOneof("type")
        if kind == "stateType":
            inner = self.type(message.stateType.wrappedType)
            return TensorType(inner.dtype, inner.shape, state=True)
        if kind != "tensorType":
            raise Unsupported(f"{self.path} uses values of the kind {kind}, which are not understood.", param="model")
        tensor = message.tensorType
        number = coremltools().proto.MIL_pb2.DataType.Name(tensor.dataType)
        if number not in _TYPES:
            raise Unsupported(f"{self.path} uses the type {number}, which is not understood.", param="model")
        if tensor.rank < 0 or any(
            one.WhichOneof("dimension") == "unknown" and one.unknown.variadic for one in tensor.dimensions
        ):
            return TensorType(_TYPES[number], None)
        return TensorType(_TYPES[number], tuple(_size(one) for one in tensor.dimensions))

    def constant(self, value: Any) -> Constant:
        if value.type.WhichOneof("type") == "dictionaryType":
            return Constant(None, "")
        kind = self.type(value.type)
        shape = kind.shape
        if shape is None or None in shape:
            raise LoadError(f"{self.path} is damaged: a constant of the type {kind} has no size.")
        sizes = tuple(size or 0 for size in shape)
        if value.WhichOneof("value") == "blobFileValue":
            stored = self.weights(value.blobFileValue.fileName).read(value.blobFileValue.offset, kind.dtype, sizes)
            return Constant(kind, stored.astype(HELD[kind.dtype], copy=False))
        return Constant(kind, self.immediate(value.immediateValue.tensor, kind, sizes))

    def immediate(self, tensor: Any, kind: TensorType, shape: tuple[int, ...]) -> "Array | str | tuple[str, ...]":
        held = tensor.WhichOneof("value")
        if kind.dtype == "string":
            texts = tuple(str(one) for one in tensor.strings.values)
            return texts if shape else texts[0]
        count = int(np.prod(shape, dtype=np.int64))
        if held == "bytes":
            raw = np.frombuffer(tensor.bytes.values, np.uint8)
            values = unpacked(raw, kind.dtype, count)
        else:
            values = np.array(getattr(tensor, held).values if held else [])
        if values.size != count:
            raise LoadError(f"{self.path} is damaged: a constant has {values.size} values where {count} are declared.")
        return values.astype(HELD[kind.dtype]).reshape(shape)

    def weights(self, name: str) -> WeightFile:
        file = self.folder / name.removeprefix(_MODEL_PATH)
        if not file.resolve().is_relative_to(self.path.resolve() if self.path.is_dir() else self.folder.resolve()):
            raise LoadError(f"{self.path} names weights outside itself ({name}), which is not allowed.")
        if file not in self.files:
            self.files[file] = WeightFile(file)
        return self.files[file]


def _size(dimension: Any) -> int | None:
    return int(dimension.constant.size) if dimension.WhichOneof("dimension") == "constant" else None
