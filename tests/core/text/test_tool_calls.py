import json
import random
import re
import time

import pytest

from llama_pajamas_run_core.text.tool_calls import ToolCallSplitter, ToolStyle, style_of

HERMES, MISTRAL, LLAMA, GEMMA = ToolStyle


def split(style, text, size, names=None):
    """The plain text, and the calls as [name, arguments], of a text that comes in pieces of a size (0: odd sizes)."""
    splitter = ToolCallSplitter(style, names)
    rng = random.Random(0)
    plain, calls, ids = "", [], []
    while True:
        step = size or rng.randint(1, 9)
        shown, deltas = splitter.push(text[:step]) if text else splitter.flush()
        plain += shown
        for delta in deltas:
            if delta.id is not None:
                assert delta.index == len(calls)
                calls.append([delta.name, delta.arguments])
                ids.append(delta.id)
            else:
                assert delta.name is None
                calls[delta.index][1] += delta.arguments
        if not text:
            break
        text = text[step:]
    assert splitter.called is bool(calls)
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"call_[0-9a-f]{24}", made) for made in ids)
    return plain, calls


CALLS = {
    "one": (HERMES, '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', "", [["f", '{"a": 1}']]),
    "text before": (HERMES, 'Sure.\n<tool_call>{"name": "f", "arguments": {}}</tool_call>', "Sure.\n", [["f", "{}"]]),
    "text behind": (HERMES, '<tool_call>{"name": "f", "arguments": {}}</tool_call>\nDone.', "Done.", [["f", "{}"]]),
    "two": (
        HERMES,
        '<tool_call>{"name": "f", "arguments": {"a": [1, {"b": "}</tool_call>"}]}}</tool_call>\n\n'
        '<tool_call>{"name": "g", "arguments": {"x": -1.5e3, "y": null}}</tool_call>\n',
        "",
        [["f", '{"a": [1, {"b": "}</tool_call>"}]}'], ["g", '{"x": -1.5e3, "y": null}']],
    ),
    "arguments first": (
        HERMES,
        '\n<tool_call>{"arguments": {"a": "x"}, "name": "f"}</tool_call>',
        "",
        [["f", '{"a": "x"}']],
    ),
    "arguments as a string": (
        HERMES,
        '<tool_call>{"name": "f", "arguments": "{\\"a\\": \\"\\u00e9\\"}"}</tool_call>',
        "",
        [["f", '{"a": "\u00e9"}']],
    ),
    "no arguments": (HERMES, '<tool_call>{"name": "f"}</tool_call>', "", [["f", "{}"]]),
    "null arguments": (HERMES, '<tool_call>{"name": "f", "arguments": null}</tool_call>', "", [["f", "{}"]]),
    "several in one": (
        HERMES,
        '<tool_call>[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {"a": 1}}]</tool_call>',
        "",
        [["f", "{}"], ["g", '{"a": 1}']],
    ),
    "never closed": (HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1}}', "", [["f", '{"a": 1}']]),
    "half closed": (HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool', "", [["f", '{"a": 1}']]),
    "a raw line break": (
        HERMES,
        '<tool_call>{"name": "f", "arguments": {"a": "x\ny"}}</tool_call>',
        "",
        [["f", '{"a": "x\\ny"}']],
    ),
    "broken off": (HERMES, '<tool_call>{"name": "f", "arguments": {"a": "lon', "", [["f", '{"a": "lon']]),
    "mistral array": (
        MISTRAL,
        '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}, "id": "abc"}]',
        "",
        [["f", '{"a": 1}'], ["g", "{}"]],
    ),
    "mistral by name": (
        MISTRAL,
        'Hm. [TOOL_CALLS]f[ARGS]{"a": [1]}[TOOL_CALLS]my.g-2[CALL_ID]abc123456[ARGS]{}',
        "Hm. ",
        [["f", '{"a": [1]}'], ["my.g-2", "{}"]],
    ),
    "mistral without marker": (MISTRAL, '[TOOL_CALLS] f {"a": 1}', "", [["f", '{"a": 1}']]),
    "bare": (LLAMA, '{"name": "f", "parameters": {"a": "b"}}', "", [["f", '{"a": "b"}']]),
    "bare with a type": (
        LLAMA,
        '\n{"type": "function", "name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}',
        "",
        [["f", '{"a": 1}'], ["g", "{}"]],
    ),
    "bare array": (LLAMA, '[{"name": "f", "parameters": {}}]', "", [["f", "{}"]]),
    "python tag": (
        LLAMA,
        'I call. <|python_tag|>{"name": "f", "parameters": {}}<|eom_id|>',
        "I call. ",
        [["f", "{}"]],
    ),
    "fenced Python": (
        GEMMA,
        "Ok.\n```tool_code\nprint(f(a=1, b=['x', True, None]))\n```\n",
        "Ok.\n",
        [["f", '{"a": 1, "b": ["x", true, null]}']],
    ),
    "fenced list": (
        GEMMA,
        "```tool_code\n[f(), lights.set(on=False)]\n```",
        "",
        [["f", "{}"], ["lights.set", '{"on": false}']],
    ),
    "fenced JSON": (GEMMA, '```json\n{"name": "f", "parameters": {"a": 1}}\n```', "", [["f", '{"a": 1}']]),
    "an open fence": (GEMMA, "```tool_code\nf(a=1)", "", [["f", '{"a": 1}']]),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("size", [0, 1, 2, 5, 10_000])
def test_calls(name, size):
    style, text, plain, calls = CALLS[name]
    assert split(style, text, size) == (plain, calls)
    if name != "broken off":
        assert all(isinstance(json.loads(arguments), dict) for _, arguments in calls)


PLAIN = [
    (HERMES, "Just text, with a < b and <b>tags</b>."),
    (HERMES, "what is a <tool_call> and a </tool_call>?"),
    (HERMES, "<tool_call>"),
    (HERMES, "a <tool_cal"),
    (HERMES, "  \n"),
    (HERMES, "  indented\n text "),
    (HERMES, '<tool_call>{"foo": 1}</tool_call> x'),
    (HERMES, '\n<tool_call>{"name": 5, "arguments": {}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "f", "arguments": [1]}</tool_call>'),
    (HERMES, '<tool_call>{"name": "f", "arguments": "not json"}</tool_call>'),
    (HERMES, "<tool_call>{'name': 'f', 'arguments': {}}</tool_call>"),
    (HERMES, '<tool_call>{"name": "f", "arg'),
    (HERMES, '<tool_call>{"name": "f" "arguments": {}}</tool_call>'),
    (HERMES, '{"name": "f", "arguments": {}}'),
    (MISTRAL, "[TOOL_CALLS]get weather now"),
    (MISTRAL, "[TOOL] [1] [TOOL_CALLS"),
    (MISTRAL, "[TOOL_CALLS]"),
    (LLAMA, '{"answer": 42, "name": "x"}'),
    (LLAMA, '{"name": "Bob", "age": 4}'),
    (LLAMA, '[1] see {"name": "f", "parameters": {}}'),
    (LLAMA, "<|python_tag|>print(1)"),
    (GEMMA, '```json\n{"x": 1}\n``` end'),
    (GEMMA, "```python\nf(a=1)\n```"),
    (GEMMA, "\n```tool_code\nimport os\n```"),
    (GEMMA, "```tool_code\nf(1)\n```"),
    (GEMMA, "```tool_code\nf(a=g())\n```"),
    (GEMMA, "```tool_code\n" + "(" * 5000 + "\n```"),
]


@pytest.mark.parametrize(("style", "text"), PLAIN)
@pytest.mark.parametrize("size", [0, 1, 3, 10_000])
def test_what_is_no_call_is_plain_text(style, text, size):
    assert split(style, text, size) == (text, [])


def test_a_call_follows_what_only_looked_like_one():
    text = 'Write <tool_call> like <tool_call>{"name": "f", "arguments": {}}</tool_call>'
    assert split(HERMES, text, 1) == ("Write <tool_call> like ", [["f", "{}"]])


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (HERMES, '<tool_call>{"name": "nope", "arguments": {}}</tool_call> x'),
        (MISTRAL, "[TOOL_CALLS]nope[ARGS]{}"),
        (LLAMA, '{"name": "nope", "parameters": {}}'),
        (GEMMA, "```tool_code\nnope(a=1)\n```"),
    ],
)
def test_a_tool_that_there_is_not_is_plain_text(style, text):
    for size in (1, 4, 1000):
        assert split(style, text, size, {"f"}) == (text, [])
        plain, calls = split(style, text.replace("nope", "f"), size, {"f"})
        assert plain in ("", "x")
        assert calls[0][0] == "f"


