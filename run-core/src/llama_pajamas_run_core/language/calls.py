"""Where a tool call begins in an answer, and which tools may be called."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.text.tool_calls import ToolStyle
from llama_pajamas_run_core.types.chat import Chat, NamedTool, Tool

#: Tokens that are control tokens in some vocabularies, but matter to whoever reads calls.
MARKERS: Final[Mapping[ToolStyle, tuple[str, ...]]] = {
    ToolStyle.HERMES: ("<tool_call>", "</tool_call>"),
    ToolStyle.MISTRAL: ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
    ToolStyle.LLAMA: ("<|python_tag|>", "<|eom_id|>"),
    ToolStyle.GEMMA: (),
}
_OPENERS: Final = {ToolStyle.HERMES: "<tool_call>", ToolStyle.MISTRAL: "[TOOL_CALLS]"}
#: No opener is as long as this.
_LONGEST: Final = 32
#: Characters after which an answer that has not begun as a bare call is none.
_BEGINNING: Final = 512


class Trigger:
    """Watches an answer for the beginning of a tool call, from where on a grammar holds.

    Args:
        pattern: the beginning of a call.
        grammar: makes the grammar of what follows, from the match.
        anywhere: whether calls begin anywhere, not only where the answer does.
    """

    def __init__(self, pattern: re.Pattern[str], grammar: Callable[[re.Match[str]], str], *, anywhere: bool) -> None:
        self._pattern = pattern
        self._grammar = grammar
        self._anywhere = anywhere
        self._text = ""
        self._done = False

    @classmethod
    def of(
        cls,
        style: ToolStyle,
        tools: Sequence[Tool],
        *,
        behind_opener: Callable[[], str],
        behind_name: Callable[[str], str],
    ) -> Self:
        """For a style of calls.

        Args:
            style: how the model writes calls.
            tools: what may be called.
            behind_opener: makes the grammar of what follows the style's opening marker.
            behind_name: makes the grammar of what follows the name of a tool, for styles without such a marker.
        """
        if (opener := _OPENERS.get(style)) is not None:
            return cls(re.compile(re.escape(opener)), lambda _: behind_opener(), anywhere=True)
        return cls(_bare_call([tool.name for tool in tools]), lambda match: behind_name(match[1]), anywhere=False)

    def push(self, text: str) -> tuple[str, str] | None:
        """Take the next characters; once a call begins, the grammar, and the characters that it must take already."""
        if self._done or not text:
            return None
        self._text += text
        found = self._pattern.search(self._text) if self._anywhere else self._pattern.match(self._text)
        if found is None:
            if self._anywhere:
                self._text = self._text[-_LONGEST:]
            self._done = not self._anywhere and len(self._text) > _BEGINNING
            return None
        self._done = True
        return self._grammar(found), self._text[found.end() :]


def callable_tools(chat: Chat) -> tuple[Tool, ...]:
    """The tools that an answer may call.

    Raises:
        BadInput: the tool that must be called does not exist.
    """
    choice = chat.tool_choice
    if choice == "none":
        return ()
    if isinstance(choice, NamedTool):
        chosen = tuple(tool for tool in chat.tools if tool.name == choice.name)
        if not chosen:
            raise BadInput(f"There is no tool {choice.name!r} to be called.", param="tool_choice")
        return chosen
    if choice == "required" and not chat.tools:
        raise BadInput("A tool must be called, but there is none.", param="tool_choice")
    return chat.tools


def object_schema(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """A tool's parameters as a schema of an object; a tool that lists no parameters takes none."""
    schema = {"type": "object", **parameters}
    if not schema.get("properties") and "additionalProperties" not in schema and "$ref" not in schema:
        schema["additionalProperties"] = False
    return schema


def _bare_call(names: Sequence[str]) -> re.Pattern[str]:
    """The beginning of a call that no marker announces, up to its name, which is the only group."""
    known = "|".join(re.escape(name) for name in names)
    return re.compile(rf'\s*(?:<\|python_tag\|>|```(?:json|tool_call)\n)?\s*\[?\s*\{{\s*"name"\s*:\s*"({known})"')
