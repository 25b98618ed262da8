"""Reading what the command line names, with errors that say what to do."""

import sys
from pathlib import Path

from llama_pajamas_run_core.errors import BadInput


def read(path: Path) -> bytes:
    """The bytes of a file, or of standard input for ``-``.

    Raises:
        BadInput: the file cannot be read.
    """
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from None


def write(path: Path, data: bytes) -> None:
    """Write a file, or standard output for ``-``.

    Raises:
        BadInput: the file cannot be written.
    """
    if str(path) == "-":
        sys.stdout.buffer.write(data)
        return
    try:
        path.write_bytes(data)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}.") from None