def test_plain_text_passes_at_once():
    for style in ToolStyle:
        splitter = ToolCallSplitter(style)
        for piece in ("Hello", " there", ", it", " is", "\n", "1 > 0."):
            assert splitter.push(piece) == (piece, ())


def test_arguments_pass_as_they_come():
    splitter = ToolCallSplitter(HERMES)
    assert splitter.push("Yes. <tool") == ("Yes. ", ())
    assert splitter.push('_call>{"name": "f", "argu') == ("", ())
    begin, piece = splitter.push('ments": {"te')[1]
    assert (begin.index, begin.name, begin.arguments) == (0, "f", "")
    assert (piece.index, piece.id, piece.name, piece.arguments) == (0, None, None, '{"te')
    for text in ('xt": "one', " two", '"}'):
        (piece,) = splitter.push(text)[1]
        assert piece.arguments == text
    assert splitter.push("}</tool_call>") == ("", ())
    assert splitter.flush() == ("", ())


def test_arguments_that_go_wrong_are_not_hidden():
    plain, calls = split(HERMES, '<tool_call>{"name": "f", "arguments": {"a": oops}}</tool_call>', 3)
    assert calls == [["f", '{"a": ']]
    assert plain.startswith("oops")


FRAGMENTS = (
    '<tool_call>|</tool_call>|{|}|"name"|:|"f"|"arguments"|,|[|]|```tool_code\n|```json\n|```|f(a=1)|[TOOL_CALLS]|[ARGS]|'
    '\n| |abc|<|python_tag|>|"|\\|1|<|`|{"name": "f", "arguments": {|é'
).split("|")


