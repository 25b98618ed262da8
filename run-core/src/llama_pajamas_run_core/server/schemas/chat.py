"""``/v1/chat/completions``: its request, its reply, its chunks."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.server.schemas.base import Int, Wire, new_id, total, usage_of
from llama_pajamas_run_core.server.schemas.json_schema import check_schema
from llama_pajamas_run_core.server.wire import finite
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.chat import (
    Chat,
    Completion,
    Delta,
    GenerationOptions,
    GenerationRequest,
    JsonFormat,
    Message,
    NamedTool,
    Part,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    Usage,
)
from llama_pajamas_run_core.types.vision import Image

#: Turns what a client sent as a picture into one; given the source and its place in the request.
ReadImage = Callable[[str, str], Image]
#: Turns what a client sent as sound into sound; given the source and its place in the request.
ReadAudio = Callable[[str, str], Audio]

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONTENT = "text or a list of parts"


class TextPart(Wire):
    """Text within a message."""

    type: Literal["text"]
    text: str


class RefusalPart(Wire):
    """An assistant's refusal, given back as history."""

    type: Literal["refusal"]
    refusal: str


class ImageURL(Wire):
    """Where a picture is: a data URL."""

    url: str
    detail: str | None = None


class ImagePart(Wire):
    """A picture within a message."""

    type: Literal["image_url"]
    image_url: ImageURL


class InputAudio(Wire):
    """Sound as base64. The format is told from the bytes."""

    data: str
    format: str | None = None


class AudioPart(Wire):
    """Sound within a message."""

    type: Literal["input_audio"]
    input_audio: InputAudio


ContentPart = Annotated[TextPart | ImagePart | AudioPart | RefusalPart, Field(discriminator="type")]


class FunctionCall(Wire):
    """A call's function and arguments."""

    name: str
    arguments: str


