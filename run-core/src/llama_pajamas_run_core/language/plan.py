"""How one answer is read and held to what was asked: reasoning, tool calls, JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from llama_pajamas_run_core.language.calls import MARKERS, Trigger
from llama_pajamas_run_core.text.reasoning import ReasoningSplitter, ReasoningTags
from llama_pajamas_run_core.text.tool_calls import ToolCallSplitter, ToolStyle
from llama_pajamas_run_core.types.chat import Tool


@dataclass(slots=True)
class AnswerPlan:
    """What an engine needs to know about an answer. Grammars are in the language of the runtime's library.

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

    @classmethod
    def reading(cls, style: ToolStyle, tags: ReasoningTags | None, tools: Sequence[Tool], prompt: str) -> Self:
        """How an answer is read that is not held to anything yet.

        Args:
            style: how the model writes tool calls.
            tags: how it marks reasoning, or None if it does not.
            tools: what it may call.
            prompt: the rendered conversation.
        """
        plan = cls()
        if tags is not None:
            plan.reasoning = ReasoningSplitter(tags, prompt)
            plan.markers += (tags.opening, tags.closing)
        if tools:
            plan.calls = ToolCallSplitter(style, [tool.name for tool in tools])
            plan.markers += MARKERS[style]
        return plan
