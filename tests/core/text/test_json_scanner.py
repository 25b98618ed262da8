import json
import random

import pytest

from llama_pajamas_run_core.text.json_scanner import JsonScanner


def scan(text):
    """Whether the text is one whole object or array."""
    scanner = JsonScanner()
    for index, character in enumerate(text):
        try:
            scanner.feed(character)
        except ValueError:
            return False
        if scanner.state == "done":
            return index == len(text) - 1
    return False


GOOD = [
    "{}",
    "[]",
    ' {"a": 1}',
    '{"a": [1, -2.5e+3, true, false, null, "x", {}, []]}',
    '{"a": "\\u00e9 \\" \\\\ \\/ \\n"}',
    '[[[{"": {"b": 0}}]]]',
]
BAD = [
    "1",
    '"x"',
    "{a: 1}",
    "{'a': 1}",
    '{"a" 1}',
    '{"a": 1,}',
    "[1,]",
    "[,1]",
    '{"a": 01}',
    '{"a": +1}',
    '{"a": tru}',
    '{"a": 1]',
    "[1}",
    '{"a": "\\x"}',
    '{"a": "\\u12g4"}',
    '{"a": "\\uu0041"}',
    '{"a": "\\u00u1"}',
    '{"a": 1 2}',
    "}",
    "]",
    '{"a"}',
    '{"a":}',
    '{"a": 1',
    "{,}",
]


@pytest.mark.parametrize("text", GOOD)
def test_json(text):
    json.loads(text)
    assert scan(text)


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_json(text):
    assert not scan(text)


def test_control_characters_are_escaped():
    scanner = JsonScanner()
    made = "".join(scanner.feed(character) for character in '{"a": "x\ny\tz\x01"}')
    assert json.loads(made) == {"a": "x\ny\tz\x01"}


def test_it_agrees_with_the_parser():
    rng = random.Random(0)
    outcomes = set()
    for _ in range(3000):
        changed = list(rng.choice(GOOD).strip())
        for _ in range(rng.randint(0, 2)):
            changed[rng.randrange(len(changed))] = rng.choice('{}[]",:1-e.\\tn ')
        text = "".join(changed).strip()
        try:
            expected = isinstance(json.loads(text), (dict, list))
        except ValueError:
            expected = False
        assert scan(text) == expected, text
        outcomes.add(expected)
    assert outcomes == {True, False}
