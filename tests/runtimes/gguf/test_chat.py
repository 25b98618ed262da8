"""Conversations: tool calls and reasoning held to grammars."""

import json

import pytest
from support.chat_templates import CHAT_TEMPLATE

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.text.reasoning import tags_of
from llama_pajamas_run_core.text.tool_calls import ToolCallSplitter, ToolStyle
from llama_pajamas_run_core.types.chat import Chat, JsonFormat, Message, NamedTool, Tool

pytest.importorskip("llama_cpp")

from llama_pajamas_run_gguf.chat.plan import plan_chat
from llama_pajamas_run_gguf.engine.sampling import Candidates, Grammar

WEATHER = Tool(
    "get_weather",
    "Weather of a city",
    {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]},
)
CLOCK = Tool("get_time", "The time")
CONVERSATION = (Message("system", "Be brief."), Message("user", "How warm is it?"))


def follow(backend, grammar_text: str, text: str) -> bool:
    """Whether a grammar takes a text as a whole answer."""

    def run() -> bool:
        grammar = Grammar(backend._session.vocab, grammar_text, backend._tokenizer)
        candidates = Candidates(1)
        try:
            tokens = backend._tokenizer.encode(text, add_special=False)
            return all(grammar.accept(token, candidates) for token in tokens) and grammar.takes(
                backend._tokenizer.eos, candidates
            )
        finally:
            grammar.close()

    return backend._ready().run(run)


def plan(style: ToolStyle, *, choice="required", tools=(WEATHER, CLOCK), parallel=True, think=False, **more):
    source = more.pop("template", "<think>" if think else "")
    return plan_chat(
        Chat(CONVERSATION, tools, choice, parallel),
        more.pop("response_format", None),
        style=style,
        tags=tags_of(source),
        template=source,
        prompt=more.pop("prompt", "?"),
    )


CALLS = {
    ToolStyle.HERMES: '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}\n</tool_call>',
    ToolStyle.MISTRAL: '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}]',
    ToolStyle.LLAMA: '{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}',
    ToolStyle.GEMMA: '```json\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}\n```',
}


@pytest.mark.parametrize("style", CALLS)
def test_required_calls_are_held_to_the_schema_and_understood(load, style: ToolStyle) -> None:
    backend, call = load(), CALLS[style]
    grammar = plan(style).grammar
    assert follow(backend, grammar, call)
    assert not follow(backend, grammar, "Hello!")
    assert not follow(backend, grammar, call.replace("get_weather", "get_news"))
    assert not follow(backend, grammar, call.replace("3", '"three"'))
    assert not follow(backend, grammar, call.replace('"city": "Paris", ', ""))
    splitter = ToolCallSplitter(style, ["get_weather", "get_time"])
    text, deltas = splitter.push(call)
    rest, more = splitter.flush()
    assert not (text + rest).strip()
    assert (deltas + more)[0].name == "get_weather"
    assert json.loads("".join(delta.arguments for delta in deltas + more)) == {"city": "Paris", "days": 3}


def test_a_named_tool_is_the_only_one(load) -> None:
    backend = load()
    grammar = plan(ToolStyle.HERMES, choice=NamedTool("get_time")).grammar
    assert follow(backend, grammar, '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>')
    assert not follow(backend, grammar, CALLS[ToolStyle.HERMES])
    with pytest.raises(BadInput, match="get_news"):
        plan(ToolStyle.HERMES, choice=NamedTool("get_news"))
    with pytest.raises(BadInput, match="there is none"):
        plan(ToolStyle.HERMES, tools=())


def test_several_calls_only_where_allowed(load) -> None:
    backend = load()
    two = f"{CALLS[ToolStyle.HERMES]}\n{CALLS[ToolStyle.HERMES]}"
    assert follow(backend, plan(ToolStyle.HERMES).grammar, two)
    assert not follow(backend, plan(ToolStyle.HERMES, parallel=False).grammar, two)


def test_newer_mistral_templates_write_the_name_first(load) -> None:
    grammar = plan(ToolStyle.MISTRAL, template="[TOOL_CALLS] [ARGS]").grammar
    assert follow(load(), grammar, '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}')


def test_reasoning_may_come_before_what_is_enforced(load) -> None:
    backend = load()
    call = CALLS[ToolStyle.HERMES]
    grammar = plan(ToolStyle.HERMES, think=True).grammar
    assert follow(backend, grammar, call)
    assert follow(backend, grammar, f"<think>\nIs it <warm>? I ask.\n</think>\n\n{call}")
    assert not follow(backend, grammar, f"<think>\nno end {call}")
    begun = plan(ToolStyle.HERMES, think=True, prompt="...<think>\n").grammar
    assert follow(backend, begun, f"I ask.</think>{call}")
    only = plan(ToolStyle.HERMES, think=True, tools=(), choice="auto", response_format=JsonFormat()).grammar
    assert follow(backend, only, '<think>hm</think>{"a": 1}')


def test_an_answer_in_json_may_be_a_call_instead(load) -> None:
    backend = load()
    schema = {"type": "object", "properties": {"t": {"type": "integer"}}, "required": ["t"]}
    grammar = plan(ToolStyle.HERMES, choice="auto", response_format=JsonFormat(schema)).grammar
    assert follow(backend, grammar, '{"t": 21}')
    assert follow(backend, grammar, CALLS[ToolStyle.HERMES])
    assert not follow(backend, grammar, "It is warm.")


@pytest.mark.parametrize("style", CALLS)
def test_calls_in_free_answers_are_held_to_the_schema_once_they_begin(load, style: ToolStyle) -> None:
    backend, call = load(), CALLS[style]
    made = plan(style, choice="auto")
    assert made.grammar is None
    index, found = next(
        (index, found) for index, character in enumerate(call) if (found := made.trigger.push(character)) is not None
    )
    grammar, begun = found
    assert begun == ""
    rest = call[index + 1 :]
    assert follow(backend, grammar, rest)
    assert not follow(backend, grammar, rest.replace("3", '"three"'))
    # The same when the beginning comes in one piece with more of the call.
    whole = plan(style, choice="auto").trigger.push(call[: index + 4])
    assert whole[1] == call[index + 1 : index + 4]


def test_free_answers_begin_no_calls() -> None:
    made = plan(ToolStyle.LLAMA, choice="auto")
    assert made.trigger.push('Here is an object: {"name": "get_weather", "arguments": {}}') is None
    other = plan(ToolStyle.LLAMA, choice="auto")
    assert other.trigger.push('{"name": "Paris", "mayor": 1}') is None


def test_a_grammar_takes_up_what_is_written_already(load) -> None:
    from llama_pajamas_run_core.language.sampling import SamplingSettings
    from llama_pajamas_run_core.types.chat import GenerationOptions
    from llama_pajamas_run_gguf.engine.sampling import Sampler

    backend = load()

    def run() -> tuple[bool, bool]:
        settings = SamplingSettings().resolve(GenerationOptions(temperature=0.0))
        sampler = Sampler(settings, tokenizer=backend._tokenizer, prompt=(), context=16, vocab=backend._session.vocab)
        grammar, _ = plan(ToolStyle.HERMES, choice="auto").trigger.push("<tool_call>")
        sampler.constrain(grammar, '\n{"name": "get_w')
        fits = sampler.grammar is not None
        sampler.constrain(grammar, "[1, 2")
        given_up = sampler.grammar is None
        sampler.close()
        return fits, given_up

    assert backend._ready().run(run) == (True, True)


def test_a_tool_with_a_schema_beyond_grammars_can_still_be_called(load) -> None:
    odd = Tool("odd", "", {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}, "not": {}})
    grammar = plan(ToolStyle.HERMES, tools=(odd,)).grammar
    assert follow(load(), grammar, '<tool_call>{"name": "odd", "arguments": {"a": [1, 1]}}</tool_call>')
    with pytest.raises(BadInput, match="strnig") as raised:
        plan(ToolStyle.HERMES, tools=(Tool("bad", "", {"properties": {"a": {"type": "strnig"}}}),), choice="auto")
    assert raised.value.param == "tools[0].function.parameters"


def test_reasoning_is_split_off_and_counted(load) -> None:
    backend = load(chat_template=CHAT_TEMPLATE + "{{- '<think>\\n' }}{# </think> #}")
    close = backend._tokenizer.named("</think>")
    answer = backend.chat("Hello!", max_tokens=20, temperature=0.0, logit_bias={close: -100.0})
    assert answer.reasoning
    assert not answer.text
    assert answer.usage.reasoning_tokens == answer.usage.completion_tokens == 20
