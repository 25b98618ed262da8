"""Which packages make up a Core ML model."""

from pathlib import Path
from typing import Final

from llama_pajamas_run_core.errors import BadInput

#: A compiled model is taken before the package that it was made from.
SUFFIXES: Final = (".mlmodelc", ".mlpackage", ".mlmodel")


def find_package(path: Path, name: str) -> Path:
    """Find one package of a model.

    Args:
        path: the package itself, compiled or not, or the folder of several.
        name: which of several ("image", "encoder", ...).

    Raises:
        BadInput: there is none.
    """
    if not path.exists():
        raise BadInput(f"There is no Core ML model {path}.", param="model")
    if path.is_file() or (path / "Manifest.json").is_file() or (path / "coremldata.bin").is_file():
        return path
    for suffix in SUFFIXES:
        if (path / f"{name}{suffix}").exists():
            return path / f"{name}{suffix}"
    held = ", ".join(sorted(one.name for one in path.iterdir())[:8]) or "nothing"
    raise BadInput(f"{path} holds no {name}.mlpackage, but {held}.", param="model")
