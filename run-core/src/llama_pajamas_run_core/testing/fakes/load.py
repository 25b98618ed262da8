"""What all fakes do when they are loaded."""

import time
from pathlib import Path

from llama_pajamas_run_core.errors import LoadError


class FakeLoad:
    """What all fakes do when they are loaded.

    Load options:
        load_seconds: how long loading takes.
        load_error: the message of the LoadError that loading ends with; "crash" for an error that nobody foresaw.
    """

    def _pretend_to_load(self, path: Path, load_seconds: float = 0.0, load_error: str | None = None) -> None:
        if not path.exists():
            raise LoadError(f"There is no file {path}.")
        time.sleep(load_seconds)
        if load_error == "crash":
            raise RuntimeError(f"segmentation fault in {path} at 0x7f00deadbeef")
        if load_error is not None:
            raise LoadError(f"{path}: {load_error}")

    def _unload(self) -> None:
        """Nothing was made."""