@pytest.mark.parametrize("style", list(ToolStyle))
def test_whatever_comes_nothing_is_lost(style):
    rng = random.Random(0)
    for _ in range(1000):
        text = "".join(rng.choices(FRAGMENTS, k=rng.randint(1, 16)))
        plain, calls = split(style, text, 1)
        for size in (0, 2, 10_000):
            assert split(style, text, size) == (plain, calls)
        if not calls:
            assert plain == text


@pytest.mark.timeout(20)
def test_long_calls_and_hostile_text_take_time_in_proportion():
    arguments = json.dumps({"code": "x = 1\n" * 20_000})
    _, calls = split(HERMES, f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>', 4)
    assert calls == [["f", arguments]]
    for hostile in ("<tool_call>" * 3000, "<tool_call>{" * 3000, "<" * 30_000):
        assert split(HERMES, hostile, 50) == (hostile, [])


def test_styles_by_template():
    assert style_of("...<tool_call>\\n{...}") is HERMES
    assert style_of("{{ '[TOOL_CALLS][' }}") is MISTRAL
    assert style_of("<|python_tag|>") is LLAMA
    assert style_of("<|start_header_id|>ipython") is LLAMA
    assert style_of("<start_of_turn>model") is GEMMA
    assert style_of("{{ messages }}") is LLAMA


def test_arguments_are_json_or_no_call():
    """Python's literals have an infinity, JSON has none; and nobody reads a hundred thousand brackets."""
    infinite = "```tool_code\nset(volume=1e999)\n```"
    assert split(GEMMA, infinite, 7) == (infinite, [])
    deep = '<tool_call>{"name": "f", "arguments": "' + "[" * 100_000 + '"}</tool_call>'
    assert split(HERMES, deep, 4096) == (deep, [])


def test_a_fence_full_of_white_space_costs_no_time():
    text = "```json\n" + " \n" * 4000 + "x"
    started = time.process_time()
    plain, calls = split(GEMMA, text, 16)
    assert (plain, calls) == (text, [])
    assert time.process_time() - started < 2
