"""How one conversation's answer is read and held to what was asked: reasoning, tool calls, JSON."""

from collections.abc import Callable

from llama_pajamas_run_core.language.calls import Trigger, callable_tools
from llama_pajamas_run_core.language.plan import AnswerPlan
from llama_pajamas_run_core.text.reasoning import ReasoningTags
from llama_pajamas_run_core.text.tool_calls import ToolStyle
from llama_pajamas_run_core.types.chat import Chat, JsonFormat, NamedTool
from llama_pajamas_run_gguf.grammar.calls import CallGrammar
from llama_pajamas_run_gguf.grammar.gbnf import Rules, literal
from llama_pajamas_run_gguf.grammar.schema import json_body


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
    tools = callable_tools(chat)
    plan = AnswerPlan.reading(style, tags, tools, prompt)
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
        plan.trigger = Trigger.of(
            style,
            tools,
            behind_opener=lambda: grammar(lambda _, calls: calls.behind_opener(), ""),
            behind_name=lambda name: grammar(lambda _, calls: calls.behind_name(name), ""),
        )
        grammar(lambda _, calls: calls.whole())  # a schema that is not valid is told now
    elif response_format is not None:
        rules = Rules()
        plan.grammar = rules.text(f"{before}{json_body(rules, response_format.schema)}")
    return plan


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
