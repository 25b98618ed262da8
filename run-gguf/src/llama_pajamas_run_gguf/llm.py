"""Language models in GGUF files, through llama.cpp."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import llama_cpp
import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.backends.llm import LLMBackend, LLMCapabilities
from llama_pajamas_run_core.errors import BadInput, ContextTooLong
from llama_pajamas_run_core.types.chat import Chat, GenerationOptions, GenerationRequest
from llama_pajamas_run_gguf import _session, metadata
from llama_pajamas_run_gguf._session import KV_TYPES, MAX_SEQUENCES, ContextSettings, Session
from llama_pajamas_run_gguf.chat.template import ChatTemplate
from llama_pajamas_run_gguf.engine.cache import SequenceCache
from llama_pajamas_run_gguf.engine.embedder import Embedder
from llama_pajamas_run_gguf.engine.engine import Engine
from llama_pajamas_run_gguf.engine.output import Output
from llama_pajamas_run_gguf.engine.sequence import Sequence as Request
from llama_pajamas_run_gguf.engine.settings import SamplingDefaults, SamplingSettings
from llama_pajamas_run_gguf.grammar.schema import json_grammar
from llama_pajamas_run_gguf.threads import default_threads
from llama_pajamas_run_gguf.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

_DEFAULT_CONTEXT = 8192
_DEFAULT_LANES = 8
_DEFAULT_BATCH = 512
_MAX_WAITING = 256


class GGUFLLMBackend(LLMBackend):
    """A language model in llama.cpp, with continuous batching: requests from any number of threads share its steps.

    Args:
        model: a GGUF file; of a split model the first part.
        n_ctx: the most tokens of one conversation, answer included; None for what the model was trained for, at most
            8192.
        n_lanes: how many requests are worked on at once; others wait. None for 8.
        n_threads: to compute with; None for the physical cores.
        n_gpu_layers: how many layers to put on a GPU, where llama.cpp was built for one; None for all.
        n_batch: the most tokens computed in one step; None for 512.
        kv_type: what the cache stores: "f16" (None), "q8_0" or "q4_0", smaller and a little less exact, or "f32".
        flash_attention: whether attention is computed by llama.cpp's fused kernels. None: on a GPU, and where a quantized
            cache needs them; on a CPU they are less exact, so that an answer could depend on the others beside it.
        kv_cells: tokens the cache holds over all requests; None for ``n_ctx`` times ``n_lanes``. Requests wait, or
            give way and go on later, when it is full.

    Raises:
        LoadError: the file is missing, damaged, or of a kind that llama.cpp does not run.
        OutOfMemory: there is not enough memory for the context.
        BadInput: an option is out of range.
    """

    runtime: ClassVar[str] = "gguf"

    _session: Session
    _engine: Engine | None
    _embedder: Embedder | None
    _tokenizer: Tokenizer
    _template: ChatTemplate | None

    def _load(
        self,
        path: Path,
        *,
        n_ctx: int | None = None,
        n_lanes: int | None = None,
        n_threads: int | None = None,
        n_gpu_layers: int | None = None,
        n_batch: int | None = None,
        kv_type: str | None = None,
        kv_cells: int | None = None,
        flash_attention: bool | None = None,
    ) -> None:
        _check(n_ctx=n_ctx, n_lanes=n_lanes, n_threads=n_threads, n_batch=n_batch, kv_cells=kv_cells)
        if kv_type is not None and kv_type not in KV_TYPES:
            raise BadInput(f"kv_type is one of {', '.join(KV_TYPES)}, not {kv_type!r}.", param="kv_type")
        session = Session(path, gpu_layers=-1 if n_gpu_layers is None else n_gpu_layers)
        try:
            self._open(session, n_ctx, n_lanes, n_threads, n_batch, kv_type or "f16", kv_cells, flash_attention)
        except BaseException:
            session.close()
            raise

    def _open(
        self,
        session: Session,
        n_ctx: int | None,
        n_lanes: int | None,
        n_threads: int | None,
        n_batch: int | None,
        kv_type: str,
        kv_cells: int | None,
        flash: bool | None,
    ) -> None:
        self._session = session
        self._device = "gpu" if llama_cpp.llama_supports_gpu_offload() else "cpu"
        self._context_length = n_ctx or min(session.trained_context, _DEFAULT_CONTEXT)
        self._lanes = min(n_lanes or _DEFAULT_LANES, MAX_SEQUENCES)
        self._threads = n_threads or default_threads()
        self._kv_type = kv_type
        self._tokenizer = Tokenizer(session.vocab, self._context_length)
        self._defaults = SamplingDefaults.of(session.metadata)
        self._template = ChatTemplate.of(session, self._tokenizer)
        self._description = metadata.description(session.model)
        self._embedder = Embedder(session, self._tokenizer, limit=self._context_length, threads=self._threads)
        self._engine = None
        if not session.generates:
            return
        cells = _up(kv_cells or self._context_length * self._lanes)
        cells = max(cells, _up(self._context_length))
        batch = min(max(n_batch or _DEFAULT_BATCH, 2 * self._lanes), cells)
        # Idle sequences keep the beginnings of conversations; without rewinding, one for each lane is all that helps.
        sequences = min(2 * self._lanes if session.rewinds else self._lanes, MAX_SEQUENCES)
        if flash is None:
            flash = self._device == "gpu" or kv_type not in ("f16", "f32")
        context = session.open_context(
            ContextSettings(
                cells, sequences, batch, self._threads, kv_type=kv_type, flash=flash, outputs=min(sequences, batch)
            )
        )
        cache = SequenceCache(
            llama_cpp.llama_get_memory(context),
            cells=cells,
            sequences=sequences,
            rewinds=session.rewinds,
            window=llama_cpp.llama_model_n_swa(session.model),
        )
        self._engine = Engine(
            context,
            self._tokenizer,
            session.vocab,
            cache,
            lanes=self._lanes,
            batch=batch,
            max_waiting=_MAX_WAITING,
        )

    def _unload(self) -> None:
        if self._engine is not None:
            self._engine.close()
        if self._embedder is not None:
            self._embedder.close()
        self._engine = self._embedder = None
        self._tokenizer.close()
        self._session.close()

    @property
    def capabilities(self) -> LLMCapabilities:
        generates = self._engine is not None
        return LLMCapabilities(
            chat=generates and self._template is not None,
            json=generates,
            logprobs=generates,
            embeddings=True,
        )

    @property
    def context_length(self) -> int:
        self._ready()
        return self._context_length

    @property
    def lanes(self) -> int:
        return self._lanes if self.loaded else 1

    @property
    def details(self) -> Mapping[str, Any]:
        if not self.loaded:
            return {}
        return {
            "description": self._description,
            "architecture": self._session.architecture,
            "context_length": self._context_length,
            "lanes": self._lanes,
            "threads": self._threads,
            "kv_type": self._kv_type,
            "device": self._device,
        }

    def _submit(self, request: GenerationRequest, generation: Generation) -> None:
        engine = self._engine
        if engine is None:
            raise BadInput("This model makes embeddings only; it writes no text.", param="model")
        options = request.options
        self._tokenizer.check(list(options.logit_bias))
        grammar = None if options.response_format is None else json_grammar(options.response_format.schema)
        prompt = self._encode(request)
        self._check_room(prompt, options)
        engine.submit(
            Request(
                generation,
                prompt,
                Output(generation),
                SamplingSettings.resolve(options, self._defaults),
                limit=self._context_length,
                max_tokens=options.max_tokens,
                priority=options.priority,
                grammar=grammar,
                logprobs=options.logprobs,
            ),
            self._ready(),
        )

    def _count(self, request: GenerationRequest) -> int:
        return len(self._encode(request))

    def _embed(self, inputs: Sequence[str | tuple[int, ...]]) -> tuple[npt.NDArray[np.float32], int]:
        embedder, owner = self._embedder, self._ready()
        if embedder is None:
            raise BadInput("The model was closed.")
        encoded = [embedder.encode(text, index) for index, text in enumerate(inputs)]
        # One job for each batch, so that running answers go on in between.
        rows = [owner.run(lambda part=part: embedder.embed(part)) for part in embedder.batches(encoded)]  # type: ignore[misc]
        return np.concatenate(rows), sum(len(tokens) for tokens in encoded)

    def _encode(self, request: GenerationRequest) -> list[int]:
        source = request.input
        if isinstance(source, Chat):
            assert self._template is not None  # the capabilities say so, and the base has checked
            text = self._template.render(source)
            return self._tokenizer.encode(text, add_special=not self._template.begins(text))
        if isinstance(source, str):
            tokens = self._tokenizer.encode(source)
        else:
            tokens = list(source)
            self._tokenizer.check(tokens)
        if not tokens:
            raise BadInput("The prompt is empty.", param="prompt")
        return tokens

    def _check_room(self, prompt: list[int], options: GenerationOptions) -> None:
        needed = len(prompt) + (options.max_tokens or 1)
        if needed > self._context_length:
            raise ContextTooLong(tokens=needed, limit=self._context_length)


def _check(**options: int | None) -> None:
    for name, value in options.items():
        if value is not None and value < 1:
            raise BadInput(f"{name} must be at least 1, not {value}.", param=name)


def _up(cells: int) -> int:
    return -(-cells // _session.CELL_STEP) * _session.CELL_STEP
