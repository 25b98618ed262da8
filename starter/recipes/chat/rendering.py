"""Conversations as text, through the chat template that ships with the model."""

import json
import random
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

from llama_pajamas_starter.chat.families import greeting_text, raw_text, samples
from llama_pajamas_starter.chat.sample import Draw, Message, Sample, Split

#: The share of documents without the template, so that a bare completion makes sense too.
RAW_SHARE = 0.03


def template_text() -> str:
    """The chat template's source."""
    return files("llama_pajamas_starter.chat").joinpath("template.jinja").read_text(encoding="utf-8").rstrip("\n")


class Renderer:
    """Renders conversations as the runtimes do.

    Hugging Face keeps the key order of tool definitions and passes arguments as dictionaries; llama-cpp-python sorts
    the keys, and OpenAI's clients send arguments as a JSON string. The model must know both.
    """

    def __init__(self) -> None:
        self._render: list[Callable[..., str]] = []
        for sort_keys in (False, True):
            environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
            environment.policies["json.dumps_kwargs"] = {"sort_keys": sort_keys, "ensure_ascii": False}
            self._render.append(environment.from_string(template_text()).render)

    def text(
        self, messages: list[Message], tools: list[dict[str, Any]], *, prompt: bool = False, openai: bool = False
    ) -> str:
        """The conversation as text.

        Args:
            prompt: end with the assistant's header instead of an answer.
            openai: sorted keys and arguments as strings.
        """
        if openai:
            messages = [_with_string_arguments(message) for message in messages]
        return self._render[openai](messages=messages, tools=tools or None, add_generation_prompt=prompt)

    def example(self, sample: Sample, *, openai: bool = False) -> tuple[str, str]:
        """(prompt text, answer text up to and including the end token)."""
        prompt = self.text(sample.prompt, sample.tools, prompt=True, openai=openai)
        whole = self.text(sample.messages, sample.tools, openai=openai)
        return prompt, whole[len(prompt) :].rstrip("\n")


def _with_string_arguments(message: Message) -> Message:
    if "tool_calls" not in message:
        return message
    calls = [
        {
            **call,
            "function": {
                **call["function"],
                "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
            },
        }
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def documents(seed: int, split: Split) -> Iterator[tuple[str, str]]:
    """Endless training documents: (text that is only read, text that is learnt), the first empty for conversations.

    In a conversation every assistant turn is learnt; where those are is told from the tokens (see ``packing.py``).
    """
    renderer, rng = Renderer(), random.Random(f"documents {seed}")
    for sample in samples(seed, split):
        if rng.random() < RAW_SHARE:
            draw = Draw(rng)
            if rng.random() < 0.25:
                question, answer = greeting_text(draw)
                yield question, answer + "<|im_end|>"
                continue
            if len(sample.messages) == 2 and not sample.tools:
                question, answer = raw_text(sample)
                yield question, answer + "<|im_end|>"
                continue
        yield "", renderer.text(sample.messages, sample.tools, openai=rng.random() < 0.5)
