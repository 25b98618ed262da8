"""Where models and derived files are kept on this machine."""

import os
import sys
from pathlib import Path

#: The environment variable that moves everything to one folder.
HOME = "LLAMA_PAJAMAS_HOME"
_NAME = "llama-pajamas"


def data_dir() -> Path:
    """The folder of what cannot be made again: pulled models. It may not exist yet.

    LLAMA_PAJAMAS_HOME, else where the system keeps a user's application data.
    """
    if home := os.environ.get(HOME):
        return Path(home).expanduser().absolute()
    if sys.platform == "win32":
        return _windows() / _NAME
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / _NAME
    return _xdg("XDG_DATA_HOME", ".local/share") / _NAME


def cache_dir() -> Path:
    """The folder of what can be made again: derived artifacts. It may not exist yet.

    LLAMA_PAJAMAS_HOME/cache, else where the system keeps a user's caches.
    """
    if os.environ.get(HOME):
        return data_dir() / "cache"
    if sys.platform == "win32":
        return _windows() / _NAME / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / _NAME
    return _xdg("XDG_CACHE_HOME", ".cache") / _NAME


def _xdg(variable: str, fallback: str) -> Path:
    folder = os.environ.get(variable, "")
    # The XDG base directory specification has relative paths ignored.
    return Path(folder) if os.path.isabs(folder) else Path.home() / fallback


def _windows() -> Path:
    return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
