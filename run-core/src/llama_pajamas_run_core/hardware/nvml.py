"""NVIDIA's management library (NVML), through the package nvidia-ml-py: opening it, and what its errors mean.

It tells about GPUs without initializing CUDA, which would take memory on each of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

INSTALL: Final = "uv pip install nvidia-ml-py"


class NoNVML(Exception):
    """NVML does not answer; the text is the reason, for people."""


def load() -> Any:
    """The module pynvml.

    Raises:
        NoNVML: the package is not installed.
    """
    try:
        import pynvml
    except ImportError:
        raise NoNVML(f"the package nvidia-ml-py is not installed: `{INSTALL}`") from None
    return pynvml


@contextmanager
def opened(nvml: Any) -> Iterator[None]:
    """NVML initialized for a while. Its users are counted, so several may have it open at once.

    Raises:
        NoNVML: it cannot be initialized.
    """
    start(nvml)
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def start(nvml: Any) -> None:
    """Initialize NVML.

    Raises:
        NoNVML: it cannot be.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise NoNVML(reason(nvml, error)) from None


def reason(nvml: Any, error: Exception) -> str:
    """What an error means, for people."""
    known = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver is installed",
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed, but not loaded",
        nvml.NVML_ERROR_NO_PERMISSION: "this user may not talk to the NVIDIA driver",
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver was updated and needs a restart of the machine",
    }
    return known.get(getattr(error, "value", None), f"the NVIDIA driver does not answer: {error}")


def text(value: str | bytes) -> str:
    """A text; older versions of the package give bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
