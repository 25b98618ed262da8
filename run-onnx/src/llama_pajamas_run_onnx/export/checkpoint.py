"""Hugging Face checkpoints: a folder with config.json and safetensors, read without PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.folder import read_json, weight_files
from llama_pajamas_run_core.errors import BadInput, LoadError, MissingDependency

try:
    from safetensors import safe_open
except ImportError as error:
    raise MissingDependency(
        "Exporting to ONNX", package="safetensors", install="uv pip install 'llama-pajamas-run-onnx[export]'"
    ) from error


class Checkpoint:
    """A folder as ``save_pretrained`` writes it. Tensors are read when they are asked for.

    Args:
        folder: with config.json and model.safetensors, whole or in shards.

    Raises:
        BadInput: there is no such folder, or it is no checkpoint.
        LoadError: a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise BadInput(f"There is no folder {folder}.", param="model")
        if not (folder / "config.json").is_file():
            raise BadInput(
                f"{folder} has no config.json.", hint="A checkpoint is a folder as save_pretrained writes it."
            )
        self.folder = folder
        #: config.json.
        self.config = read_json(folder / "config.json")
        #: How images are prepared; empty where nothing tells.
        self.preprocessor = _preprocessor(folder)
        self._places = self._find()

    @property
    def architecture(self) -> str:
        """The class that wrote it ("ViTForImageClassification"); empty where config.json does not tell."""
        names = self.config.get("architectures") or [""]
        return str(names[0] or "")

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor by its name, in float32.

        Raises:
            LoadError: there is none of that name.
        """
        if name not in self._places:
            raise LoadError(f"{self.folder} has no tensor {name}.", hint="Its config.json may belong to another model.")
        with safe_open(self._places[name], framework="numpy") as file:
            array: npt.NDArray[Any] = file.get_tensor(name)
        return array.astype(np.float32)

    def optional(self, name: str) -> npt.NDArray[np.float32] | None:
        """A tensor by its name, in float32, or None where there is none of that name."""
        return self.tensor(name) if name in self else None

    def _find(self) -> Mapping[str, Path]:
        """Which file each tensor is in."""
        places: dict[str, Path] = {}
        for path in weight_files(self.folder):
            with safe_open(path, framework="numpy") as file:
                places.update(dict.fromkeys(file.keys(), path))
        return places


def _preprocessor(folder: Path) -> dict[str, Any]:
    """preprocessor_config.json, or the part of processor_config.json that took its place in newer checkpoints."""
    if (folder / "preprocessor_config.json").is_file():
        return read_json(folder / "preprocessor_config.json")
    part = read_json(folder / "processor_config.json").get("image_processor")
    return part if isinstance(part, dict) else {}
