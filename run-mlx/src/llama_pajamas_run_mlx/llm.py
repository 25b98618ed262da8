"""Language models in MLX's format, through mlx-lm."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Final

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache

from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.backends.llm import LLMBackend, LLMCapabilities
from llama_pajamas_run_core.backends.owner import OwnerThread
from llama_pajamas_run_core.errors import BadInput, Busy, ContextTooLong, LoadError, OutOfMemory, Unsupported
from llama_pajamas_run_core.language.plan import AnswerPlan
from llama_pajamas_run_core.language.templates.template import ChatTemplate
from llama_pajamas_run_core.types.chat import Chat, GenerationRequest
from llama_pajamas_run_mlx._session import SharedThread, find_folder, is_out_of_memory, load_language_model
from llama_pajamas_run_mlx.chat.plan import plan_chat, plan_text
from llama_pajamas_run_mlx.engine.adapters import Adapters
from llama_pajamas_run_mlx.engine.embedder import Embedder, find_backbone, pooling_of
from llama_pajamas_run_mlx.engine.engine import Engine
from llama_pajamas_run_mlx.engine.quantized_cache import cache_maker
from llama_pajamas_run_mlx.engine.request import Request
from llama_pajamas_run_mlx.engine.sampling import defaults_of
from llama_pajamas_run_mlx.options import LoadOptions
from llama_pajamas_run_mlx.tokenizer import Tokenizer

_DEFAULT_CONTEXT: Final = 8192
_DEFAULT_LANES: Final = 8
_DEFAULT_BATCH: Final = 512
_DEFAULT_CACHE_MB: Final = 512
_MAX_WAITING: Final = 256
#: Hugging Face's names for the templates of a model that has several.
_DEFAULT: Final = "default"
_WITH_TOOLS: Final = "tool_use"


class MLXLLMBackend(LLMBackend):
    """A language model in mlx-lm, with continuous batching: requests from any number of threads share its steps.

    Args:
        model: a folder with config.json, safetensors and tokenizer.json: one converted for MLX, or a Hugging Face
            checkpoint of an architecture that mlx-lm runs; or the hub id of a model that was pulled
            (``llama-pajamas models pull OWNER/NAME``).
        options: the fields of :class:`LoadOptions`: ``n_ctx``, ``n_lanes``, ``dtype``, ...

    Raises:
        LoadError: the folder is missing, damaged, or of an architecture that mlx-lm does not run.
        OutOfMemory: there is not enough memory.
        BadInput: an option is out of range.
    """

    runtime: ClassVar[str] = "mlx"

    _engine: Engine
    _adapters: Adapters
    _embedder: Embedder | None
    _tokenizer: Tokenizer
    _templates: Mapping[str, ChatTemplate]

    def _open_thread(self) -> OwnerThread:
        return SharedThread()

    def _load(self, path: Path, **options: Any) -> None:
        asked = LoadOptions.of(options)
        path = find_folder(path)
        adapter = None if asked.adapter is None else Path(asked.adapter).expanduser()
        model, wrapped, config = load_language_model(path, dtype=asked.dtype, adapter=adapter)
        text_config = config.get("text_config") or config
        trained = int(text_config.get("max_position_embeddings") or _DEFAULT_CONTEXT)
        context_length = asked.n_ctx or min(trained, _DEFAULT_CONTEXT)
        tokenizer = Tokenizer(wrapped, path, size=_try_out(model, path), max_tokens=context_length)
        templates = _templates(wrapped._tokenizer, asked.chat_template, path)
        adapters = Adapters(model)
        for name, folder in asked.adapters.items():
            adapters.load(name, Path(folder).expanduser())
        backbone = find_backbone(model, text_config.get("hidden_size"))
        embedder = None
        if backbone is not None:
            embedder = Embedder(backbone, tokenizer, pooling=pooling_of(path), limit=context_length)
        bits, lanes = asked.kv_bits, asked.n_lanes or _DEFAULT_LANES
        cache_mb = _DEFAULT_CACHE_MB if asked.prompt_cache_mb is None else asked.prompt_cache_mb
        engine = Engine(
            model,
            tokenizer,
            lanes=lanes,
            batch=asked.n_batch or _DEFAULT_BATCH,
            cache_bytes=cache_mb << 20,
            max_waiting=_MAX_WAITING,
            adapters=adapters,
            make_cache=partial(make_prompt_cache, model) if bits is None else cache_maker(model, bits),
        )
        # All at once: a model that fails to load must leave nothing behind.
        self._context_length, self._lanes = context_length, lanes
        self._tokenizer, self._templates, self._adapters = tokenizer, templates, adapters
        self._embedder, self._engine = embedder, engine
        self._defaults = defaults_of(_generation_config(path))
        self._facts = {**_facts(model, config), "kv_bits": bits}

    def _unload(self) -> None:
        self._engine.close()
        self._embedder = None
        del self._engine, self._tokenizer, self._templates, self._adapters
        mx.clear_cache()

    @property
    def capabilities(self) -> LLMCapabilities:
        chats = self.loaded and bool(self._templates)
        return LLMCapabilities(
            chat=chats,
            tools=chats,
            json=True,
            logprobs=True,
            embeddings=self.loaded and self._embedder is not None,
            adapters=True,
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
            **self._facts,
            "context_length": self._context_length,
            "lanes": self._lanes,
            "adapters": list(self._adapters.names),
        }

    def load_adapter(self, name: str, path: str | PathLike[str]) -> None:
        """Load a LoRA adapter, which requests then ask for with ``adapter=name``. Running answers go on meanwhile.

        Args:
            name: what to call it.
            path: a folder made by mlx-lm or by Hugging Face's PEFT.

        Raises:
            BadInput: the name is taken, or no model is loaded.
            LoadError: the folder holds no LoRA adapter, or none for this model.
        """
        self._ready().run(lambda: self._adapters.load(name, Path(path).expanduser()))

    def unload_adapter(self, name: str) -> None:
        """Free a LoRA adapter.

        Raises:
            BadInput: there is none of that name, or no model is loaded.
            Busy: a request is using it.
        """

        def unload() -> None:
            adapter = self._adapters.find(name)
            if adapter is not None and self._engine.uses(adapter):
                raise Busy(f"The adapter {name!r} is in use.", hint="Try again when its requests have ended.")
            self._adapters.unload(name)

        self._ready().run(unload)

    def _submit(self, request: GenerationRequest, generation: Generation) -> None:
        options = request.options
        self._tokenizer.check(list(options.logit_bias))
        adapter = self._adapters.find(options.adapter)
        prompt, plan = self._plan(request)
        needed = len(prompt) + (options.max_tokens or 1)
        if needed > self._context_length:
            raise ContextTooLong(tokens=needed, limit=self._context_length)
        settings = self._defaults.resolve(options)
        room = self._context_length - len(prompt)
        self._engine.submit(
            Request(generation, prompt, plan, settings, options, room=room, tokenizer=self._tokenizer, adapter=adapter),
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
        rows = [owner.run(partial(embedder.embed, part)) for part in embedder.batches(encoded)]
        return np.concatenate(rows), sum(map(len, encoded))

    def _plan(self, request: GenerationRequest) -> tuple[list[int], AnswerPlan]:
        source, response_format = request.input, request.options.response_format
        tokens, text = self._encode(source)
        if not isinstance(source, Chat):
            return tokens, plan_text(response_format, self._tokenizer)
        plan = plan_chat(
            source, response_format, template=self._chat_template(source), prompt=text, tokenizer=self._tokenizer
        )
        return tokens, plan

    def _encode(self, source: Chat | str | tuple[int, ...]) -> tuple[list[int], str]:
        """The tokens of an input, and its text where it has one."""
        text = ""
        if isinstance(source, Chat):
            text = self._chat_template(source).render(source)
            tokens = self._tokenizer.encode(text, add_special=False)
        elif isinstance(source, str):
            text, tokens = source, self._tokenizer.encode(source)
        else:
            tokens = list(source)
            self._tokenizer.check(tokens)
        if not tokens:
            raise BadInput("The prompt is empty.", param="prompt")
        return tokens, text

    def _chat_template(self, chat: Chat) -> ChatTemplate:
        if not self._templates:
            raise Unsupported("This model has no chat template.", hint="Use raw completions.", param="model")
        wanted = _WITH_TOOLS if chat.tools and chat.tool_choice != "none" else _DEFAULT
        return self._templates.get(wanted, self._templates[_DEFAULT])


def _templates(hugging_face: Any, given: str | None, path: Path) -> dict[str, ChatTemplate]:
    """A model's chat templates by name; none where it has none. Some models have one for conversations with tools."""
    found = given or hugging_face.chat_template
    named = found if isinstance(found, dict) else {_DEFAULT: found} if isinstance(found, str) else {}
    if _DEFAULT not in named:
        return {}
    special = {name: text for name, text in hugging_face.special_tokens_map.items() if isinstance(text, str)}
    tokens = {"bos_token": "", "eos_token": "", **special}
    return {
        name: ChatTemplate(named[name], origin=path.name, tokens=tokens)
        for name in (_DEFAULT, _WITH_TOOLS)
        if name in named
    }


def _try_out(model: nn.Module, path: Path) -> int:
    """See that a model computes; how many tokens it gives logits for."""
    try:
        logits = model(mx.array([[0]]))
        mx.eval(logits)
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(f"There is not enough memory for {path.name}: {error}") from error
        raise LoadError(f"{path} is damaged: it computes nothing ({error}).") from error
    return int(logits.shape[-1])


def _generation_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((path / "generation_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _facts(model: nn.Module, config: Mapping[str, Any]) -> dict[str, Any]:
    flat: Any = tree_flatten(model.parameters())
    arrays = [array for _, array in flat]
    kinds = [array for array in arrays if mx.issubdtype(array.dtype, mx.floating)]
    quantization = config.get("quantization") or {}
    return {
        "architecture": str(config["model_type"]),
        "device": "gpu" if mx.default_device() == mx.gpu else "cpu",
        "dtype": str(kinds[0].dtype).removeprefix("mlx.core.") if kinds else "unknown",
        "bits": quantization.get("bits"),
        "memory": {"weights": sum(array.nbytes for array in arrays)},
    }
