"""Options out of range are refused by name, whatever the runtime."""

import math
from typing import Any

import pytest

from llama_pajamas_run_core.backends.messages import as_chat
from llama_pajamas_run_core.backends.validation import check_options
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.chat import GenerationOptions, Message, ToolCall


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 9),
        ("temperature", math.nan),
        ("top_p", -0.1),
        ("max_tokens", 0),
        ("presence_penalty", 2.5),
        ("repeat_penalty", 0),
        ("repeat_penalty", 10.5),
        ("repeat_penalty", math.nan),
        ("logprobs", 21),
    ],
)
def test_out_of_range(name: str, value: float) -> None:
    with pytest.raises(BadInput, match=name) as caught:
        check_options(GenerationOptions(**{name: value}))
    assert caught.value.param == name


def test_zero_is_a_value() -> None:
    check_options(GenerationOptions(temperature=0, top_k=0, seed=0, logprobs=0))


def test_messages_in_openais_shape() -> None:
    chat = as_chat(
        [
            {"role": "user", "content": [{"type": "text", "text": "Turn it "}, {"type": "text", "text": "off."}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "off", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
        ],
        tools=(),
        tool_choice="auto",
    )
    assert chat.messages[0].text == "Turn it off."
    assert chat.messages[1].tool_calls == (ToolCall("c1", "off", "{}"),)
    assert chat.messages[2].tool_call_id == "c1"
    assert as_chat("Hi", tools=(), tool_choice="auto").messages == (Message("user", "Hi"),)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "robot", "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0]"),
        (["Hello!"], "messages[0]"),
        ([{"role": "assistant", "tool_calls": [{"id": "c1", "name": "off"}]}], "messages[0].tool_calls[0]"),
        ([{"role": "assistant", "tool_calls": ["off"]}], "messages[0].tool_calls[0]"),
        (
            [{"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "off", "arguments": {}}}]}],
            "messages[0].tool_calls[0]",
        ),
    ],
)
def test_messages_that_cannot_be_read(messages: list[Any], param: str) -> None:
    with pytest.raises(BadInput) as caught:
        as_chat(messages, tools=(), tool_choice="auto")
    assert caught.value.param == param
