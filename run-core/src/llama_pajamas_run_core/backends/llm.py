"""The abstract language backend."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.backends.messages import as_chat
from llama_pajamas_run_core.backends.validation import check_options
from llama_pajamas_run_core.dsp.heads import unit_vectors
from llama_pajamas_run_core.errors import BadInput, InferenceError, Unsupported
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.chat import (
    Chat,
    Completion,
    Delta,
    GenerationOptions,
    GenerationRequest,
    Message,
    Tool,
    ToolChoice,
)
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_run_core.types.vision import Image


@dataclass(frozen=True, slots=True)
class LLMCapabilities:
    """The features a language backend has. A request for one it lacks raises Unsupported before the backend sees it."""

    chat: bool = True
    tools: bool = False
    json: bool = False
    logprobs: bool = False
    images: bool = False
    audio: bool = False
    embeddings: bool = False
    adapters: bool = False


class LLMBackend(Backend):
    """A language model.

    A runtime writes :meth:`_submit`, :meth:`_count` and, where it can, :meth:`_embed`; this class gives the rest.
    """

    task: ClassVar[Task] = Task.LLM

    @property
    def capabilities(self) -> LLMCapabilities:
        """What the loaded model can do."""
        return LLMCapabilities()

    @property
    @abstractmethod
    def context_length(self) -> int:
        """The most tokens of prompt and answer together."""

    @abstractmethod
    def _submit(self, request: GenerationRequest, generation: Generation) -> None:
        """Start a generation and return at once.

        Push what is decoded into the generation, look at ``generation.cancelled`` between steps, and end it with
        ``finish`` or ``fail``. May be called from any thread. Raises what is wrong with the request before anything is
        decoded, where that can be told without waiting.
        """

    @abstractmethod
    def _count(self, request: GenerationRequest) -> int:
        """How many tokens the rendered input has. May be called from any thread."""

    def _embed(self, inputs: Sequence[str | tuple[int, ...]]) -> tuple[npt.NDArray[np.float32], int]:
        """Embeddings [n, d], not yet normalized, and the number of tokens. Only where capabilities.embeddings."""
        raise Unsupported(f"{type(self).__name__} makes no embeddings.")

    def submit(self, request: GenerationRequest) -> Generation:
        """Start a generation.

        Args:
            request: what to generate from and how.

        Returns:
            the answer on its way; iterate over it, sync or async. Leaving the iteration cancels it.

        Raises:
            BadInput: a value is out of range, the conversation is empty, or no model is loaded.
            Unsupported: the model lacks a feature that the request needs.
            Busy: the runtime's queue is full.
        """
        self._ready()
        check_options(request.options)
        self._check_features(request)
        generation = Generation(request.options.stop)
        self._submit(request, generation)
        return generation

    def stream(
        self,
        messages: str | Sequence[Message | Mapping[str, Any]],
        *,
        tools: Sequence[Tool] = (),
        tool_choice: ToolChoice = "auto",
        **options: Any,
    ) -> Generation:
        """Continue a conversation, piece by piece.

        Args:
            messages: the conversation, as messages or as mappings with "role" and "content"; a string is one user
                message.
            tools: what the model may call.
            tool_choice: whether it may, must, or must not call one.
            options: the fields of :class:`GenerationOptions`.

        Returns:
            the deltas of the answer; iterable with ``for`` and with ``async for``.

        Raises:
            as :meth:`submit`.
        """
        chat = as_chat(messages, tools=tuple(tools), tool_choice=tool_choice)
        return self.submit(GenerationRequest(chat, GenerationOptions(**options)))

    def chat(
        self,
        messages: str | Sequence[Message | Mapping[str, Any]],
        *,
        tools: Sequence[Tool] = (),
        tool_choice: ToolChoice = "auto",
        **options: Any,
    ) -> Completion:
        """Continue a conversation; the whole answer. Arguments and errors as :meth:`stream`."""
        return self.stream(messages, tools=tools, tool_choice=tool_choice, **options).result()

    def generate(self, prompt: str, **options: Any) -> Completion:
        """Continue raw text, without a chat template.

        Args:
            prompt: the text to continue.
            options: the fields of :class:`GenerationOptions`.

        Raises:
            as :meth:`submit`.
        """
        return self.submit(GenerationRequest(prompt, GenerationOptions(**options))).result()

    def count_tokens(self, messages: str | Sequence[Message | Mapping[str, Any]], *, tools: Sequence[Tool] = ()) -> int:
        """How many tokens a conversation has once rendered, or a string has as raw text."""
        self._ready()
        source = messages if isinstance(messages, str) else as_chat(messages, tools=tuple(tools), tool_choice="auto")
        return self._count(GenerationRequest(source))

    def embed(self, inputs: Sequence[str | tuple[int, ...]]) -> tuple[npt.NDArray[np.float32], int]:
        """Map texts (or token ids) to vectors.

        Returns:
            float32 [n, d], each of Euclidean length 1, and how many tokens were read.

        Raises:
            BadInput: an input is empty.
            ContextTooLong: an input does not fit the model's context.
            InferenceError: a vector is not finite.
            Unsupported: the model makes no embeddings.
        """
        self._ready()
        if not self.capabilities.embeddings:
            raise Unsupported("This model makes no embeddings.", param="model")
        if isinstance(inputs, str):
            raise BadInput("inputs is a list; put a single text into one.", param="input")
        for index, text in enumerate(inputs):
            if not text:
                raise BadInput("An input to embed is empty.", param=f"input[{index}]")
        vectors, tokens = self._embed(inputs)
        return unit_vectors(vectors), tokens

    def _check_features(self, request: GenerationRequest) -> None:
        has, options = self.capabilities, request.options
        if options.response_format is not None and not has.json:
            raise Unsupported("This model's runtime cannot enforce JSON.", param="response_format")
        if options.logprobs is not None and not has.logprobs:
            raise Unsupported("This model's runtime reports no token probabilities.", param="logprobs")
        if options.adapter is not None and not has.adapters:
            raise Unsupported("This model's runtime has no LoRA adapters.", param="adapter")
        if not isinstance(request.input, Chat):
            return
        if not has.chat:
            raise Unsupported("This model has no chat template.", hint="Use raw completions.", param="model")
        if request.input.tools and request.input.tool_choice != "none" and not has.tools:
            raise Unsupported("This model cannot call tools.", param="tools")
        for index, message in enumerate(request.input.messages):
            if any(isinstance(part, Image) for part in message.media) and not has.images:
                raise Unsupported("This model reads no images.", param=f"messages[{index}].content")
            if any(isinstance(part, Audio) for part in message.media) and not has.audio:
                raise Unsupported("This model hears no audio.", param=f"messages[{index}].content")


class SingleLaneLLMBackend(LLMBackend):
    """A language model that serves one request after another on the thread that owns it.

    A runtime writes :meth:`_generate` instead of :meth:`_submit`.
    """

    @abstractmethod
    def _generate(self, request: GenerationRequest) -> Iterator[Delta]:
        """Yield the deltas of an answer, the last one with finish reason and usage. Runs on the owner thread."""

    def _submit(self, request: GenerationRequest, generation: Generation) -> None:
        def run() -> None:
            try:
                if generation.cancelled:
                    return
                deltas = self._generate(request)
                spent = None
                for delta in deltas:
                    spent = delta.usage or spent
                    generation.push(
                        delta.text, reasoning=delta.reasoning, tool_calls=delta.tool_calls, logprobs=delta.logprobs
                    )
                    if delta.finish_reason is not None and delta.usage is not None:
                        generation.finish(delta.finish_reason, delta.usage)
                    elif generation.stopped and spent is not None:
                        generation.finish("stop", spent)
                        break
                    elif generation.cancelled and not generation.stopped:
                        break
                else:
                    generation.fail(InferenceError("The model's answer ended without saying why."))
            except BaseException as error:
                generation.fail(error)

        self._ready().submit(run)
