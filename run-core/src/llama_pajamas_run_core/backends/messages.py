"""Conversations as people write them (strings, mappings in OpenAI's shape) to conversations as backends read them."""

from collections.abc import Mapping, Sequence
from typing import Any

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.chat import Chat, Message, Part, Tool, ToolCall, ToolChoice
from llama_pajamas_run_core.types.vision import Image

ROLES = ("system", "developer", "user", "assistant", "tool")


def as_chat(
    messages: str | Sequence[Message | Mapping[str, Any]], *, tools: tuple[Tool, ...], tool_choice: ToolChoice
) -> Chat:
    """Build a conversation.

    Args:
        messages: a string is one user message; a mapping has "role", "content" and, where they apply, "tool_calls",
            "tool_call_id" and "name", as in OpenAI's API.
        tools: what the model may call.
        tool_choice: whether it may, must, or must not call one.

    Raises:
        BadInput: there is no message, a role is unknown, or something in one is of the wrong type.
    """
    if isinstance(messages, str):
        messages = (Message("user", messages),)
    if not messages:
        raise BadInput("A conversation needs at least one message.", param="messages")
    return Chat(
        tuple(_message(message, f"messages[{index}]") for index, message in enumerate(messages)),
        tools=tools,
        tool_choice=tool_choice,
    )


def _message(message: Message | Mapping[str, Any], where: str) -> Message:
    if isinstance(message, Message):
        return message
    if not isinstance(message, Mapping):
        raise BadInput("A message is a Message, or a mapping with 'role' and 'content'.", param=where)
    role = message.get("role")
    if role not in ROLES:
        raise BadInput(f"A message's role is one of {', '.join(ROLES)}, not {role!r}.", param=f"{where}.role")
    calls = tuple(
        _call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(message.get("tool_calls") or ())
    )
    content = message.get("content")
    return Message(
        role,
        content if content is None or isinstance(content, str) else _parts(content, f"{where}.content"),
        tool_calls=calls,
        tool_call_id=message.get("tool_call_id"),
        name=message.get("name"),
    )


def _call(call: Any, where: str) -> ToolCall:
    if isinstance(call, ToolCall):
        return call
    try:
        made = ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
    except (KeyError, TypeError):
        made = None
    if made is None or not all(isinstance(text, str) for text in (made.id, made.name, made.arguments)):
        raise BadInput("A tool call has 'id' and 'function' with 'name' and 'arguments', each a string.", param=where)
    return made


def _parts(content: Any, where: str) -> tuple[Part, ...]:
    if not isinstance(content, Sequence):
        raise BadInput("A message's content is text, or a list of parts.", param=where)
    parts: list[Part] = []
    for index, part in enumerate(content):
        if isinstance(part, (str, Image, Audio)):
            parts.append(part)
        elif isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
            parts.append(part["text"])
        else:
            raise BadInput(
                "A part of a message is text, an Image, an Audio, or {'type': 'text', 'text': ...}.",
                param=f"{where}[{index}]",
            )
    return tuple(parts)
