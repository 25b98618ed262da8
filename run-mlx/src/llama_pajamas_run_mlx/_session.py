"""The one thread that MLX runs on, and the one place that loads language models with mlx-lm."""

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import mlx.core as mx
import mlx.nn as nn

from llama_pajamas_run_core.artifacts.store import Store
from llama_pajamas_run_core.backends.owner import OwnerThread
from llama_pajamas_run_core.errors import (
    BadInput,
    InferenceError,
    LoadError,
    OutOfMemory,
    PajamasError,
    UnknownModel,
)

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: What weights can be computed in.
DTYPES: Final = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}

_lock = threading.Lock()
_thread: OwnerThread | None = None
_END: Final = object()


class SharedThread(OwnerThread):
    """One model's share of the process's MLX thread.

    Metal's command buffers end the process when two threads use them, so all models run on one thread. A stream is a
    job for each item here, not one for all, so that the others get their turns in between.
    """

    def __init__(self) -> None:
        global _thread
        with _lock:
            if _thread is None:
                _thread = OwnerThread("mlx")
            self._jobs, self._thread = _thread._jobs, _thread._thread
        self._stopped, self._order = False, threading.Lock()

    def stream(self, function: Callable[[], Iterator[T]]) -> Iterator[T]:
        """Iterate on the thread, item by item; a reader that stops early closes the function's iterator there."""
        iterator = self.run(lambda: iter(function()))
        try:
            while (item := self.run(lambda: next(iterator, _END))) is not _END:
                yield item  # type: ignore[misc]
        finally:
            if (close := getattr(iterator, "close", None)) is not None:
                with suppress(BadInput):  # the model was closed, and with it all that the iterator held
                    self.run(close)

    def stop(self) -> None:
        """Give the share back; the thread goes on for the other models."""
        with self._order:
            self._stopped = True


@contextmanager
def offline() -> Iterator[None]:
    """A local folder is loaded without a look at the network, whatever is missing in it."""
    with suppress(ImportError):
        import huggingface_hub.constants as constants

        before = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before
        return
    yield


def find_folder(path: Path) -> Path:
    """The folder of a model: the path itself, or that of a pulled model whose hub id it is ("OWNER/NAME").

    Raises:
        LoadError: there is neither, or the pulled model is damaged.
    """
    id = path.as_posix()
    if path.exists() or path.is_absolute() or id.count("/") != 1:
        return path
    try:
        return Store().path(id)
    except UnknownModel as error:
        raise LoadError(
            f"There is no folder {path}, and no pulled model of that name.",
            hint=f"Pull it: llama-pajamas models pull {id}",
        ) from error


def load_language_model(
    path: Path, *, dtype: str | None, adapter: Path | None
) -> tuple[nn.Module, Any, dict[str, Any]]:
    """Load a model folder.

    Args:
        path: the folder, with config.json, safetensors and tokenizer.
        dtype: what to compute in, a key of :data:`DTYPES`; None for what the weights are stored in.
        adapter: a folder with a LoRA adapter, or None.

    Returns:
        the model, mlx-lm's tokenizer and the model's config.

    Raises:
        LoadError: the folder is no model, is damaged, or is of an architecture that mlx-lm does not run.
        OutOfMemory: there is not enough memory.
    """
    config = _check_folder(path)
    if dtype is None and "quantization" in config and mx.default_device() == mx.cpu:
        dtype = "float32"  # the kernels for quantized matrices are a hundred times slower in 16 bits there
    if adapter is not None and not (adapter / "adapter_config.json").is_file():
        raise LoadError(f"{adapter} holds no LoRA adapter of mlx-lm: it has no adapter_config.json.")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or tokenizers warns when a process is forked later
    import mlx_lm

    try:
        with offline():
            model, tokenizer = mlx_lm.load(
                os.fspath(path), adapter_path=None if adapter is None else os.fspath(adapter)
            )
        if dtype is not None:
            model.set_dtype(DTYPES[dtype])
        mx.eval(model.parameters())
    except PajamasError:
        raise
    except Exception as error:
        raise _load_error(path, config, error) from error
    return model, tokenizer, config


def _check_folder(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise LoadError(f"There is no folder {path}.")
    if not path.is_dir():
        raise LoadError(f"{path} is no folder.", hint="An MLX model is a folder with config.json and safetensors.")
    for name in ("config.json", "tokenizer.json"):
        if not (path / name).is_file():
            raise LoadError(f"{path} is no MLX model: it has no {name}.", hint="Fetch it again.")
    if not list(path.glob("model*.safetensors")):
        raise LoadError(f"{path} is no MLX model: it has no model*.safetensors.", hint="Fetch it again.")
    try:
        config = json.loads((path / "config.json").read_text("utf-8"))
    except ValueError as error:
        raise LoadError(f"{path / 'config.json'} is no JSON: {error}.") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise LoadError(f"{path / 'config.json'} names no model_type.")
    if "model_file" in config:
        raise LoadError(f"{path} brings its own program ({config['model_file']!r}), which is not run.")
    return config


def _load_error(path: Path, config: dict[str, Any], error: Exception) -> PajamasError:
    text = str(error).strip() or repr(error)
    if is_out_of_memory(error):
        return OutOfMemory(f"There is not enough memory for {path.name}: {text}")
    if "not supported" in text and str(config["model_type"]) in text:
        return LoadError(f"{path} is of the architecture {config['model_type']!r}, which mlx-lm does not run.")
    return LoadError(f"{path} could not be loaded: {text}")


def number(array: mx.array) -> int:
    """The whole number in an array of one."""
    found: Any = array.item()
    return int(found)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether MLX failed for want of memory; it has no exception of its own for that."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError) or "malloc" in text or "out of memory" in text or "insufficient memory" in text
    )


@contextmanager
def mapped() -> Iterator[None]:
    """What MLX raises while it computes becomes one of our errors.

    Raises:
        OutOfMemory: there was not enough memory.
        InferenceError: the computation failed in another way.
    """
    try:
        yield
    except (RuntimeError, ValueError, MemoryError) as error:
        raise as_fault(error) from error


def as_fault(error: Exception) -> PajamasError:
    """What a failed computation is called."""
    if isinstance(error, PajamasError):
        return error
    if is_out_of_memory(error):
        return OutOfMemory(f"MLX ran out of memory: {error}")
    return InferenceError(f"MLX failed: {error}")
