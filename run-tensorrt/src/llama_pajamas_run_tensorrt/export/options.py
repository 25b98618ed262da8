"""What an export is asked for, told from words on the command line. Imports no SDK."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast

from llama_pajamas_run_core.errors import BadInput

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: Final = ("fp32", "fp16", "int8")
#: Smallest, best and largest.
Range = tuple[int, int, int]
#: Batch sizes where a graph leaves them free and nothing is said.
DEFAULT_BATCH: Final[Range] = (1, 8, 64)
#: Names the tactic sources that a build may use, separated by commas.
TACTICS: Final = "LLAMA_PAJAMAS_TENSORRT_TACTICS"


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        precision: what its layers may compute in: "fp32", "fp16" (FP32 where that is faster), "int8" (FP16 and FP32
            where they are faster, or where a layer was not quantized).
        batch: smallest, best and largest size of the first axis of every input; None leaves a fixed one as it is and
            takes 1:8:64 for a free one.
        dims: the same for free sizes by the graph's own names for them ("frames", "positions").
        shapes: for an input by name its smallest, best and largest shape; goes before ``batch`` and ``dims``.
        outputs: the outputs that are kept, by name; all if empty.
        workspace: bytes that a tactic may use for scratch memory; None leaves it to TensorRT.
        tactics: names of TensorRT's tactic sources; None takes LLAMA_PAJAMAS_TENSORRT_TACTICS, else TensorRT's own
            choice.
        level: how long TensorRT searches, 0 to 5.
        calibrator: for "int8", let TensorRT's own entropy calibrator choose scales and layers, in place of Q/DQ nodes
            in the graph. Not in TensorRT 11.
        detailed: keep the layers' names and types in the engine, for inspection.
    """

    precision: Precision = "fp16"
    batch: Range | None = None
    dims: Mapping[str, Range] = field(default_factory=dict)
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    workspace: int | None = None
    tactics: tuple[str, ...] | None = None
    level: int = 3
    calibrator: bool = False
    detailed: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise BadInput(f"precision must be fp32, fp16 or int8, not '{self.precision}'.", param="precision")
        if not 0 <= self.level <= 5:
            raise BadInput(f"level must be from 0 to 5, not {self.level}.", param="level")
        if self.workspace is not None and self.workspace < 1:
            raise BadInput(f"workspace must be at least 1 MB, not {self.workspace >> 20}.", param="workspace")
        for name, sizes in {"batch": self.batch or (1, 1, 1), **self.dims}.items():
            check_range(sizes, name)

    @property
    def tactic_names(self) -> tuple[str, ...] | None:
        """The tactic sources, the environment's where none were given; None for TensorRT's own choice."""
        if self.tactics is not None:
            return self.tactics
        given = os.environ.get(TACTICS, "").strip()
        return tuple(name.strip().upper() for name in given.split(",") if name.strip()) if given else None


def check_range(sizes: Range, name: str) -> Range:
    """Sizes that rise, each at least 1.

    Raises:
        BadInput: they do not.
    """
    low, best, high = sizes
    if not 1 <= low <= best <= high:
        raise BadInput(f"{name} must rise from 1 on, not {low}:{best}:{high}.", param=name)
    return sizes


def parse_range(text: str, name: str = "batch") -> Range:
    """Sizes from "8" or "1:8:64".

    Raises:
        BadInput: it is neither.
    """
    parts = text.split(":")
    if not all(part.isdecimal() for part in parts) or len(parts) not in (1, 3):
        raise BadInput(f"{name} must be a size or smallest:best:largest, as 1:8:64, not '{text}'.", param=name)
    sizes = [int(part) for part in parts]
    return check_range((sizes[0], sizes[0], sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1], sizes[2]), name)


def parse_dim(text: str) -> tuple[str, Range]:
    """A name and sizes from "frames=100:1500:3000".

    Raises:
        BadInput: it is not of that form.
    """
    name, found, sizes = text.partition("=")
    if not found or not name.strip():
        raise BadInput(f"A dim is NAME=smallest:best:largest, not '{text}'.", param="dim")
    return name.strip(), parse_range(sizes, name.strip())


def parse_shape(text: str) -> tuple[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """A name and shapes from "images=1x3x640x640:8x3x640x640:64x3x640x640"; one shape stands for all three.

    Raises:
        BadInput: it is not of that form.
    """
    name, found, given = text.partition("=")
    shapes = [part for part in given.split(":") if part]
    if not found or len(shapes) not in (1, 3) or not all(re.fullmatch(r"\d+(x\d+)*", shape) for shape in shapes):
        raise BadInput(
            f"A shape is INPUT=1x3x640x640 or INPUT=smallest:best:largest of such, not '{text}'.", param="shape"
        )
    sizes = [tuple(int(size) for size in shape.split("x")) for shape in shapes] * (3 if len(shapes) == 1 else 1)
    low, best, high = sizes
    rising = len(low) == len(best) == len(high) and all(
        1 <= a <= b <= c for a, b, c in zip(low, best, high, strict=True)
    )
    if not rising:
        raise BadInput(f"The shapes of '{name}' must rise along every axis: {given}.", param="shape")
    return name.strip(), (low, best, high)


def parse_precision(text: str) -> Precision:
    """A precision from "fp16" or its like, in any case.

    Raises:
        BadInput: there is no such precision.
    """
    if (word := text.lower()) not in PRECISIONS:
        raise BadInput(f"precision must be fp32, fp16 or int8, not '{text}'.", param="precision")
    return cast(Precision, word)


def default_output(model: Path, precision: str) -> Path:
    """Where the engine goes where nothing is said: beside the current folder's other files, named after the model."""
    model = model.absolute()
    name = model.name if model.is_dir() else model.stem
    if name in ("model", "onnx") and model.parent.name:
        name = model.parent.name
    return Path(f"{name}-{precision}" if model.is_dir() else f"{name}-{precision}.engine")
