"""Held-out figures of a chat model, through any language backend: exact answers per family, valid JSON where asked."""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.backends.llm import LLMBackend
from llama_pajamas_run_core.types.chat import Completion, Tool
from llama_pajamas_starter.chat.families import held_out
from llama_pajamas_starter.chat.sample import Message, Sample

#: Questions that are asked before the first answer is awaited: a backend that batches answers them together.
_AT_ONCE: Final = 16
_MAX_TOKENS: Final = 250
#: The floors that the shipped checkpoint must reach.
EXACT_FLOOR: Final = 0.95
JSON_FLOOR: Final = 0.99


@dataclass(frozen=True, slots=True)
class Mistake:
    """A held-out conversation that was answered wrong."""

    family: str
    question: str
    answered: str
    expected: str


@dataclass(slots=True)
class Report:
    """The outcome of an evaluation.

    Attributes:
        exact: per family: how many answers were exactly right, of how many.
        json: how many answers that had to be JSON (objects and tool calls) could be parsed, of how many.
        mistakes: every wrong answer.
    """

    exact: dict[str, tuple[int, int]] = field(default_factory=dict)
    json: tuple[int, int] = (0, 0)
    mistakes: list[Mistake] = field(default_factory=list)

    @property
    def exact_share(self) -> float:
        """Exact answers over all prompts."""
        return sum(right for right, _ in self.exact.values()) / max(1, sum(total for _, total in self.exact.values()))

    @property
    def json_share(self) -> float:
        """Valid JSON where JSON is asked."""
        return self.json[0] / max(1, self.json[1])

    @property
    def passed(self) -> bool:
        """Whether both floors hold."""
        return self.exact_share >= EXACT_FLOOR and self.json_share >= JSON_FLOOR

    def rows(self) -> list[tuple[str, int, int]]:
        """(family, exact, prompts), in alphabetical order."""
        return [(family, right, total) for family, (right, total) in sorted(self.exact.items())]

    def as_dict(self) -> dict[str, Any]:
        """JSON values for a report file."""
        return {
            "exact": self.exact_share,
            "exact_floor": EXACT_FLOOR,
            "valid_json": self.json_share,
            "valid_json_floor": JSON_FLOOR,
            "families": {family: {"exact": right, "prompts": total} for family, right, total in self.rows()},
        }


def evaluate(backend: LLMBackend, *, per_family: int = 30, seed: int = 1) -> Report:
    """Ask held-out questions, decode greedily, and compare with the right answers.

    Args:
        backend: a loaded chat model.
        per_family: prompts of each generator (there are 36 of them).
        seed: which prompts.

    Returns:
        what was right. An answer in words must equal the right one; JSON objects and tool calls are compared as values.
    """
    report, running = Report(), deque[tuple[Sample, Generation]]()
    for sample in held_out(seed, per_family):
        if len(running) == _AT_ONCE:
            _note(report, *running.popleft())
        generation = backend.stream(
            openai_messages(sample.prompt), tools=core_tools(sample.tools), temperature=0.0, max_tokens=_MAX_TOKENS
        )
        running.append((sample, generation))
    while running:
        _note(report, *running.popleft())
    return report


def _note(report: Report, sample: Sample, generation: Generation) -> None:
    completion = generation.result()
    right, valid = judge(sample, completion)
    done, total = report.exact.get(sample.family, (0, 0))
    report.exact[sample.family] = (done + right, total + 1)
    if valid is not None:
        report.json = (report.json[0] + valid, report.json[1] + 1)
    if not right:
        question = str(sample.prompt[-1]["content"])
        report.mistakes.append(Mistake(sample.family, question, _shown(completion), expected(sample)))


def judge(sample: Sample, completion: Completion) -> tuple[bool, bool | None]:
    """(whether the answer is right, whether it is valid JSON or ``None`` where no JSON was asked)."""
    calls = sample.answer.get("tool_calls")
    if calls:
        wanted = [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
        found = [(call.name, _object(call.arguments)) for call in completion.tool_calls]
        valid = bool(found) and all(arguments is not None for _, arguments in found)
        return found == wanted, valid
    if sample.json:
        value = _object(completion.text)
        return value == json.loads(sample.answer["content"]) and not completion.tool_calls, value is not None
    return completion.text == sample.answer["content"] and not completion.tool_calls, None


def expected(sample: Sample) -> str:
    """The right answer as text: the content, or the tool calls as JSON."""
    calls = sample.answer.get("tool_calls")
    return json.dumps([call["function"] for call in calls]) if calls else str(sample.answer["content"])


def openai_messages(messages: Sequence[Message]) -> list[Mapping[str, Any]]:
    """Messages in OpenAI's shape, where a call's arguments are a JSON string."""
    return [
        {
            **message,
            "tool_calls": [
                {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
                for call in message["tool_calls"]
            ],
        }
        if "tool_calls" in message
        else message
        for message in messages
    ]


def core_tools(tools: Sequence[Mapping[str, Any]]) -> list[Tool]:
    """OpenAI-style tool definitions as the backends take them."""
    return [
        Tool(t["function"]["name"], t["function"].get("description", ""), t["function"].get("parameters", {}))
        for t in tools
    ]


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _shown(completion: Completion) -> str:
    if completion.tool_calls:
        return json.dumps([{"name": call.name, "arguments": call.arguments} for call in completion.tool_calls])
    return completion.text
