"""Small JSON answers beyond home control: a result, or a name and an age, as one object."""

import json
from typing import Any, Final

from llama_pajamas_starter.chat.arithmetic import key_of
from llama_pajamas_starter.chat.sample import Draw, Sample, capitalise, normalise

_NAMES: Final = ("Anna", "Tom", "Ben", "Clara", "David", "Emma", "Alice", "Bob")


def result(draw: Draw) -> Sample:
    """A sum or a difference as {"result": 42}."""
    a, b = draw.integer(0, 100), draw.integer(0, 100)
    word = draw.pick(("plus", "minus"))
    if word == "minus" and b > a:
        a, b = b, a
    text = draw.pick(("what is {}", "how much is {}", "{}", "calculate {}"))
    asked = draw.pick(
        (
            "{}? Answer as JSON with the key result.",
            '{}? Reply as JSON: {{"result": number}}',
            "as JSON with the key result: {}",
            "{}? Give the result as JSON.",
            "{}, answer with a JSON object with the key result",
        )
    ).format(text.format(f"{draw.number(a)} {word} {draw.number(b)}"))
    return _sample(asked, {"result": a + b if word == "plus" else a - b}, key_of(a, word, b))


def person(draw: Draw) -> Sample:
    """A name and an age out of a sentence."""
    name, age = draw.pick(_NAMES) if draw.chance(0.4) else draw.word().capitalize(), draw.integer(1, 99)
    text = draw.pick(
        (
            "{} is {} years old",
            "my name is {} and I am {} years old",
            "{} is {}",
            "this is {}, {} years old",
            "I am {} and I am {}",
        )
    ).format(name, draw.number(age))
    asked = draw.pick(
        (
            "extract the name and the age as JSON: {}",
            "{}. Extract name and age as JSON.",
            "give me the name and the age as JSON: {}",
            "return JSON with name and age: {}",
            "{}. Answer with a JSON object with the keys name and age.",
        )
    ).format(text)
    return _sample(asked, {"name": name, "age": age}, normalise(text))


def _sample(asked: str, answer: dict[str, Any], key: str) -> Sample:
    messages = [{"role": "user", "content": capitalise(asked)}, {"role": "assistant", "content": json.dumps(answer)}]
    return Sample("other JSON", messages, (key,), json=True)
