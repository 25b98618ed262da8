"""How one conversation's answer is read and held to what was asked: reasoning, tool calls, JSON."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.text.reasoning import ReasoningSplitter, ReasoningTags
from llama_pajamas_run_core.text.tool_calls import ToolCallSplitter, ToolStyle
from llama_pajamas_run_core.types.chat import Chat, JsonFormat, NamedTool, Tool
from llama_pajamas_run_gguf.grammar.calls import CallGrammar, bare_call
from llama_pajamas_run_gguf.grammar.gbnf import Rules, literal
from llama_pajamas_run_gguf.grammar.schema import json_body

#: Tokens that are markup to llama.cpp but matter to whoever reads calls and reasoning.
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
    """

    def __init__(self, pattern: re.Pattern[str], grammar: Callable[[re.Match[str]], str], *, anywhere: bool) -> None:
        self._pattern = pattern
        self._grammar = grammar
        self._anywhere = anywhere
        self._text = ""
        self._done = False

    def push(self, text: str) -> tuple[str, str] | None:
        """Take the next characters; once a call begins, the grammar, and the characters that it must take already."""
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
        grammar: GBNF that holds from the first token, or None.
        trigger: begins a grammar later, or None.
        reasoning: splits reasoning off, or None.
        calls: splits tool calls off, or None.
        markers: control tokens, as text, that the splitters must see.
    """

    grammar: str | None = None
    trigger: Trigger | None = None
    reasoning: ReasoningSplitter | None = None
    calls: ToolCallSplitter | None = None
    markers: tuple[str, ...] = field(default=())


def plan_text(response_format: JsonFormat | None) -> AnswerPlan:
    """For raw text."""
    if response_format is None:
        return AnswerPlan()
    rules = Rules()
    return AnswerPlan(grammar=rules.text(json_body(rules, response_format.schema)))


def plan_chat(
    chat: Chat,
    response_format: JsonFormat | None,
    *,
    style: ToolStyle,
    tags: ReasoningTags | None,
    template: str,
    prompt: str,
) -> AnswerPlan:
    """For a conversation.

    Args:
        chat: the conversation.
        response_format: what the answer must look like.
        style: how the model writes tool calls.
        tags: how it marks reasoning, or None if it does not.
        template: its chat template.
        prompt: the rendered conversation.

    Raises:
        BadInput: a schema is not valid, or the tool that must be called does not exist.
        Unsupported: the schema of the answer cannot be enforced.
    """
    tools = _callable_tools(chat)
    plan = AnswerPlan()
    if tags is not None:
        plan.reasoning = ReasoningSplitter(tags, prompt)
        plan.markers += (tags.opening, tags.closing)
    if tools:
        plan.calls = ToolCallSplitter(style, [tool.name for tool in tools])
        plan.markers += _MARKERS[style]
    before = _reasoning_rule(tags, prompt)

    def grammar(body: Callable[[Rules, CallGrammar], str], prefix: str = before) -> str:
        rules = Rules()
        calls = CallGrammar(rules, tools, style, template=template, parallel=chat.parallel_tool_calls)
        return rules.text(f"{prefix}{body(rules, calls)}")

    if tools and (chat.tool_choice == "required" or isinstance(chat.tool_choice, NamedTool)):
        plan.grammar = grammar(lambda _, calls: calls.whole())
    elif tools and response_format is not None:
        schema = response_format.schema
        plan.grammar = grammar(lambda rules, calls: f"({calls.whole()} | {json_body(rules, schema)})")
    elif tools:
        opener = _OPENERS.get(style)
        if opener is not None:
            plan.trigger = Trigger(
                re.compile(re.escape(opener)),
                lambda _: grammar(lambda _, calls: calls.behind_opener(), ""),
                anywhere=True,
            )
        else:
            plan.trigger = Trigger(
                bare_call([tool.name for tool in tools]),
                lambda match: grammar(lambda _, calls: calls.behind_name(match[1]), ""),
                anywhere=False,
            )
        grammar(lambda _, calls: calls.whole())  # a schema that is not valid is told now
    elif response_format is not None:
        rules = Rules()
        plan.grammar = rules.text(f"{before}{json_body(rules, response_format.schema)}")
    return plan


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


def _reasoning_rule(tags: ReasoningTags | None, prompt: str) -> str:
    """What may stand before an answer that is held to a grammar."""
    if tags is None:
        return ""
    closing = tags.closing
    # A text that does not contain the closing tag: at each of its letters, the next one may be another.
    parts = ["[^" + _in_class(closing[0]) + "]"]
    parts += [f"{literal(closing[:end])} [^{_in_class(closing[end])}]" for end in range(1, len(closing))]
    thought = f"({' | '.join(parts)})* {literal(closing)} [ \\n]{{0,4}} "
    if prompt.rstrip().endswith(tags.opening):
        return thought
    return f"({literal(tags.opening)} {thought})? "


def _in_class(character: str) -> str:
    return "\\" + character if character in "]-[\\" else character
