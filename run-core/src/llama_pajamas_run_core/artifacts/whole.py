"""Files and folders that are made whole: written beside their place, and moved there once nothing is missing."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llama_pajamas_run_core.errors import BadInput


def check_target(target: Path, *, source: Path, overwrite: bool = False) -> None:
    """See, before work is spent on it, that a target can be made.

    Args:
        target: the file or folder to make.
        source: what it is made from.
        overwrite: whether a target that is there already may be replaced.

    Raises:
        BadInput: the target is there and may not be replaced, or replacing it would take the source away.
    """
    if target.exists() and not overwrite:
        raise BadInput(f"{target} exists already.", hint="Name another, or ask to overwrite it.", param="target")
    if source.resolve().is_relative_to(target.resolve()):
        raise BadInput(f"{target} holds what it is to be made from.", hint="Name another target.", param="target")


@contextmanager
def made_whole(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A path to write a file or a folder to, which becomes the target at the end of the block; never half of one.

    Args:
        target: the file or folder to make.
        overwrite: whether a target that is there already is replaced.

    Raises:
        BadInput: nothing can be written beside the target.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    except OSError as error:
        raise BadInput(f"{target} cannot be written: {error}.", param="target") from error
    try:
        part = folder / target.name
        yield part
        if overwrite and target.is_dir():
            shutil.rmtree(target)
        os.replace(part, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
