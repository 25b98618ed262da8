"""A model's chat template, and how to say with it what it has no words for."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

import llama_cpp

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.text.reasoning import tags_of
from llama_pajamas_run_core.text.tool_calls import ToolStyle, style_of
from llama_pajamas_run_core.types.chat import Chat, Message, Tool
from llama_pajamas_run_gguf._session import Session
from llama_pajamas_run_gguf.chat.sandbox import TemplateRefusal, compile_template
from llama_pajamas_run_gguf.tokenizer import Tokenizer

_PROBE = "probe-8d1f"


class ChatTemplate:
    """Renders conversations.

    Templates differ in what they understand. What one lacks is found out once, by rendering small conversations, and
    said in another way: a system prompt at the head of the first question, an answer to a tool call as a question.

    Args:
        source: Jinja.
        origin: where it is from, for error messages.
        bos: text of the token that begins a text, or "".
        eos: text of the token that ends one, or "".

    Raises:
        LoadError: the template is not valid.
    """

    def __init__(self, source: str, *, origin: str, bos: str, eos: str) -> None:
        self.source = source
        self._template = compile_template(source, origin)
        self._bos, self._eos = bos, eos
        self._developer = "developer" in source
        question: Mapping[str, Any] = {"role": "user", "content": _PROBE}
        self._parts = not self._shows([question]) and self._shows([_in_parts(question)])
        self._system = self._shows([{"role": "system", "content": _PROBE}, {"role": "user", "content": "."}])
        self.style, self.tags = style_of(source), tags_of(source)
        self._tools = self._shows([{"role": "user", "content": "."}], tools=[_tool(Tool(_PROBE))])
        if not self._tools:
            self.style = ToolStyle.HERMES  # what :func:`_told_of_tools` teaches

    @classmethod
    def of(cls, session: Session, tokenizer: Tokenizer, source: str | None = None) -> Self | None:
        """The template of a loaded model, or None where it has none."""
        if source is None:
            found = llama_cpp.llama_model_chat_template(session.model, None)
            if not found:
                return None
            source = found.decode("utf-8", "replace")

        def text(token: int) -> str:
            return tokenizer.text([token]) if token >= 0 else ""

        return cls(source, origin=session.path.name, bos=text(tokenizer.bos), eos=text(tokenizer.eos))

    def begins(self, text: str) -> bool:
        """Whether a rendered conversation already begins as texts for this model do."""
        return bool(self._bos) and text.startswith(self._bos)

    def render(self, chat: Chat) -> str:
        """The conversation as one text that ends where the model's answer begins.

        Raises:
            BadInput: the template refuses the conversation, or cannot render it.
        """
        messages = [self._message(message) for message in chat.messages]
        if not self._system:
            messages = _without_system(messages)
        tools = [] if chat.tool_choice == "none" else [_tool(tool) for tool in chat.tools]
        try:
            return self._render(messages, tools=tools or None)
        except TemplateRefusal as refusal:
            raise BadInput(
                f"The model's chat template refuses this conversation: {refusal}.", param="messages"
            ) from None

    def _render(self, messages: Sequence[Mapping[str, Any]], **values: Any) -> str:
        if self._parts:
            messages = [_in_parts(message) for message in messages]
        return self._template.render(
            messages=messages, add_generation_prompt=True, bos_token=self._bos, eos_token=self._eos, **values
        )

    def _shows(self, messages: Sequence[Mapping[str, Any]], **values: Any) -> bool:
        try:
            return _PROBE in self._template.render(
                messages=messages, add_generation_prompt=True, bos_token=self._bos, eos_token=self._eos, **values
            )
        except (TemplateRefusal, BadInput):
            return False

    def _message(self, message: Message) -> dict[str, Any]:
        role = message.role
        if role == "developer" and not self._developer:
            role = "system"
        rendered: dict[str, Any] = {"role": role, "content": message.text}
        if message.name is not None:
            rendered["name"] = message.name
        if message.tool_calls:
            rendered["tool_calls"] = [
                {
                    "id": self._id(call.id),
                    "type": "function",
                    "function": {"name": call.name, "arguments": _arguments(call.arguments)},
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            rendered["tool_call_id"] = self._id(message.tool_call_id)
        return rendered

    def _id(self, call: str) -> str:
        """Mistral's templates insist on ids of nine letters."""
        return hashlib.sha256(call.encode()).hexdigest()[:9] if self.style is ToolStyle.MISTRAL else call


def _arguments(text: str) -> Any:
    """Templates expect an object to print, as Hugging Face's do; what is not JSON they get as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
    }


def _in_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message["content"]
    return {**message, "content": [{"type": "text", "text": content}] if isinstance(content, str) else content}


def _told_of_tools(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For templates without tools: explain them in the system prompt, write calls and results as Hermes models do."""
    result: list[dict[str, Any]] = []
    for message in messages:
        plain = {key: value for key, value in message.items() if key not in ("tool_calls", "tool_call_id")}
        if message["role"] == "tool":
            plain = {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
        for call in message.get("tool_calls", ()):
            plain["content"] = f"{plain['content']}\n<tool_call>\n{json.dumps(call['function'])}\n</tool_call>".lstrip()
        result.append(plain)
    if not tools:
        return result
    listed = "\n".join(json.dumps(tool) for tool in tools)
    prompt = f"{_TOOL_PROMPT[0]}{listed}{_TOOL_PROMPT[1]}"
    if result and result[0]["role"] == "system":
        return [{**result[0], "content": f"{result[0]['content']}\n\n{prompt}"}, *result[1:]]
    return [{"role": "system", "content": prompt}, *result]


_TOOL_PROMPT = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n",
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>",
)


def _joined(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbouring messages by the same speaker as one."""
    result: list[dict[str, Any]] = []
    for message in messages:
        last = result[-1] if result else None
        if (
            last is not None
            and last["role"] == message["role"]
            and last.keys() == message.keys() == {"role", "content"}
        ):
            result[-1] = {**last, "content": f"{last['content']}\n\n{message['content']}"}
        else:
            result.append(message)
    return result


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Move system prompts to the head of the next question."""
    result: list[dict[str, Any]] = []
    pending: list[str] = []
    for message in messages:
        if message["role"] == "system":
            pending.append(message["content"])
        elif message["role"] == "user" and pending:
            result.append({**message, "content": "\n\n".join([*pending, message["content"]])})
            pending = []
        else:
            result.append(message)
    if pending:
        result.append({"role": "user", "content": "\n\n".join(pending)})
    return result
