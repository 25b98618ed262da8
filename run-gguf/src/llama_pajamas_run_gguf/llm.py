"""Language models in GGUF files, through llama.cpp."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import llama_cpp
import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.backends.llm import LLMBackend, LLMCapabilities
from llama_pajamas_run_core.errors import BadInput, Busy, ContextTooLong, Unsupported
from llama_pajamas_run_core.language.output import Output
from llama_pajamas_run_core.language.plan import AnswerPlan
from llama_pajamas_run_core.language.templates.template import ChatTemplate
from llama_pajamas_run_core.types.chat import Chat, GenerationOptions, GenerationRequest
from llama_pajamas_run_gguf import devices, metadata
from llama_pajamas_run_gguf._session import ContextSettings, Session
from llama_pajamas_run_gguf.chat.plan import plan_chat, plan_text
from llama_pajamas_run_gguf.chat.template import template_of
from llama_pajamas_run_gguf.engine.adapters import Adapters
from llama_pajamas_run_gguf.engine.cache import SequenceCache
from llama_pajamas_run_gguf.engine.copying import ON_GPU, ON_PROCESSOR
from llama_pajamas_run_gguf.engine.draft_model import ModelDrafter
from llama_pajamas_run_gguf.engine.embedder import Embedder
from llama_pajamas_run_gguf.engine.engine import Engine
from llama_pajamas_run_gguf.engine.sequence import Sequence as Request
from llama_pajamas_run_gguf.engine.settings import defaults_of
from llama_pajamas_run_gguf.engine.shelf import Shelf
from llama_pajamas_run_gguf.engine.side_reader import SideReader
from llama_pajamas_run_gguf.engine.spans import Span
from llama_pajamas_run_gguf.engine.speculation import LookupDrafter, Speculator
from llama_pajamas_run_gguf.engine.streams import StreamCache
from llama_pajamas_run_gguf.memory import Footprint, Plan
from llama_pajamas_run_gguf.options import LoadOptions
from llama_pajamas_run_gguf.planning import plan_memory
from llama_pajamas_run_gguf.processor import unused_instructions
from llama_pajamas_run_gguf.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llama_pajamas_run_gguf.engine.media import Projector

_log = logging.getLogger(__name__)

_MAX_WAITING = 256
#: Threads that choose tokens while a GPU computes; a processor's are busy with the model.
_DRAWS_GPU = 8
#: Bytes of the host's memory for idle conversations, and of its free memory.
_SHELF_LIMIT, _SHELF_SHARE = 2**30, 0.1


class GGUFLLMBackend(LLMBackend):
    """A language model in llama.cpp, with continuous batching: requests from any number of threads share its steps.

    Args:
        model: a GGUF file; of a split model the first part.
        options: the fields of :class:`LoadOptions`: ``n_ctx``, ``n_lanes``, ``n_threads``, ``n_gpu_layers``, ...

    Raises:
        LoadError: the file is missing, damaged, or of a kind that llama.cpp does not run.
        OutOfMemory: there is not enough memory for the context.
        BadInput: an option is out of range.
    """

    runtime: ClassVar[str] = "gguf"

    _session: Session
    _gpu: devices.GPU | None
    _engine: Engine | None
    _embedder: Embedder | None
    _tokenizer: Tokenizer
    _template: ChatTemplate | None
    _footprint: Footprint
    _projector: "Projector | None"

    def _load(self, path: Path, **options: Any) -> None:
        asked = LoadOptions.of(options)
        self._gpu = devices.find_gpu(asked.device)
        planned = plan_memory(path, asked, self._gpu)
        self._lanes, self._footprint, self._given_up = planned.lanes, planned.footprint, planned.given_up
        session = Session(path, gpu_layers=planned.plan.gpu_layers, gpu=self._gpu)
        try:
            self._open(session, asked, planned.plan)
        except BaseException:
            session.close()
            raise

    def _open(self, session: Session, asked: LoadOptions, plan: Plan) -> None:
        self._session, self._memory = session, plan
        self._context_length = plan.context
        free = devices.host_memory_free()
        limit = _SHELF_LIMIT if free is None else min(_SHELF_LIMIT, int(free * _SHELF_SHARE))
        self._shelf_bytes = limit if asked.prompt_cache_mib is None else asked.prompt_cache_mib * 2**20
        self._device = "gpu" if llama_cpp.llama_supports_gpu_offload() and plan.gpu_layers else "cpu"
        self._tokenizer = Tokenizer(session.vocab, plan.context)
        self._defaults = defaults_of(session.metadata)
        self._template = template_of(session, self._tokenizer, asked.chat_template)
        self._description = metadata.description(session.model)
        self._embedder = Embedder(session, self._tokenizer, limit=plan.context, threads=plan.settings.threads)
        self._adapters = Adapters(session)
        for name, file in asked.adapters.items():
            self._adapters.load(name, Path(file).expanduser(), 1.0)
        self._context, self._engine = None, None
        self._draft: ModelDrafter | None = None
        self._projector = None
        if session.generates:
            if asked.projector is not None:
                from llama_pajamas_run_gguf.engine.media import Projector  # not every build of llama.cpp has mtmd

                self._projector = Projector(
                    Path(asked.projector).expanduser(),
                    session,
                    threads=plan.settings.threads,
                    batch=plan.settings.batch,
                )
            self._open_engine(session, plan.settings, self._speculator(asked, plan))

    def _speculator(self, asked: LoadOptions, plan: Plan) -> Speculator | None:
        if not asked.guesses or not self._session.rewinds:
            return None
        if asked.draft_model is None:
            return Speculator(LookupDrafter())
        settings = replace(plan.settings, sequences=self._lanes, outputs=self._lanes, unified=True)
        self._draft = ModelDrafter(
            Path(asked.draft_model).expanduser(), self._tokenizer, settings, gpu_layers=plan.gpu_layers, gpu=self._gpu
        )
        return Speculator(self._draft)

    def _open_engine(self, session: Session, settings: ContextSettings, speculator: Speculator | None) -> None:
        self._context = session.open_context(settings)
        cache = self._cache(self._context, session, settings)
        self._engine = Engine(
            self._context,
            self._tokenizer,
            session.vocab,
            cache,
            self._adapters,
            speculator,
            self._projector,
            # A GPU reads prompts so fast that small chunks do.
            None if self._device == "gpu" else SideReader(session, settings, self._adapters, cell=self._cell(settings)),
            lanes=self._lanes,
            batch=settings.batch,
            outputs=settings.outputs,
            max_waiting=_MAX_WAITING,
            draws=min(_DRAWS_GPU, os.cpu_count() or 1) if self._device == "gpu" else 1,
        )

    def _cell(self, settings: ContextSettings) -> float:
        """Bytes of keys and values of one token."""
        return max(self._footprint.cache / settings.cells, 1)

    def _cache(self, context: Any, session: Session, settings: ContextSettings) -> SequenceCache:
        copying = ON_GPU if self._device == "gpu" else ON_PROCESSOR
        limit, in_weights = self._shelf_bytes, self._footprint.weights / self._cell(settings)
        shelf = Shelf(context, copying, limit=limit) if limit else None
        if not settings.unified:
            return StreamCache(
                context,
                copying,
                cells=settings.cells,
                sequences=settings.sequences,
                gap=int(in_weights / copying.as_weights),
                shelf=shelf,
            )
        return SequenceCache(
            context,
            cells=settings.cells,
            sequences=settings.sequences,
            rewinds=session.rewinds,
            window=llama_cpp.llama_model_n_swa(session.model),
            shelf=shelf,
            idle=int(copying.idle * in_weights),
        )

    def _unload(self) -> None:
        if self._engine is not None:
            self._engine.close()
        if self._embedder is not None:
            self._embedder.close()
        if self._draft is not None:
            self._draft.close()
        if self._projector is not None:
            self._projector.close()
        self._engine = self._embedder = self._draft = self._projector = None
        self._tokenizer.close()
        self._session.close()

    @property
    def capabilities(self) -> LLMCapabilities:
        generates = self._engine is not None
        return LLMCapabilities(
            chat=generates and self._template is not None,
            tools=generates and self._template is not None,
            json=generates,
            logprobs=generates,
            images=self._projector is not None and self._projector.sees,
            audio=self._projector is not None and self._projector.hears,
            embeddings=True,
            adapters=generates,
        )

    @property
    def context_length(self) -> int:
        self._ready()
        return self._context_length

    @property
    def lanes(self) -> int:
        return self._lanes if self.loaded else 1

    @property
    def host_memory(self) -> int | None:
        """Bytes of the host's memory that the model takes: what of it is not on a GPU."""
        return self._footprint.on_host if self.loaded else None

    @property
    def details(self) -> Mapping[str, Any]:
        if not self.loaded:
            return {}
        return {
            "description": self._description,
            "architecture": self._session.architecture,
            "context_length": self._context_length,
            "lanes": self._lanes,
            "threads": self._memory.settings.threads,
            "device": self._device,
            **({"gpu": self._gpu.name} if self._gpu is not None else {}),
            "kv_type": self._memory.settings.kv_type,
            "kv_cells": self._memory.settings.cells,
            "kv_streams": 1 if self._memory.settings.unified else self._memory.settings.sequences,
            "memory": {name: getattr(self._footprint, name) for name in ("weights", "cache", "compute")},
            "given_up_for_memory": list(self._given_up),
            "faster_built_with": unused_instructions(),
            "adapters": list(self._adapters.names),
        }

    def load_adapter(self, name: str, path: str | PathLike[str], *, scale: float = 1.0) -> None:
        """Load a LoRA adapter, which requests then ask for with ``adapter=name``. Running answers go on meanwhile.

        Args:
            name: what to call it.
            path: a GGUF file.
            scale: how strongly it is applied; 1 as it was trained.

        Raises:
            BadInput: the name is taken, or no model is loaded.
            LoadError: the file is missing, damaged, or no adapter for this model.
        """
        self._ready().run(lambda: self._adapters.load(name, Path(path).expanduser(), scale))

    def unload_adapter(self, name: str) -> None:
        """Free a LoRA adapter.

        Raises:
            BadInput: there is none of that name, or no model is loaded.
            Busy: a request is using it.
        """

        def unload() -> None:
            adapter = self._adapters.find(name)
            if self._engine is not None and adapter is not None and self._engine.uses(adapter):
                raise Busy(f"The adapter {name!r} is in use.", hint="Try again when its requests have ended.")
            self._adapters.unload(name)

        self._ready().run(unload)

    def _submit(self, request: GenerationRequest, generation: Generation) -> None:
        engine = self._engine
        if engine is None:
            raise BadInput("This model makes embeddings only; it writes no text.", param="model")
        options = request.options
        self._tokenizer.check(list(options.logit_bias))
        adapter = self._adapters.find(options.adapter)
        prompt, spans, plan = self._plan(request)
        self._check_room(prompt, options)
        engine.submit(
            Request(
                generation,
                prompt,
                Output(generation, self._tokenizer, plan),
                self._defaults.resolve(options),
                limit=self._context_length,
                max_tokens=options.max_tokens,
                priority=options.priority,
                adapter=adapter,
                grammar=plan.grammar,
                trigger=plan.trigger,
                logprobs=options.logprobs,
                spans=spans,
            ),
            self._ready(),
        )

    def _count(self, request: GenerationRequest) -> int:
        return len(self._encode(request.input)[0])

    def _embed(self, inputs: Sequence[str | tuple[int, ...]]) -> tuple[npt.NDArray[np.float32], int]:
        embedder, owner = self._embedder, self._ready()
        if embedder is None:
            raise BadInput("The model was closed.")
        encoded = [embedder.encode(text, index) for index, text in enumerate(inputs)]
        # One job for each batch, so that running answers go on in between.
        rows = [owner.run(lambda part=part: embedder.embed(part)) for part in embedder.batches(encoded)]  # type: ignore[misc]
        return np.concatenate(rows), sum(len(tokens) for tokens in encoded)

    def _plan(self, request: GenerationRequest) -> tuple[list[int], Sequence[Span], AnswerPlan]:
        source, response_format = request.input, request.options.response_format
        if not isinstance(source, Chat):
            return *self._encode(source), plan_text(response_format)
        template = self._chat_template()
        text = template.render(source, self._projector.marker if self._projector else "")
        plan = plan_chat(
            source, response_format, style=template.style, tags=template.tags, template=template.source, prompt=text
        )
        return *self._encode_chat(source, text), plan

    def _encode(self, source: Chat | str | tuple[int, ...]) -> tuple[list[int], Sequence[Span]]:
        if isinstance(source, Chat):
            text = self._chat_template().render(source, self._projector.marker if self._projector else "")
            return self._encode_chat(source, text)
        if isinstance(source, str):
            tokens = self._tokenizer.encode(source)
        else:
            tokens = list(source)
            self._tokenizer.check(tokens)
        if not tokens:
            raise BadInput("The prompt is empty.", param="prompt")
        return tokens, ()

    def _encode_chat(self, chat: Chat, text: str) -> tuple[list[int], Sequence[Span]]:
        add_special = not self._chat_template().begins(text)
        media = [item for message in chat.messages for item in message.media]
        if not media or self._projector is None:
            return self._tokenizer.encode(text, add_special=add_special), ()
        tokens, spans = self._projector.tokenize(text, media, add_special=add_special)
        if spans and spans[-1].end == len(tokens):
            raise BadInput("The model's chat template puts nothing behind the last picture.", param="messages")
        return tokens, spans

    def _chat_template(self) -> ChatTemplate:
        if self._template is None:
            raise Unsupported("This model has no chat template.", hint="Use raw completions.", param="model")
        return self._template

    def _check_room(self, prompt: list[int], options: GenerationOptions) -> None:
        needed = len(prompt) + (options.max_tokens or 1)
        if needed > self._context_length:
            raise ContextTooLong(tokens=needed, limit=self._context_length)
