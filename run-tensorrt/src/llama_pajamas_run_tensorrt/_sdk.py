"""The one file that imports TensorRT and PyCUDA: what their errors mean, their messages, and how memory is taken.

Everything else asks this module for them (``_sdk.tensorrt``, ``_sdk.cuda``) when it needs them.
"""

import logging
import os
import threading
from collections import deque
from functools import cache
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import InferenceError, LoadError, MissingDependency, OutOfMemory, PajamasError
from llama_pajamas_run_tensorrt.runtime import INSTALL

# Read by CUDA when it starts: devices in the order of nvidia-smi, and kernels loaded when they are first used.
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")

try:
    import tensorrt
except ImportError as error:
    raise MissingDependency("TensorRT engines", package="tensorrt", install=INSTALL) from error
try:
    from pycuda import driver as cuda
except ImportError as error:
    raise MissingDependency("TensorRT engines", package="pycuda", install=INSTALL) from error

__all__ = [
    "Log",
    "as_ours",
    "cuda",
    "device_alloc",
    "device_free",
    "make_log",
    "mapped",
    "pinned_address",
    "pinned_alloc",
    "pinned_free",
    "tensorrt",
    "version",
]

logger = logging.getLogger(__name__)

_HINT: Final = "Use a smaller batch, fewer lanes, or another GPU."
_OUT_OF_MEMORY: Final = (
    "out of memory", "outofmemory", "memoryallocation", "insufficient memory", "failed to allocate", "bad_alloc",
    "requested amount of gpu memory",
)  # fmt: skip


def version() -> str:
    """TensorRT's version, "8.6.1" or "10.14.1.48"."""
    return str(tensorrt.__version__)


class Log(Protocol):
    """TensorRT's messages: into ours, and kept to say why something failed."""

    @property
    def errors(self) -> bool:
        """Whether it said that something went wrong."""

    def told(self) -> str:
        """What it said went wrong, and forget it."""

    def forget(self) -> None:
        """Forget what was said in this thread: TensorRT also speaks of errors where it then goes another way."""


def make_log() -> Any:
    """The :class:`Log` of this process, which TensorRT takes as its logger.

    There is one, and it stays: TensorRT goes on using the first logger it was given, whoever gave it.
    """
    return _log_of(tensorrt)


@cache
def _log_of(module: Any) -> Any:
    class Messages(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            # By thread, so that models that are used at the same time are not told each other's errors.
            self._said: dict[int, deque[str]] = {}

        def log(self, severity: Any, message: str) -> None:  # from any thread, also TensorRT's own
            text = " ".join(str(message).split())
            if severity in (module.ILogger.INTERNAL_ERROR, module.ILogger.ERROR):
                self._said.setdefault(threading.get_ident(), deque(maxlen=4)).append(text)
            logger.debug("tensorrt: %s", text)

        @property
        def errors(self) -> bool:
            return threading.get_ident() in self._said

        def told(self) -> str:
            mine = self._said.pop(threading.get_ident(), None)
            if mine is None:  # perhaps one of TensorRT's own threads said it
                mine = deque(text for said in list(self._said.values()) for text in said)
                self._said.clear()
            said = "; ".join(dict.fromkeys(mine))
            said = said[:600] + "..." if len(said) > 600 else said
            return said.rstrip(".") or "TensorRT says no more"

        def forget(self) -> None:
            self._said.pop(threading.get_ident(), None)

    return Messages()


class mapped:
    """Errors of TensorRT and PyCUDA become ours, in a ``with`` statement. Can be entered again and again.

    A class, as it is entered several times for every picture: a generator takes seven times as long.

    Args:
        kind: what they become, unless memory ran out.
        what: how the message begins ("model.engine failed").
        log: where TensorRT tells more; what it said before counts no more.
    """

    __slots__ = ("_kind", "_log", "_what")

    def __init__(self, kind: type[LoadError] | type[InferenceError], what: str, log: Log | None = None) -> None:
        self._kind, self._what, self._log = kind, what, log

    def __enter__(self) -> None:
        if self._log is not None:
            self._log.forget()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        # PyCUDA's and TensorRT's errors share no base below Exception.
        if isinstance(error, Exception) and (ours := as_ours(error, self._kind, self._what, self._log)) is not error:
            raise ours from error


def as_ours(
    error: Exception, kind: type[LoadError] | type[InferenceError], what: str, log: Log | None = None
) -> PajamasError:
    """An error of TensorRT or PyCUDA as ours; one that is ours stays, unless it means that memory ran out.

    Args:
        error: it.
        kind, what, log: as for :func:`mapped`.
    """
    if isinstance(error, LoadError | InferenceError) and _means_out_of_memory(error.message):
        return OutOfMemory(error.message, hint=_HINT)
    if isinstance(error, PajamasError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemory(f"{what}: memory ran out.")
    told = f" ({log.told()})" if log is not None and log.errors else ""
    text = " ".join(str(error).split())[:400] + told
    if isinstance(error, cuda.MemoryError) or _means_out_of_memory(text):
        return OutOfMemory(f"{what}: the GPU's memory ran out ({text}).", hint=_HINT)
    return kind(f"{what}: {text}")


def _means_out_of_memory(text: str) -> bool:
    return any(sign in text.lower() for sign in _OUT_OF_MEMORY)


def device_alloc(size: int) -> Any:
    """Take memory of the GPU that is current. Raises OutOfMemory."""
    try:
        return cuda.mem_alloc(size)
    except cuda.MemoryError as error:
        free, total = cuda.mem_get_info()
        raise OutOfMemory(
            f"{size:,} bytes more do not fit: the GPU has {free:,} free of {total:,}.",
            hint=_HINT,
        ) from error


def device_free(allocation: Any) -> None:
    """Free what :func:`device_alloc` gave."""
    allocation.free()


def pinned_alloc(size: int) -> npt.NDArray[np.uint8]:
    """Take pinned memory of the host, as an array of its bytes. Raises OutOfMemory."""
    try:
        pinned: npt.NDArray[np.uint8] = cuda.pagelocked_empty(size, np.uint8)
    except cuda.MemoryError as error:
        raise OutOfMemory(f"{size:,} bytes of pinned host memory do not fit.") from error
    return pinned


def pinned_free(array: Any) -> None:
    """Free what :func:`pinned_alloc` gave."""
    array.base.free()


def pinned_address(array: Any) -> int:
    """Where it begins."""
    return int(array.ctypes.data)
