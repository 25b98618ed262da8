"""Checkpoints in Hugging Face's layout: config.json, and weights in one safetensors file or several."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.safetensors import check_safetensors
from llama_pajamas_run_core.errors import BadInput, LoadError

_TYPES: Final[Mapping[str, str]] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
    "BOOL": "?", "BF16": "<u2",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's configuration and where each of its tensors lies; tensors are read when they are asked for.

    Attributes:
        folder: where it lies.
        config: config.json.
        places: for each tensor its file, type, shape, and first byte.
    """

    folder: Path
    config: Mapping[str, Any]
    places: Mapping[str, tuple[Path, str, tuple[int, ...], int]] = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> "Checkpoint":
        """Read what a folder holds.

        Raises:
            BadInput: it is no checkpoint.
            LoadError: a file is damaged.
        """
        if not (folder / "config.json").is_file():
            raise BadInput(
                f"{folder} is no checkpoint: it has no config.json.",
                hint="A checkpoint is a folder with config.json and model.safetensors.",
                param="source",
            )
        files = sorted(folder.glob("model*.safetensors"))
        if not files:
            others = ", ".join(sorted(file.name for file in folder.glob("*.bin"))) or "none"
            raise BadInput(
                f"{folder} has no model.safetensors (other weights: {others}).",
                hint="Weights that are pickles can run code when they are loaded: convert them to safetensors.",
                param="source",
            )
        places: dict[str, tuple[Path, str, tuple[int, ...], int]] = {}
        for file in files:
            check_safetensors(file)
            places |= _places(file)
        return cls(folder, read_json(folder / "config.json"), places)

    @property
    def model_type(self) -> str:
        """What config.json calls the family."""
        return str(self.config.get("model_type", ""))

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor.

        Raises:
            LoadError: there is none of that name.
        """
        return self._place(name)[2]

    def tensor(self, name: str) -> npt.NDArray[Any]:
        """A tensor, floats as float32.

        Raises:
            LoadError: there is none of that name, or of a type that numpy lacks.
        """
        file, kind, shape, start = self._place(name)
        if kind not in _TYPES:
            raise LoadError(f"{file}: the tensor {name} is of the type {kind}, which is not understood.")
        flat = np.memmap(file, dtype=_TYPES[kind], mode="r", offset=start, shape=shape) if np.prod(shape) else None
        if flat is None:
            return np.zeros(shape, np.float32)
        if kind == "BF16":  # the upper half of a float32
            return (np.asarray(flat).astype(np.uint32) << 16).view(np.float32)
        return np.asarray(flat).astype(np.float32) if kind.startswith("F") else np.array(flat)

    def _place(self, name: str) -> tuple[Path, str, tuple[int, ...], int]:
        if name not in self.places:
            raise LoadError(f"{self.folder} lacks the tensor {name}.", hint="Fetch the checkpoint again.")
        return self.places[name]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        LoadError: the file is none.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} is no JSON: {error}.", hint="Fetch it again.") from error
    if not isinstance(value, dict):
        raise LoadError(f"{path} is no JSON object.")
    return value


def _places(file: Path) -> dict[str, tuple[Path, str, tuple[int, ...], int]]:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return {
        name: (file, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }
