"""Conversations with a language model: what is asked, how, and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.vision import Image

Role = Literal["system", "developer", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model asks to be called.

    Attributes:
        id: unique within the conversation ("call_...").
        name: the function's name.
        arguments: a JSON object as text.
    """

    id: str
    name: str
    arguments: str


#: A piece of a message: text, a picture or sound.
Part = str | Image | Audio


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.

    Attributes:
        role: who speaks.
        content: text, or pieces of text, pictures and sound in order; None where an assistant only calls tools.
        tool_calls: what an assistant asked to be called.
        tool_call_id: which call a "tool" message answers.
        name: the speaker's or function's name, where given.
    """

    role: Role
    content: str | tuple[Part, ...] | None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """The text pieces, joined."""
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        return "".join(part for part in self.content if isinstance(part, str))

    @property
    def media(self) -> tuple[Image | Audio, ...]:
        """The pictures and sounds, in order."""
        if self.content is None or isinstance(self.content, str):
            return ()
        return tuple(part for part in self.content if not isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may ask to be called.

    Attributes:
        name: letters, digits, underscores and dashes.
        description: what it does, for the model.
        parameters: JSON Schema of the arguments object.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True, slots=True)
class NamedTool:
    """The choice of one tool by name, which the model then must call."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation to be continued.

    Attributes:
        messages: at least one, in order.
        tools: what the model may call.
        tool_choice: whether it may, must, or must not call one.
        parallel_tool_calls: whether one answer may hold several calls.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """The answer must be JSON.

    Attributes:
        schema: the JSON Schema it must satisfy, or None for any object.
    """

    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How to generate. None always means "the model decides".

    Attributes:
        max_tokens: the most tokens generated; None goes on until the model stops or its context is full.
        stop: strings that end the answer; they are not part of it. One string alone is taken for a list of it.
        temperature: 0 (greedy) to 2.
        top_p: nucleus sampling, 0 to 1.
        top_k: only the k likeliest tokens; 0 switches it off.
        min_p: only tokens at least this fraction as likely as the likeliest.
        presence_penalty: -2 to 2, subtracted once from the logits of tokens already in the answer.
        frequency_penalty: -2 to 2, subtracted for each time a token is in the answer.
        repeat_penalty: llama.cpp's multiplicative penalty, above 0 to 10; 1 switches it off.
        seed: makes sampling repeatable.
        logit_bias: added to the logits of token ids.
        logprobs: how many alternatives to report for each token (0: the chosen one alone), or None for no report.
        response_format: what the answer must look like, or None for free text.
        adapter: name of a loaded LoRA adapter.
        priority: requests of a higher priority are served first.
    """

    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    response_format: JsonFormat | None = None
    adapter: str | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):  # else each of its characters would end the answer
            object.__setattr__(self, "stop", (self.stop,))


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a language backend is asked for.

    Attributes:
        input: a conversation (rendered by the model's chat template), raw text, or token ids.
        options: how to generate.
    """

    input: Chat | str | tuple[int, ...]
    options: GenerationOptions = field(default_factory=GenerationOptions)


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts.

    Attributes:
        prompt_tokens: in the prompt, including those whose keys and values were still cached.
        completion_tokens: generated, including reasoning.
        cached_tokens: of the prompt, not computed again.
        reasoning_tokens: of the completion, spent on reasoning.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely a token was.

    Attributes:
        token: its text; bytes that are not UTF-8 by themselves are replaced.
        token_bytes: its bytes.
        logprob: natural logarithm of its probability.
        top: the likeliest tokens at this place, likeliest first.
    """

    token: str
    token_bytes: bytes
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call.

    Attributes:
        index: which call of the answer, from 0.
        id: in the first piece only.
        name: in the first piece only.
        arguments: the next characters of the JSON arguments.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """What one decode step added to an answer.

    The last delta of an answer, and only that, has a finish reason and the usage.

    Attributes:
        text: the next characters; never half a code point.
        reasoning: the next characters of the model's reasoning.
        tool_calls: the next pieces of tool calls.
        logprobs: one for each token, where asked for.
        finish_reason: "stop", "length" or "tool_calls".
        usage: token counts of the whole answer.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: the fold of its deltas.

    ``str(completion)`` is its text.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()

    def __str__(self) -> str:
        return self.text
