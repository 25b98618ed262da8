"""``/v1/chat/completions``: its request."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.server.schemas.base import Int, Wire
from llama_pajamas_run_core.server.schemas.json_schema import check_schema
from llama_pajamas_run_core.server.schemas.sampling import Sampling
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.chat import (
    Chat,
    GenerationRequest,
    JsonFormat,
    Message,
    NamedTool,
    Part,
    Tool,
    ToolCall,
    ToolChoice,
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
