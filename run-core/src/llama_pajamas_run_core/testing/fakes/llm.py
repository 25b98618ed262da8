"""Fake language models: they echo."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.backends.llm import LLMBackend, LLMCapabilities, SingleLaneLLMBackend
from llama_pajamas_run_core.errors import BadInput, ContextTooLong, InferenceError
from llama_pajamas_run_core.testing.fakes.load import FakeLoad
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.chat import (
    Chat,
    Delta,
    GenerationRequest,
    JsonFormat,
    NamedTool,
    TokenLogprob,
    Tool,
    ToolCallDelta,
    Usage,
)
from llama_pajamas_run_core.types.vision import Image

_TOKEN = re.compile(r"\s*\S+|\s+")
_VECTOR = 16


class _Echo:
    """What the fake language models say: a function of the request."""

    def __init__(self, request: GenerationRequest) -> None:
        self.request = request
        self.prompt = _tokens_of(request)
        self.calls: tuple[ToolCallDelta, ...] = ()
        self.reasoning: list[str] = []
        self.words = _TOKEN.findall(self._answer())
        limit = request.options.max_tokens
        self.finish = "length" if limit is not None and limit < len(self.words) else "stop"
        if limit is not None:
            self.words = self.words[:limit]

    def _answer(self) -> str:
        asked, options = self.request.input, self.request.options
        if isinstance(asked, tuple):
            return " ".join(f"t{token}" for token in asked)
        if isinstance(asked, str):
            return asked
        text = _last_text(asked)
        if options.response_format is not None:
            return json.dumps(_instance(options.response_format, text), ensure_ascii=False)
        if (tool := _tool_for(asked, text)) is not None:
            arguments = json.dumps(_of_schema(tool.parameters, text), ensure_ascii=False)
            half = len(arguments) // 2
            self.calls = (
                ToolCallDelta(0, "call_0", tool.name, arguments[:half]),
                ToolCallDelta(0, arguments=arguments[half:]),
            )
            return ""
        if text.startswith("think: "):
            self.reasoning = ["The person", " wants an echo."]
            text = text.removeprefix("think: ")
        return text

    def deltas(self) -> Iterator[Delta]:
        """Everything but the end."""
        for piece in self.reasoning:
            yield Delta(reasoning=piece)
        for call in self.calls:
            yield Delta(tool_calls=(call,))
        for word in self.words:
            yield Delta(text=word, logprobs=self._logprobs(word))

    def end(self, written: int) -> Delta:
        """The last delta, after so many deltas."""
        usage = Usage(len(self.prompt), written, reasoning_tokens=len(self.reasoning))
        return Delta(finish_reason="tool_calls" if self.calls else self.finish, usage=usage)  # type: ignore[arg-type]

    def _logprobs(self, word: str) -> tuple[TokenLogprob, ...]:
        wanted = self.request.options.logprobs
        if wanted is None:
            return ()
        top = tuple(
            TokenLogprob(f"{word}{i or ''}", f"{word}{i or ''}".encode("utf-8", "replace"), -0.5 - i)
            for i in range(wanted)
        )
        return (TokenLogprob(word, word.encode("utf-8", "replace"), -0.5, top),)


class _FakeText(FakeLoad, LLMBackend):
    """What both fake language models share: an echo of the last message of the user.

    A message that begins with "think: " is reasoned about first; one that names a tool calls it; "fail now" fails
    before the first token and "fail later" after the third.

    Load options:
        pace: seconds for each token.
        context: the context's length in tokens.
        omni: whether it takes pictures and sound.
        lanes: how many requests it serves at once (the batching one alone).
    """

    runtime = "fake"

    def _load(
        self,
        path: Path,
        *,
        pace: float = 0.0,
        context: int = 4096,
        omni: bool = False,
        lanes: int = 4,
        **how: Any,
    ) -> None:
        self._pretend_to_load(path, **how)
        self._pace, self._context, self._omni, self._lanes = pace, context, omni, lanes
        self._running: WeakSet[Generation] = WeakSet()
        self.steps = 0

    def submit(self, request: GenerationRequest) -> Generation:
        _check_choice(request.input)
        generation = super().submit(request)
        self._running.add(generation)
        return generation

    def close(self) -> None:
        for generation in tuple(self._running) if self.loaded else ():
            generation.cancel()
        super().close()

    @property
    def capabilities(self) -> LLMCapabilities:
        return LLMCapabilities(
            tools=True, json=True, logprobs=True, images=self._omni, audio=self._omni, embeddings=True
        )

    @property
    def context_length(self) -> int:
        return self._context

    @property
    def details(self) -> Mapping[str, Any]:
        return {"device": "imagination", "context_length": self._context}

    def _count(self, request: GenerationRequest) -> int:
        return len(_tokens_of(request))

    def _embed(self, inputs: Sequence[str | tuple[int, ...]]) -> tuple[npt.NDArray[np.float32], int]:
        return np.stack([_vector(str(text)) for text in inputs]), sum(len(_words(text)) for text in inputs)

    def _say(self, request: GenerationRequest) -> Iterator[Delta]:
        echo = _Echo(request)
        text = "" if isinstance(request.input, tuple) else _last_text(request.input)
        if "fail now" in text:
            raise InferenceError("the imagined device at 0xdeadbeef is on fire")
        written = 0
        for delta in echo.deltas():
            time.sleep(self._pace)
            if "fail later" in text and written == 3:
                raise InferenceError("the imagined device at 0xdeadbeef is on fire")
            self.steps += 1
            written += 1
            yield Delta(delta.text, delta.reasoning, delta.tool_calls, delta.logprobs, usage=echo.end(written).usage)
        yield echo.end(written)

    def _check_length(self, request: GenerationRequest) -> None:
        tokens = len(_tokens_of(request))
        if tokens >= self._context:
            raise ContextTooLong(tokens=tokens + 1, limit=self._context)


class FakeLLM(_FakeText, SingleLaneLLMBackend):
    """A fake language model that serves one request after another."""

    def _generate(self, request: GenerationRequest) -> Iterator[Delta]:
        self._check_length(request)
        yield from self._say(request)


class FakeBatchLLM(_FakeText):
    """A fake language model that serves several requests at once."""

    @property
    def lanes(self) -> int:
        return self._lanes

    def _submit(self, request: GenerationRequest, generation: Generation) -> None:
        self._check_length(request)
        threading.Thread(target=self._run, args=(request, generation), name="fake-lane", daemon=True).start()

    def _run(self, request: GenerationRequest, generation: Generation) -> None:
        usage = Usage(0, 0)
        try:
            for delta in self._say(request):
                usage = delta.usage or usage
                if delta.finish_reason is not None:
                    generation.finish(delta.finish_reason, usage)
                    return
                generation.push(
                    delta.text, reasoning=delta.reasoning, tool_calls=delta.tool_calls, logprobs=delta.logprobs
                )
                if generation.cancelled:
                    generation.finish("stop", usage)
                    return
        except Exception as error:
            generation.fail(error)


def _words(source: str | tuple[int, ...]) -> Sequence[str | int]:
    return _TOKEN.findall(source) if isinstance(source, str) else source


def _tokens_of(request: GenerationRequest) -> Sequence[str | int]:
    if isinstance(request.input, Chat):
        return [word for message in request.input.messages for word in ("<turn>", *_words(message.text))]
    return _words(request.input)


def _last_text(asked: Chat | str) -> str:
    """The last message of a user or tool, its pictures and sounds in words."""
    if isinstance(asked, str):
        return asked
    spoken = [message for message in asked.messages if message.role in ("user", "tool")]
    if not spoken:
        return ""
    content = spoken[-1].content
    if content is None or isinstance(content, str):
        return content or ""
    named: list[str] = []
    for part in content:
        if isinstance(part, Image):
            named.append(f"[image {part.width}x{part.height}]")
        elif isinstance(part, Audio):
            named.append(f"[audio {part.duration:.1f} s]")
        else:
            named.append(part)
    return " ".join(named)


def _check_choice(asked: Chat | str | tuple[int, ...]) -> None:
    if isinstance(asked, Chat) and isinstance(choice := asked.tool_choice, NamedTool):
        names = [tool.name for tool in asked.tools]
        if choice.name not in names:
            raise BadInput(f"There is no tool '{choice.name}' among {names}.", param="tool_choice")


def _tool_for(chat: Chat, text: str) -> Tool | None:
    choice = chat.tool_choice
    if isinstance(choice, NamedTool):
        return next((tool for tool in chat.tools if tool.name == choice.name), None)
    if choice == "none" or not chat.tools:
        return None
    named = next((tool for tool in chat.tools if tool.name in text), None)
    return named or (chat.tools[0] if choice == "required" else None)


def _instance(format: JsonFormat, text: str) -> Any:
    return {"text": text} if format.schema is None else _of_schema(format.schema, text)


def _of_schema(schema: Mapping[str, Any], text: str) -> Any:
    """A value that satisfies a simple schema."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type", "object"):
        case "string":
            return text
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "array":
            return [_of_schema(schema.get("items", {"type": "string"}), text)]
        case "null":
            return None
    return {name: _of_schema(inner, text) for name, inner in schema.get("properties", {}).items()}


def _vector(text: str) -> npt.NDArray[np.float32]:
    if not text:
        raise BadInput("There is nothing to embed.")
    digest = hashlib.shake_128(text.encode("utf-8", "replace")).digest(_VECTOR)
    return np.frombuffer(digest, np.uint8).astype(np.float32) - 127.5
