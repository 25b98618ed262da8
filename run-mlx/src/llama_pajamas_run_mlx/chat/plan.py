"""How one answer is read and held to what was asked: reasoning, tool calls, JSON."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.text.reasoning import ReasoningSplitter
from llama_pajamas_run_core.text.tool_calls import ToolCallSplitter, ToolStyle
from llama_pajamas_run_core.types.chat import Chat, JsonFormat, NamedTool, Tool
from llama_pajamas_run_mlx.chat.grammar import Grammar, json_rule
from llama_pajamas_run_mlx.chat.template import ChatTemplate
from llama_pajamas_run_mlx.tokenizer import Tokenizer

#: Control tokens that matter to whoever reads calls.
_MARKERS = {
    ToolStyle.HERMES: ("<tool_call>", "</tool_call>"),
    ToolStyle.MISTRAL: ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
    ToolStyle.LLAMA: ("<|python_tag|>", "<|eom_id|>"),
    ToolStyle.GEMMA: (),
}
_OPENERS = {ToolStyle.HERMES: "<tool_call>", ToolStyle.MISTRAL: "[TOOL_CALLS]"}


class Trigger:
    """Watches an answer for the beginning of a tool call, from where on a grammar holds.

    Args:
        pattern: the beginning of a call.
        grammar: makes the grammar of what follows, from the match.
        anywhere: whether calls begin anywhere, not only where the answer does.
        reasoning: tells reasoning, in which calls do not count, from the answer; or None.
    """

    def __init__(
        self,
        pattern: re.Pattern[str],
        grammar: Callable[[re.Match[str]], str],
        *,
        anywhere: bool,
        reasoning: ReasoningSplitter | None,
    ) -> None:
        self._pattern = pattern
        self._grammar = grammar
        self._anywhere = anywhere
        self._reasoning = reasoning
        self._text = ""
        self._done = False

    def push(self, text: str) -> tuple[str, str] | None:
        """Take the next characters; once a call begins, the grammar, and the characters that it must take already."""
        if self._reasoning is not None:
            _, text = self._reasoning.push(text)
        if self._done or not text:
            return None
        self._text += text
        found = self._pattern.search(self._text) if self._anywhere else self._pattern.match(self._text)
        if found is None:
            if self._anywhere:  # no marker is this long
                self._text = self._text[-32:]
            self._done = not self._anywhere and len(self._text) > 512
            return None
        self._done = True
        return self._grammar(found), self._text[found.end() :]


@dataclass(slots=True)
class AnswerPlan:
    """What the engine needs to know about an answer.

    Attributes:
        grammar: holds from the first token, or None.
        trigger: begins a grammar later, or None.
        reasoning: splits reasoning off, or None.
        calls: splits tool calls off, or None.
        markers: control tokens, as text, that the splitters must see.
    """

    grammar: str | None = None
    trigger: Trigger | None = None
    reasoning: ReasoningSplitter | None = None
    calls: ToolCallSplitter | None = None
    markers: tuple[str, ...] = ()


def plan_text(response_format: JsonFormat | None, tokenizer: Tokenizer) -> AnswerPlan:
    """For raw text."""
    if response_format is None:
        return AnswerPlan()
    grammar = Grammar(tokenizer)
    return AnswerPlan(grammar=grammar.check(grammar.text(json_rule(response_format.schema)), "response_format"))


def plan_chat(
    chat: Chat, response_format: JsonFormat | None, *, template: ChatTemplate, prompt: str, tokenizer: Tokenizer
) -> AnswerPlan:
    """For a conversation.

    Args:
        chat: the conversation.
        response_format: what the answer must look like.
        template: the model's.
        prompt: the rendered conversation.
        tokenizer: of the model.

    Raises:
        BadInput: a schema is not valid, or the tool that must be called does not exist.
        Unsupported: the schema of the answer cannot be enforced.
    """
    tools = _callable_tools(chat)
    plan = AnswerPlan()
    if template.tags is not None:
        plan.reasoning = ReasoningSplitter(template.tags, prompt)
        plan.markers += (template.tags.opening, template.tags.closing)
    if tools:
        plan.calls = ToolCallSplitter(template.style, [tool.name for tool in tools])
        plan.markers += _MARKERS[template.style]
    elif response_format is None:
        return plan
    grammar = Grammar(
        tokenizer, tools, style=template.style, template=template.source, parallel=chat.parallel_tool_calls
    )
    if tools and response_format is None and chat.tool_choice == "auto":
        plan.trigger = _trigger(grammar, tools, template, prompt)
        return plan
    body = []
    if tools:
        body.append(grammar.calls())
    if response_format is not None and chat.tool_choice in ("auto", "none"):
        body.append("document")
        grammar.add("document", json_rule(response_format.schema))
    thought = grammar.thought(template.tags, prompt)
    plan.grammar = grammar.check(grammar.text(f"{thought}({' | '.join(body)})"), "response_format")
    return plan


def _trigger(grammar: Grammar, tools: Sequence[Tool], template: ChatTemplate, prompt: str) -> Trigger:
    reasoning = None if template.tags is None else ReasoningSplitter(template.tags, prompt)
    opener = _OPENERS.get(template.style)
    if opener is not None:
        pattern = re.compile(re.escape(opener))
        return Trigger(pattern, lambda _: grammar.text(grammar.behind_opener()), anywhere=True, reasoning=reasoning)
    return Trigger(
        _bare_call([tool.name for tool in tools]),
        lambda match: grammar.text(grammar.behind_name(match[1])),
        anywhere=False,
        reasoning=reasoning,
    )


def _bare_call(names: Sequence[str]) -> re.Pattern[str]:
    """The beginning of a call that no marker announces, up to its name, which is the only group."""
    known = "|".join(re.escape(name) for name in names)
    return re.compile(rf'\s*(?:<\|python_tag\|>|```(?:json|tool_call)\n)?\s*\[?\s*\{{\s*"name"\s*:\s*"({known})"')


def _callable_tools(chat: Chat) -> tuple[Tool, ...]:
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
