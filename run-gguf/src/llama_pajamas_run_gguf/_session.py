"""The one place where llama.cpp loads and frees models and contexts, and where its failures become our errors."""

import ctypes
import logging
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp

from llama_pajamas_run_core.artifacts.formats import check_gguf
from llama_pajamas_run_core.errors import BadInput, LoadError, OutOfMemory
from llama_pajamas_run_gguf import logs
from llama_pajamas_run_gguf.devices import GPU
from llama_pajamas_run_gguf.metadata import read_metadata

_log = logging.getLogger(__name__)

#: KV cache types by name.
KV_TYPES = {
    "f32": llama_cpp.GGML_TYPE_F32,
    "f16": llama_cpp.GGML_TYPE_F16,
    "q8_0": llama_cpp.GGML_TYPE_Q8_0,
    "q4_0": llama_cpp.GGML_TYPE_Q4_0,
}
#: llama.cpp rounds contexts up to this many cells.
CELL_STEP = 256
#: The most sequences a context can hold (LLAMA_MAX_SEQ).
MAX_SEQUENCES = llama_cpp.llama_max_parallel_sequences()

_started = threading.Lock()
_backend_ready = False


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """How to make a context.

    Attributes:
        cells: tokens that its KV cache holds, over all sequences.
        sequences: how many sequences it tells apart.
        batch: the most tokens in one decode call.
        threads: to compute with.
        kv_type: "f16", "q8_0", "q4_0" or "f32".
        flash: whether attention is computed by the fused kernels, None for llama.cpp to choose.
        outputs: the most tokens of a batch whose logits are wanted.
        embeddings: whether it pools embeddings instead of giving logits.
        pooling: llama.cpp's pooling type, -1 for the model's own.
        unified: whether all sequences share the cells; otherwise each has its part of them to itself, a stream.
    """

    cells: int
    sequences: int
    batch: int
    threads: int
    kv_type: str = "f16"
    flash: bool | None = None
    outputs: int = 0
    embeddings: bool = False
    pooling: int = -1
    unified: bool = True


class Session:
    """A loaded model with what belongs to it. All calls on the thread that made it.

    Args:
        path: the GGUF file; of a split model the first part.
        gpu_layers: how many layers to put on a GPU, -1 for all.
        rehearse: whether memory is only counted, not taken: such a model computes nothing.
        gpu: the one GPU for those layers; None spreads them over all.

    Raises:
        LoadError: the file is missing, damaged or of a kind that llama.cpp does not run.
    """

    def __init__(self, path: Path, *, gpu_layers: int, rehearse: bool = False, gpu: GPU | None = None) -> None:
        check_file(path)
        _start()
        self.path = path
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        chosen = (ctypes.c_void_p * 2)(gpu.handle if gpu is not None else None, None)  # ends with a null pointer
        if gpu is not None:
            params.devices, params.split_mode = ctypes.addressof(chosen), llama_cpp.LLAMA_SPLIT_MODE_NONE
        if rehearse:
            params.no_alloc, params.load_mode = True, llama_cpp.LLAMA_LOAD_MODE_NONE
        with logs.collected() as lines:
            model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            raise LoadError(f"{path} could not be loaded{reason(lines)}")
        self.model: Any = model
        self.vocab: Any = llama_cpp.llama_model_get_vocab(model)
        self.metadata = read_metadata(model)
        self.architecture = self.metadata.get("general.architecture", "")
        self._contexts: list[Any] = []
        if llama_cpp.llama_vocab_type(self.vocab) == llama_cpp.LLAMA_VOCAB_TYPE_NONE:
            self.close()
            raise LoadError(f"{path} has no vocabulary, so there is nothing to read or write with it.")

    @property
    def trained_context(self) -> int:
        """Tokens of context that the model was trained for."""
        return int(llama_cpp.llama_model_n_ctx_train(self.model))

    @property
    def rewinds(self) -> bool:
        """Whether a sequence's cache can be cut at any place; recurrent state cannot."""
        return not (llama_cpp.llama_model_is_recurrent(self.model) or llama_cpp.llama_model_is_hybrid(self.model))

    @property
    def generates(self) -> bool:
        """Whether the model writes text; encoders only make embeddings."""
        decoder = bool(llama_cpp.llama_model_has_decoder(self.model))
        return decoder and self.metadata.get(f"{self.architecture}.attention.causal", "true") != "false"

    def open_context(self, settings: ContextSettings, *, observer: Any = None) -> Any:
        """Make a context.

        Args:
            settings: how.
            observer: a ``ggml_backend_sched_eval_callback``, called around the tensors that a decode call computes; it
                has to live as long as the context.

        Raises:
            BadInput: the model cannot have a cache of that type.
            OutOfMemory: there is not enough memory for it.
        """
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = settings.cells
        params.n_seq_max = settings.sequences
        params.n_batch = params.n_ubatch = settings.batch
        params.n_outputs_max = settings.outputs
        params.n_threads = params.n_threads_batch = settings.threads
        params.type_k = params.type_v = KV_TYPES[settings.kv_type]
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO if settings.flash is None else int(settings.flash)
        # In a pool attention walks over everybody's cells. Streams spare it that, but llama.cpp computes them at once
        # only where their ids are consecutive and each has equally many tokens in a batch.
        params.kv_unified = settings.unified
        params.embeddings = settings.embeddings
        params.pooling_type = settings.pooling
        params.no_perf = True
        if observer is not None:
            params.cb_eval = observer
        with logs.collected() as lines:
            context = llama_cpp.llama_init_from_model(self.model, params)
        if not context:
            said = reason(lines)
            if re.search("[KV] cache (type|quantization)", said):
                raise BadInput(
                    f"{self.path.name} cannot have a cache of type {settings.kv_type}{said}", param="kv_type"
                )
            raise OutOfMemory(
                f"No context of {settings.cells} tokens could be made for {self.path.name}{said}",
                hint="Choose a smaller n_ctx or kv_cells, or kv_type='q8_0'.",
            )
        self._contexts.append(context)
        return context

    def close_context(self, context: Any) -> None:
        """Free a context before the model."""
        self._contexts.remove(context)
        llama_cpp.llama_free(context)

    def close(self) -> None:
        """Free the contexts, then the model."""
        for context in self._contexts:
            llama_cpp.llama_free(context)
        self._contexts.clear()
        if self.model:
            llama_cpp.llama_model_free(self.model)
        self.model = self.vocab = None


def check_file(path: Path) -> None:
    """See that a GGUF file is whole before native code, which trusts what it says, reads it.

    Raises:
        LoadError: it is missing, no GGUF file, or damaged.
    """
    if not path.is_file():
        raise LoadError(f"There is no file {path}.")
    try:
        check_gguf(path)
    except BadInput as error:
        raise LoadError(error.message, hint=error.hint) from error


def reason(lines: Iterable[str]) -> str:
    """What llama.cpp said last, as the end of a sentence."""
    said = [line.split(": ", 1)[-1] for line in lines if "failed to load model" not in line]
    return f": {said[-1]}" if said else "."


def _start() -> None:
    global _backend_ready
    with _started:
        if not _backend_ready:
            logs.install()
            llama_cpp.llama_backend_init()
            _backend_ready = True