class WireToolCall(Wire):
    """A call that an assistant made."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class WireMessage(Wire):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[ContentPart], Field(max_length=1024)] | None = None
    name: str | None = None
    tool_calls: Annotated[list[WireToolCall], Field(max_length=128)] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None

    def to_core(self, where: str, image: ReadImage, audio: ReadAudio) -> Message:
        """The core's message.

        Raises:
            BadInput: content or tool_call_id is missing, or media cannot be read.
        """
        calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in self.tool_calls or ())
        content: str | tuple[Part, ...] | None
        if self.content is None and not (self.role == "assistant" and (calls or self.refusal)):
            raise BadInput(
                f"{where}.content: a message of the role '{self.role}' needs content.", param=f"{where}.content"
            )
        if self.role == "tool" and not self.tool_call_id:
            param = f"{where}.tool_call_id"
            raise BadInput(f"{param}: a message of the role 'tool' names the call that it answers.", param=param)
        if self.content is None:
            content = self.refusal
        elif isinstance(self.content, str):
            content = self.content
        else:
            parts = [_part(part, f"{where}.content[{i}]", image, audio) for i, part in enumerate(self.content)]
            content = "".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else tuple(parts)
        return Message(self.role, content, calls, self.tool_call_id, self.name)


def _part(part: ContentPart, where: str, image: ReadImage, audio: ReadAudio) -> Part:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, RefusalPart):
        return part.refusal
    if isinstance(part, ImagePart):
        return image(part.image_url.url, f"{where}.image_url.url")
    return audio(part.input_audio.data, f"{where}.input_audio.data")


class Function(Wire):
    """A function that may be called."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if not _TOOL_NAME.fullmatch(name):
            raise ValueError("a tool's name is 1 to 64 letters, digits, underscores and dashes")
        return name

    @field_validator("parameters")
    @classmethod
    def _parameters(cls, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if parameters is None else check_schema(parameters)


class WireTool(Wire):
    """A tool that the model may use."""

    type: Literal["function"]
    function: Function

    def to_core(self) -> Tool:
        """The core's tool."""
        plain = Tool(self.function.name, self.function.description or "")
        return replace(plain, parameters=self.function.parameters) if self.function.parameters else plain


class FunctionName(Wire):
    """A function by its name."""

    name: str


class WireNamedTool(Wire):
    """The choice of one tool."""

    type: Literal["function"]
    function: FunctionName


class JsonSchema(Wire):
    """A schema with its name."""

    name: str = "answer"
    schema_: dict[str, Any] = Field(alias="schema", default_factory=lambda: {"type": "object"})

    @field_validator("schema_")
    @classmethod
    def _schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        return check_schema(schema)


class ResponseFormat(Wire):
    """What the answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _whole(self) -> "ResponseFormat":
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("the type 'json_schema' needs the field 'json_schema'")
        return self

    def to_core(self) -> JsonFormat | None:
        """The core's format; None for free text."""
        if self.type == "text":
            return None
        return JsonFormat(self.json_schema.schema_ if self.json_schema is not None else None)


class StreamOptions(Wire):
    """What a stream holds beside the answer."""

    include_usage: bool | None = None


class Sampling(Wire):
    """How to generate: what chat and raw completions have in common."""

    model: str
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[Int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repeat_penalty: Annotated[float, Field(ge=0, le=10)] | None = None
    seed: Annotated[Int, Field(ge=-(2**63), lt=2**64)] | None = None
    stop: str | Annotated[list[Annotated[str, Field(max_length=1000)]], Field(max_length=4)] | None = None
    n: Annotated[Int, Field(ge=1, le=8)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=1024)] | None = None
    max_tokens: Annotated[Int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    priority: Annotated[Int, Field(ge=-100, le=100)] | None = None
    adapter: Annotated[str, Field(max_length=200)] | None = None

    @model_validator(mode="after")
    def _streaming(self) -> "Sampling":
        if self.stream_options is not None and not self.stream:
            raise BadInput("stream_options is only allowed with stream: true.", param="stream_options")
        return self

    @property
    def count(self) -> int:
        """How many answers are asked for."""
        return 1 if self.n is None else self.n

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def options(self) -> GenerationOptions:
        """The core's options, as far as they are shared."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return GenerationOptions(
            max_tokens=self.max_tokens,
            stop=tuple(text for text in stop if text),
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repeat_penalty=self.repeat_penalty,
            seed=self.seed,
            logit_bias={_token_id(token): bias for token, bias in (self.logit_bias or {}).items()},
            adapter=self.adapter,
            priority=self.priority or 0,
        )

    def copies(self, request: GenerationRequest) -> list[GenerationRequest]:
        """The request once for each answer asked for; with a seed, each gets one of its own, or all would be alike."""
        seed = request.options.seed
        if seed is None:
            return [request] * self.count
        return [replace(request, options=replace(request.options, seed=seed + i)) for i in range(self.count)]


def _token_id(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise BadInput("The keys of logit_bias are token ids.", param="logit_bias")
    return int(text)


class ChatRequest(Sampling):
    """A conversation to be continued."""

    messages: Annotated[list[WireMessage], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[Int, Field(ge=1)] | None = None
    tools: Annotated[list[WireTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | WireNamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[Int, Field(ge=0, le=20)] | None = None
    functions: Any = None

    @model_validator(mode="after")
    def _consistent(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise BadInput("top_logprobs is only allowed with logprobs: true.", param="top_logprobs")
        if self.functions:
            raise BadInput("functions is no longer used; send tools.", param="functions")
        names = {tool.function.name for tool in self.tools or ()}
        if isinstance(self.tool_choice, WireNamedTool) and self.tool_choice.function.name not in names:
            raise BadInput("tool_choice names a tool that is not among tools.", param="tool_choice")
        if self.tool_choice == "required" and not names:
            raise BadInput("tool_choice 'required' needs tools.", param="tool_choice")
        return self

    def media(self) -> int:
        """How many pictures and sounds the conversation has."""
        parts = [part for message in self.messages if isinstance(message.content, list) for part in message.content]
        return sum(isinstance(part, (ImagePart, AudioPart)) for part in parts)

    def to_core(self, image: ReadImage, audio: ReadAudio) -> GenerationRequest:
        """The core's request. Blocks where there is media to be decoded.

        ``max_completion_tokens`` wins over the deprecated ``max_tokens``.

        Raises:
            BadInput: a message lacks what its role needs, or media cannot be read.
        """
        choice: ToolChoice = "auto"
        if isinstance(self.tool_choice, WireNamedTool):
            choice = NamedTool(self.tool_choice.function.name)
        elif self.tool_choice is not None:
            choice = self.tool_choice
        chat = Chat(
            tuple(message.to_core(f"messages[{i}]", image, audio) for i, message in enumerate(self.messages)),
            tuple(tool.to_core() for tool in self.tools or ()),
            choice,
            self.parallel_tool_calls is not False,
        )
        options = replace(
            self.options(),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            response_format=None if self.response_format is None else self.response_format.to_core(),
        )
        if self.max_completion_tokens is not None:
            options = replace(options, max_tokens=self.max_completion_tokens)
        return GenerationRequest(chat, options)


class ChatReply:
    """One reply to a chat request: whole, or as the chunks of a stream.

    Args:
        model: the model's id.
        include_usage: whether a stream ends with the usage.
    """

    def __init__(self, model: str, *, include_usage: bool = False) -> None:
        self._head = {
            "id": new_id("chatcmpl"),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._tail = {"usage": None} if include_usage else {}
        self._begun: set[int] = set()
        self._calls: set[tuple[int, int]] = set()
        self._usages: list[Usage] = []

    @property
    def usage(self) -> Usage:
        """Of all answers that ended."""
        return total(self._usages) if self._usages else Usage(0, 0)

    def whole(self, completions: list[Completion]) -> dict[str, Any]:
        """The reply to a request without streaming."""
        self._usages = [completion.usage for completion in completions]
        choices = [
            {
                "index": index,
                "message": _message(completion),
                "logprobs": _logprobs(completion.logprobs) if completion.logprobs else None,
                "finish_reason": completion.finish_reason,
            }
            for index, completion in enumerate(completions)
        ]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": usage_of(self.usage)}

    def chunks(self, index: int, delta: Delta) -> Iterator[dict[str, Any]]:
        """The chunks for one delta of one answer."""
        if index not in self._begun:
            self._begun.add(index)
            yield self._chunk(index, {"role": "assistant", "content": ""})
        if delta.reasoning:
            yield self._chunk(index, {"reasoning_content": delta.reasoning})
        if delta.text or delta.logprobs:
            yield self._chunk(index, {"content": delta.text}, logprobs=delta.logprobs)
        if delta.tool_calls:
            yield self._chunk(index, {"tool_calls": [self._call(index, piece) for piece in delta.tool_calls]})
        if delta.usage is not None:
            self._usages.append(delta.usage)
        if delta.finish_reason is not None:
            yield self._chunk(index, {}, finish=delta.finish_reason)

    def empty(self) -> dict[str, Any]:
        """A chunk that says nothing, to keep a connection alive."""
        return self._chunk(0, {})

    def usage_chunk(self) -> dict[str, Any]:
        """The last chunk where usage is asked for."""
        return {**self._head, "choices": [], "usage": usage_of(self.usage)}

    def _chunk(
        self, index: int, delta: dict[str, Any], *, finish: str | None = None, logprobs: tuple[TokenLogprob, ...] = ()
    ) -> dict[str, Any]:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": _logprobs(logprobs) if logprobs else None,
            "finish_reason": finish,
        }
        return {**self._head, "choices": [choice], **self._tail}

    def _call(self, index: int, piece: ToolCallDelta) -> dict[str, Any]:
        key = (index, piece.index)
        if key in self._calls:
            return {"index": piece.index, "function": {"arguments": piece.arguments}}
        self._calls.add(key)
        function = {"name": piece.name or "", "arguments": piece.arguments}
        return {"index": piece.index, "id": piece.id or new_id("call"), "type": "function", "function": function}


def _message(completion: Completion) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": completion.text, "refusal": None}
    if completion.reasoning:
        message["reasoning_content"] = completion.reasoning
    if completion.tool_calls:
        message["content"] = completion.text or None
        message["tool_calls"] = [
            {
                "id": call.id or new_id("call"),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in completion.tool_calls
        ]
    return message


def _logprobs(tokens: tuple[TokenLogprob, ...]) -> dict[str, Any]:
    def plain(token: TokenLogprob) -> dict[str, Any]:
        return {"token": token.token, "logprob": finite(token.logprob), "bytes": list(token.token_bytes)}

    content = [{**plain(token), "top_logprobs": [plain(other) for other in token.top]} for token in tokens]
    return {"content": content, "refusal": None}
