"""A model's chat template. Transformers renders it in jinja2's sandbox, in which a template can only make text."""

import json
from collections.abc import Mapping
from typing import Any

from jinja2.exceptions import TemplateError

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.text.reasoning import tags_of
from llama_pajamas_run_core.text.tool_calls import style_of
from llama_pajamas_run_core.types.chat import Chat, Message, Tool


class ChatTemplate:
    """Renders conversations.

    Args:
        tokenizer: of transformers.
        source: Jinja.

    Attributes:
        source: Jinja.
        style: how the model writes tool calls.
        tags: how it marks reasoning, or None if it does not.
        tools: whether it can tell a model of tools.
    """

    def __init__(self, tokenizer: Any, source: str) -> None:
        self.source = source
        self.style, self.tags = style_of(source), tags_of(source)
        self.tools = "tools" in source
        self._developer = "developer" in source
        self._tokenizer = tokenizer

    def render(self, chat: Chat) -> str:
        """The conversation as one text that ends where the model's answer begins.

        Raises:
            BadInput: the template refuses the conversation, or cannot render it.
        """
        messages = [self._message(message) for message in chat.messages]
        tools = [] if chat.tool_choice == "none" else [_tool(tool) for tool in chat.tools]
        try:
            return self._render(messages, tools)
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as objection:
            if messages[0]["role"] == "system" and len(messages) > 1:  # some have no place for it
                try:
                    return self._render(_without_system(messages), tools)
                except (TemplateError, TypeError, ValueError, KeyError, AttributeError):
                    pass
            raise BadInput(
                f"The model's chat template refuses this conversation: {objection}.", param="messages"
            ) from objection

    def _render(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        rendered: str = self._tokenizer.apply_chat_template(
            messages, tools=tools or None, chat_template=self.source, add_generation_prompt=True, tokenize=False
        )
        return rendered

    def _message(self, message: Message) -> dict[str, Any]:
        role = "system" if message.role == "developer" and not self._developer else message.role
        rendered: dict[str, Any] = {"role": role, "content": message.text}
        if message.name is not None:
            rendered["name"] = message.name
        if message.tool_calls:
            rendered["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": _arguments(call.arguments)},
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            rendered["tool_call_id"] = message.tool_call_id
        return rendered


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first, second, *rest = messages
    return [{**second, "content": f"{first['content']}\n\n{second['content']}"}, *rest]


def _arguments(text: str) -> Any:
    """Templates expect an object to print; what is not JSON they get as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tool(tool: Tool) -> Mapping[str, Any]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
    }
