"""Conversations: templates and what they lack, templates that attack, tool calls and reasoning held to grammars."""

import json

import pytest
from support.tiny_gguf import CHAT_TEMPLATE

from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.text.reasoning import tags_of
from llama_pajamas_run_core.text.tool_calls import ToolCallSplitter, ToolStyle
from llama_pajamas_run_core.types.chat import Chat, JsonFormat, Message, NamedTool, Tool, ToolCall

pytest.importorskip("llama_cpp")

from llama_pajamas_run_gguf.chat import sandbox
from llama_pajamas_run_gguf.chat.plan import plan_chat
from llama_pajamas_run_gguf.chat.template import ChatTemplate
from llama_pajamas_run_gguf.engine.sampling import Candidates, Grammar

WEATHER = Tool(
    "get_weather",
    "Weather of a city",
    {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]},
)
CLOCK = Tool("get_time", "The time")
CONVERSATION = (
    Message("system", "Be brief."),
    Message("user", "How warm is it?"),
    Message("assistant", None, (ToolCall("call_1", "get_weather", '{"city": "Paris"}'),)),
    Message("tool", "21 degrees", tool_call_id="call_1", name="get_weather"),
    Message("user", "Thank you."),
)

#: Families of templates, each reduced to what is particular about it.
TEMPLATES = {
    "qwen": CHAT_TEMPLATE,
    "llama": """\
{{- bos_token }}{%- for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n
{%- if 'tool_calls' in m %}{{ '{"name": "' + m.tool_calls[0].function.name + '", "parameters": ' }}
{{- m.tool_calls[0].function.arguments | tojson }}}{% elif m.role in ("tool", "ipython") %}{{ m.content | tojson }}
{%- else %}{{ m.content | trim }}{% endif %}<|eot_id|>{%- endfor %}
{%- if tools is not none %}{% for t in tools %}{{ t | tojson(indent=4) }}{% endfor %}{% endif %}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}{# <|python_tag|> #}""",
    "mistral": """\
{%- set loop_messages = messages %}{%- if messages[0].role == "system" %}{%- set system_message = messages[0].content %}
{%- set loop_messages = messages[1:] %}{%- endif %}{%- set ns = namespace(index=0) %}
{%- for m in loop_messages %}{%- if not (m.role == "tool" or m.tool_calls is defined) %}
{%- if (m.role == "user") != (ns.index % 2 == 0) %}{{- raise_exception("roles must alternate") }}{%- endif %}
{%- set ns.index = ns.index + 1 %}{%- endif %}{%- endfor %}{{- bos_token }}
{%- if tools is not none %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}
{%- for m in loop_messages %}
{%- if m.role == "user" %}[INST]{% if loop.last and system_message is defined %}{{ system_message + "\n" }}{% endif %}
{{- m.content }}[/INST]{%- elif m.tool_calls is defined %}[TOOL_CALLS][
{%- for c in m.tool_calls %}{% if c.id | length != 9 %}{{ raise_exception("ids have nine letters") }}{% endif %}
{{- c.function | tojson }}{% endfor %}]{{ eos_token }}
{%- elif m.role == "tool" %}[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]
{%- else %}{{ m.content + eos_token }}{%- endif %}{%- endfor %}""",
    "gemma": """\
{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{#- -#}
<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n
{%- endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}""",
    "parts only": "{% for m in messages %}{% for part in m.content %}{{ part['text'] }}{% endfor %}|{% endfor %}",
    "text arguments": (
        "{% for m in messages %}{{ m.role + ':' + m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name + c.function.arguments }}{% endfor %}{% endfor %}"
        "{% if tools %}{{ tools | tojson }}{% endif %}"
    ),
}


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, origin="test.gguf", bos="<s>", eos="</s>")


@pytest.mark.parametrize("family", TEMPLATES)
def test_everything_said_is_in_the_prompt(family: str) -> None:
    made = template(TEMPLATES[family])
    text = made.render(Chat(CONVERSATION, (WEATHER, CLOCK)))
    for said in (
        "Be brief.",
        "How warm",
        "get_weather",
        "Paris",
        "21 degrees",
        "Thank you.",
        "Weather of a city",
        "The time",
    ):
        assert said in text
    plain = made.render(
        Chat((Message("developer", "Be brief."), Message("user", "Hello!"), Message("user", "Anybody?")))
    )
    assert "Be brief." in plain
    assert plain.index("Hello!") < plain.index("Anybody?")


def test_tools_are_left_out_where_none_may_be_called() -> None:
    text = template(CHAT_TEMPLATE).render(Chat(CONVERSATION[:2], (WEATHER,), "none"))
    assert "Weather of a city" not in text


def test_styles_follow_the_template() -> None:
    styles = {family: template(source).style for family, source in TEMPLATES.items()}
    assert styles["qwen"] == ToolStyle.HERMES
    assert styles["llama"] == ToolStyle.LLAMA
    assert styles["mistral"] == ToolStyle.MISTRAL
    assert styles["gemma"] == ToolStyle.HERMES  # taught by the system prompt


def test_a_refusal_is_the_requests_fault() -> None:
    made = template(
        "{% if messages | length > 2 %}{{ raise_exception('only two') }}{% endif %}{{ messages[0].content }}"
    )
    with pytest.raises(BadInput, match="only two"):
        made.render(Chat((Message("user", "a"), Message("assistant", "b"), Message("user", "c"))))


def test_conventions_of_hugging_face() -> None:
    made = template(
        "{%- for m in messages %}\n    {%- if loop.index > 1 %}{% break %}{% endif %}\n"
        "{% generation %}{{ m.content }}{% endgeneration %}{{ {'a': '<é>'} | tojson }}\n{%- endfor %}"
        "{{ strftime_now('%Y') | length }}"
    )
    assert made.render(Chat((Message("user", "Hi"), Message("user", "Ho")))) == 'Hi{"a": "<é>"}4'


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ ('{0.__class__.__init__.__globals__}' | string).format(messages) }}",
        "{{ messages.clear() }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ _tick.__globals__['x'] }}",
    ],
)
def test_a_template_does_not_get_out(attack: str) -> None:
    made = template("{{ messages[0].content }}" + attack)
    with pytest.raises(BadInput, match="could not render"):
        made.render(Chat((Message("user", "Hi"),)))


@pytest.mark.parametrize(
    "attack",
    [
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{% set a = 'a' * 10000 %}{% for i in a %}{% for j in a %}{% for k in a %}{% endfor %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(200) }}",
        "{{ 'a' * 999999999999 }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{{ '%999999999d' % 1 }}",
        "{% for i in range(100000) %}{{ 'a' * 1000 }}{% endfor %}",
    ],
)
def test_a_template_takes_neither_all_time_nor_all_memory(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.2)
    made = template("{{ messages[0].content }}" + attack)
    with pytest.raises(BadInput, match="could not render"):
        made.render(Chat((Message("user", "Hi"),)))


def test_a_broken_template_is_a_load_error() -> None:
    with pytest.raises(LoadError, match=r"test\.gguf"):
        template("{% for m in messages %}")


# Answers


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
        Chat(CONVERSATION[:2], tools, choice, parallel),
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
    from llama_pajamas_run_core.types.chat import GenerationOptions
    from llama_pajamas_run_gguf.engine.sampling import Sampler
    from llama_pajamas_run_gguf.engine.settings import SamplingDefaults, SamplingSettings

    backend = load()

    def run() -> tuple[bool, bool]:
        settings = SamplingSettings.resolve(GenerationOptions(temperature=0.0), SamplingDefaults())
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
