"""A package's program as plain data, apart from how it is stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llama_pajamas_run_coreml.evaluate.types import Array, TensorType
from llama_pajamas_run_coreml.interface import Interface


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that the program itself holds.

    Attributes:
        type: its type; None for a dictionary, which only attributes are.
        value: as :mod:`types` holds it; a text as str, several texts as a tuple.
    """

    type: TensorType | None
    value: "Array | str | tuple[str, ...]"


#: An operand: the name of an earlier result, or a value that stands in its place.
Operand = str | Constant


@dataclass(frozen=True, slots=True)
class Result:
    """A named result, an input of a function or of a block: with its declared type."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        kind: what it does ("conv").
        inputs: its operands by the names of the parameters.
        outputs: what it makes.
        blocks: the blocks of a branch or a loop.
    """

    kind: str
    inputs: Mapping[str, tuple[Operand, ...]]
    outputs: tuple[Result, ...]
    blocks: "tuple[Block, ...]" = ()


@dataclass(frozen=True, slots=True)
class Block:
    """Operations in order, with the names that come in and go out."""

    inputs: tuple[Result, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the program; packages with several share weights between them."""

    inputs: tuple[Result, ...]
    body: Block
    opset: str


@dataclass(frozen=True, slots=True)
class Package:
    """A Core ML package with an ML Program.

    Attributes:
        path: where it lies.
        functions: by name.
        interfaces: by the same names.
        default: the function that runs unless another is asked for.
        metadata: the user-defined metadata.
        version: Core ML's specification version: 8 is iOS 17 and macOS 14, 9 is iOS 18 and macOS 15.
    """

    path: Path
    functions: Mapping[str, Function]
    interfaces: Mapping[str, Interface]
    default: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    version: int = 0
