"""Numbers within bounds as GBNF, against arithmetic."""

import random
import re
from decimal import Decimal

import pytest

from llama_pajamas_run_gguf.grammar.numbers import integer_between, number_between


def as_regex(grammar: str) -> re.Pattern[str]:
    """The few things of GBNF that numbers need, as a regular expression."""
    parts = re.findall(r'"([^"]*)"|(\s+)|([^"\s]+)', grammar)
    return re.compile("".join(other or f"(?:{re.escape(text)})" for text, space, other in parts if not space))


@pytest.mark.parametrize("seed", range(4))
def test_numbers_are_taken_where_they_lie_between_the_bounds(seed: int) -> None:
    draw = random.Random(seed)

    def bound() -> Decimal:
        if draw.random() < 0.3:
            return Decimal(draw.choice(["0", "1", "-1", "10", "100", "-10", "0.5", "-0.25"]))
        return Decimal(str(round(draw.uniform(-30, 130), draw.randint(0, 3))))

    for _ in range(200):
        low, high = (bound() if draw.random() < 0.8 else None for _ in range(2))
        if low is not None and high is not None and low > high:
            low, high = high, low
        out = (low is not None and draw.random() < 0.3, high is not None and draw.random() < 0.3)
        grammar = number_between(low, high, low_excluded=out[0], high_excluded=out[1])
        if grammar is None:
            assert low == high
            continue
        pattern = as_regex(grammar)
        for _ in range(20):
            near = draw.choice([value for value in (low, high, bound()) if value is not None])
            value = near + Decimal(str(round(draw.uniform(-2, 2), draw.randint(0, 4)))) * draw.choice([0, 1])
            valid = (low is None or value > low or (value == low and not out[0])) and (
                high is None or value < high or (value == high and not out[1])
            )
            text = format(value.normalize(), "f")
            assert (pattern.fullmatch(text.lstrip("-") if value == 0 else text) is not None) == valid, (low, high, text)


@pytest.mark.parametrize("seed", range(4))
def test_integers_are_taken_where_they_lie_between_the_bounds(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(150):
        low, high = (draw.choice([None, draw.randint(-150, 1200)]) for _ in range(2))
        if low is not None and high is not None and low > high:
            low, high = high, low
        pattern = as_regex(integer_between(*(None if b is None else Decimal(b) for b in (low, high))) or "x")
        for value in (draw.randint(-200, 1300) for _ in range(20)):
            valid = (low is None or value >= low) and (high is None or value <= high)
            assert (pattern.fullmatch(str(value)) is not None) == valid, (low, high, value)
    assert integer_between(Decimal("1.2"), Decimal("1.8")) is None
