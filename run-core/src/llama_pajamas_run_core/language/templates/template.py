"""A model's chat template, and how to say with it what it has no words for."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.language.templates import wording
from llama_pajamas_run_core.language.templates.sandbox import TemplateRefusal, compile_template
from llama_pajamas_run_core.text.reasoning import tags_of
from llama_pajamas_run_core.text.tool_calls import ToolStyle, style_of
from llama_pajamas_run_core.types.chat import Chat, Message, Tool, ToolCall

_PROBE = "probe-8d1f"
_ASK: Mapping[str, Any] = {"role": "user", "content": "."}


class ChatTemplate:
    """Renders conversations.

    Templates differ in what they understand. What one lacks is found out once, by rendering small conversations, and
    said in another way (``wording.py``).

    Args:
        source: Jinja.
        origin: where it is from, for error messages.
        tokens: the texts of the model's special tokens by the names that templates have for them ("bos_token",
            "eos_token", ...); "" for one that the model has not.

    Attributes:
        source: Jinja.
        style: how the model writes tool calls.
        tags: how it marks reasoning, or None if it does not.

    Raises:
        LoadError: the template is not valid.
    """

    def __init__(self, source: str, *, origin: str, tokens: Mapping[str, str]) -> None:
        self.source = source
        self.style, self.tags = style_of(source), tags_of(source)
        self._template = compile_template(source, origin)
        self._tokens = dict(tokens)
        self._developer = "developer" in source
        self._parts = False
        self._parts = not self._shows([{"role": "user", "content": _PROBE}]) and self._shows(
            wording.in_parts([{"role": "user", "content": _PROBE}])
        )
        self._system = self._shows([{"role": "system", "content": _PROBE}, _ASK])
        self._tools = self._shows([_ASK], tools=[_tool(Tool(_PROBE))])
        self._calls, self._results, self._quoted = self._probe_calls()
        if not self._tools:
            self.style = ToolStyle.HERMES  # what ``wording.explain_tools`` teaches
            self._calls = self._results = False

    def begins(self, text: str) -> bool:
        """Whether a rendered conversation already begins as texts for this model do."""
        begin = self._tokens.get("bos_token", "")
        return bool(begin) and text.startswith(begin)

    def render(self, chat: Chat, marker: str = "") -> str:
        """The conversation as one text that ends where the model's answer begins.

        Args:
            chat: the conversation.
            marker: what stands for a picture or sound in the text.

        Raises:
            BadInput: the template refuses the conversation, or cannot render it.
        """
        messages = [self._message(message, marker) for message in chat.messages]
        tools = [] if chat.tool_choice == "none" else [_tool(tool) for tool in chat.tools]
        if not self._calls:
            messages = wording.write_calls(messages, self.style)
        if not self._results:
            messages = wording.write_results(messages)
        if not self._tools:
            messages, tools = wording.explain_tools(messages, tools), []
        if not self._system:
            messages = wording.without_system(messages)
        return self._try(messages, tools)

    def _try(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        """Render; where the template objects, once more in the shape that most objections are about."""
        try:
            return self._render(messages, tools=tools or None)
        except (TemplateRefusal, BadInput) as objection:
            try:
                # Some templates look into an empty list of tools, and many insist on speakers who take turns.
                return self._render(wording.taking_turns(messages), tools=tools)
            except (TemplateRefusal, BadInput):
                if isinstance(objection, BadInput):
                    raise objection from None
            raise BadInput(
                f"The model's chat template refuses this conversation: {objection}.", param="messages"
            ) from None

    def _render(self, messages: Sequence[Mapping[str, Any]], **values: Any) -> str:
        return self._template.render(
            messages=wording.in_parts(messages) if self._parts else [dict(message) for message in messages],
            add_generation_prompt=True,
            **self._tokens,
            **values,
        )

    def _shows(self, messages: Sequence[Mapping[str, Any]], **values: Any) -> bool:
        try:
            return _PROBE in self._render(messages, **values)
        except (TemplateRefusal, BadInput):
            return False

    def _probe_calls(self) -> tuple[bool, bool, bool]:
        """Whether calls are shown, whether their results are, and whether arguments have to be JSON in a string."""
        tools = [_tool(Tool("f"))]
        call = ToolCall("call_1", "f", json.dumps({"x": _PROBE}))
        for quoted in (False, True):
            self._quoted = quoted
            plain = self._message(Message("assistant", None, (ToolCall("call_1", "f", "{}"),)))
            asked = self._message(Message("assistant", None, (call,)))
            empty, told = (
                self._message(Message("tool", content, tool_call_id="call_1", name="f")) for content in (".", _PROBE)
            )
            calls = self._shows([_ASK, asked, empty], tools=tools)
            results = self._shows([_ASK, plain, told], tools=tools)
            if calls:
                return calls, results, quoted
        return False, results, False

    def _message(self, message: Message, marker: str = "") -> dict[str, Any]:
        role = message.role
        if role == "developer" and not self._developer:
            role = "system"
        rendered: dict[str, Any] = {"role": role, "content": _content(message, marker)}
        if message.name is not None:
            rendered["name"] = message.name
        if message.tool_calls:
            rendered["tool_calls"] = [
                {
                    "id": self._id(call.id),
                    "type": "function",
                    "function": {"name": call.name, "arguments": self._arguments(call.arguments)},
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            rendered["tool_call_id"] = self._id(message.tool_call_id)
        return rendered

    def _arguments(self, text: str) -> Any:
        """Most templates expect an object to print, as Hugging Face's do; what is not JSON they get as it is."""
        try:
            return text if self._quoted else json.loads(text)
        except (ValueError, RecursionError):
            return text

    def _id(self, call: str) -> str:
        """Mistral's templates insist on ids of nine letters."""
        return hashlib.sha256(call.encode()).hexdigest()[:9] if self.style is ToolStyle.MISTRAL else call


def _content(message: Message, marker: str) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.text
    return "".join(part if isinstance(part, str) else marker for part in message.content)


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
    }
