"""The packages of the extra ``codecs``, imported when a file is first read or written."""

from importlib import import_module
from typing import Any

from llama_pajamas_run_core.errors import MissingDependency

_INSTALL = 'pip install "llama-pajamas-run-core[codecs]"'


def load_av(feature: str) -> Any:
    """PyAV, the libraries of FFmpeg.

    Raises:
        MissingDependency: it is not installed.
    """
    return _load("av", feature, "av")


def load_pillow(feature: str, module: str = "PIL.Image") -> Any:
    """A module of Pillow.

    Raises:
        MissingDependency: it is not installed.
    """
    return _load(module, feature, "pillow")


def _load(module: str, feature: str, package: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.partition(".")[0]):  # it is there, but not whole
            raise
        raise MissingDependency(feature, package=package, install=_INSTALL) from error
