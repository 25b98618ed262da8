"""How one answer is read and held to what was asked: reasoning, tool calls, JSON."""

from llama_pajamas_run_core.language.calls import Trigger, callable_tools
from llama_pajamas_run_core.language.plan import AnswerPlan
from llama_pajamas_run_core.language.templates.template import ChatTemplate
from llama_pajamas_run_core.types.chat import Chat, JsonFormat
from llama_pajamas_run_mlx.chat.grammar import Grammar, json_rule
from llama_pajamas_run_mlx.tokenizer import Tokenizer


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
    tools = callable_tools(chat)
    plan = AnswerPlan.reading(template.style, template.tags, tools, prompt)
    if not tools and response_format is None:
        return plan
    grammar = Grammar(
        tokenizer, tools, style=template.style, template=template.source, parallel=chat.parallel_tool_calls
    )
    if tools and response_format is None and chat.tool_choice == "auto":
        plan.trigger = Trigger.of(
            template.style,
            tools,
            behind_opener=lambda: grammar.text(grammar.behind_opener()),
            behind_name=lambda name: grammar.text(grammar.behind_name(name)),
        )
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
