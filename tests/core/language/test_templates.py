"""Chat templates: what they lack, and templates that attack."""

import pytest
from support.chat_templates import CHAT_TEMPLATE, TEMPLATES

from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.text.tool_calls import ToolStyle
from llama_pajamas_run_core.types.chat import Chat, Message, Tool, ToolCall

pytest.importorskip("jinja2", reason="jinja2 is not installed")

from llama_pajamas_run_core.language.templates import sandbox
from llama_pajamas_run_core.language.templates.template import ChatTemplate

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


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, origin="test.gguf", tokens={"bos_token": "<s>", "eos_token": "</s>"})


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


def test_arguments_that_no_one_can_read_are_shown_as_they_are() -> None:
    for written in ("{broken", "[" * 100_000):
        call = Message("assistant", None, (ToolCall("call_1", "get_weather", written),))
        assert written[:50] in template(CHAT_TEMPLATE).render(Chat((*CONVERSATION[:2], call)))
