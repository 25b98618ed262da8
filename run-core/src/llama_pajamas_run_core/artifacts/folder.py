"""Folders as Hugging Face's ``save_pretrained`` writes them: what every reader of one has to do."""

import json
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.artifacts.safetensors import check_safetensors
from llama_pajamas_run_core.errors import BadInput, LoadError

_INDEX: Final = "model.safetensors.index.json"


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is no file.

    Raises:
        LoadError: it is no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LoadError(f"{path} is no JSON: {error}.", hint="Fetch it again.") from error
    if not isinstance(value, dict):
        raise LoadError(f"{path} is no JSON object.")
    return value


def inside(folder: Path, name: Any, named_by: str) -> Path:
    """A file that another file of a folder names.

    Args:
        folder: which.
        name: of the file.
        named_by: the file that names it.

    Raises:
        LoadError: it lies outside the folder, where a download must not make us read.
    """
    path = folder / str(name)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise LoadError(f"{folder / named_by} names {name!r}, outside its own folder, which is not allowed.")
    return path


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, whole or in shards, each checked.

    Raises:
        BadInput: there are none.
        LoadError: one is damaged, or the index is.
    """
    if (folder / _INDEX).is_file():
        named = read_json(folder / _INDEX).get("weight_map")
        if not isinstance(named, dict):
            raise LoadError(f"{folder / _INDEX} names no tensors.", hint="Fetch it again.")
        files = sorted({inside(folder, name, _INDEX) for name in named.values()})
    else:
        whole = folder / "model.safetensors"
        files = [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadInput(
            f"{folder} has no weights in safetensors.",
            hint="Save the model with save_pretrained(..., safe_serialization=True).",
            param="model",
        )
    for path in files:
        check_safetensors(path)
    return files
