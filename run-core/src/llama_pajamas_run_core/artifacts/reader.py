"""Reading binary headers without trusting them."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from llama_pajamas_run_core.errors import BadInput, LoadError


class Reader:
    """A cursor over a file's bytes; reading past the end is an error that says where and for what.

    Args:
        path: the file, for messages.
        data: its bytes.
        kind: what the file should be, for messages ("GGUF file").
        start: where to begin.
        end: where to stop; the end of the data if None.
    """

    def __init__(self, path: Path, data: mmap | bytes, kind: str, start: int = 0, end: int | None = None) -> None:
        self.path, self.data, self.kind = path, data, kind
        self.at = start
        self.end = len(data) if end is None else end

    def fail(self, problem: str, hint: str | None = None) -> LoadError:
        """The error that says what is wrong with the file."""
        return LoadError(f"{self.path} is a damaged {self.kind}: {problem}.", hint=hint)

    def cut(self, needs: int, what: str) -> LoadError:
        """The error for a file that ends too early."""
        return self.fail(
            f"it ends at {self.end:,} bytes, {what} needs {needs:,}",
            "It may have been cut short while it was copied or downloaded: fetch it again.",
        )

    def skip(self, count: int, what: str) -> int:
        """Pass over bytes.

        Returns:
            where they begin.

        Raises:
            LoadError: the file ends before.
        """
        at = self.at
        if count < 0 or count > self.end - at:
            raise self.cut(at + max(count, 0), what)
        self.at = at + count
        return at

    def take(self, count: int, what: str) -> bytes:
        """Read bytes. Raises LoadError where the file ends before."""
        at = self.skip(count, what)
        return self.data[at : at + count]

    def unpack(self, layout: struct.Struct, what: str) -> tuple[Any, ...]:
        """Read a fixed layout. Raises LoadError where the file ends before."""
        return layout.unpack_from(self.data, self.skip(layout.size, what))


@contextmanager
def open_reader(path: Path, kind: str) -> Iterator[Reader]:
    """A reader over a file, mapped into memory so that a header of a large file is cheap to read.

    Raises:
        BadInput: there is no such file, or it cannot be read.
        LoadError: it is empty.
    """
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise LoadError(f"{path} is empty.", hint="Fetch it again.")
            with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
                yield Reader(path, data, kind)
    except FileNotFoundError:
        raise BadInput(f"There is no file {path}.", param="model") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.", param="model") from error
