"""Whisper's tokens become segments and words."""

import math

import pytest

from llama_pajamas_run_core.dsp.transcript import Stretch, Token, compression_ratio, cut, decode, mean_logprob, words

FIRST = 1000


def _time(seconds: float) -> Token:
    return Token(FIRST + round(seconds / 0.02), b"", -0.1)


def _text(text: str, end: float | None = None, probability: float = 1.0) -> Token:
    return Token(1, text.encode(), math.log(probability), end)


def _cut(*tokens: Token, duration: float = 30.0) -> tuple[list[tuple[str, float, float]], float | None]:
    stretches, again = cut(tokens, FIRST, duration)
    return [(one.text, round(one.start, 2), round(one.end, 2)) for one in stretches], again


def test_pairs_of_timestamps_cut() -> None:
    said = _cut(_time(0.2), _text(" One"), _time(1), _time(1.4), _text(" two"), _time(3))
    assert said == ([("One", 0.2, 1.0), ("two", 1.4, 3.0)], None)


def test_a_pair_at_the_end_asks_for_more() -> None:
    said = _cut(_time(0), _text(" One"), _time(1), _time(1.4))
    assert said == ([("One", 0.0, 1.0)], 1.0)


def test_text_after_the_last_pair_is_heard_again() -> None:
    said = _cut(_time(0), _text(" One"), _time(1), _time(1.4), _text(" tw"))
    assert said == ([("One", 0.0, 1.0)], 1.0)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ((_text(" One"),), ("One", 0.0, 5.0)),
        ((_time(0.4), _text(" One")), ("One", 0.4, 5.0)),
        ((_time(0.4), _text(" One"), _time(2)), ("One", 0.4, 2.0)),
        ((_text(" One"), _time(2)), ("One", 0.0, 2.0)),
        ((_time(0), _text(" One"), _time(29)), ("One", 0.0, 5.0)),
    ],
)
def test_a_single_segment(tokens: tuple[Token, ...], expected: tuple[str, float, float]) -> None:
    assert _cut(*tokens, duration=5.0) == ([expected], None)


@pytest.mark.parametrize("tokens", [(), (_time(0),), (_time(0), _time(0))])
def test_nothing_said(tokens: tuple[Token, ...]) -> None:
    assert cut(tokens, FIRST, 5.0)[0] == []


def test_words_follow_the_tokens_ends() -> None:
    tokens = (_text(" Play", 0.5, 0.5), _text(" jazz", 0.9), _text("y", 1.0), _text(",", 1.6))
    tokens += (_text(" “", 1.7), _text("please", 2.1), _text("”.", 2.5))
    made = words(Stretch(0.2, 2.5, tokens), "en")
    assert [(word.text, word.start, word.end) for word in made] == [
        ("Play", 0.2, 0.5),
        ("jazzy,", 0.5, 1.0),
        ("“please”.", 1.6, 2.1),
    ]
    assert made[0].probability == pytest.approx(0.5)


def test_words_stay_inside_their_segment_and_in_order() -> None:
    tokens = (_text(" a", 3.0), _text(" b", 1.0), _text(" c", 9.0))
    made = words(Stretch(0.5, 4.0, tokens), "en")
    places = [place for word in made for place in (word.start, word.end)]
    assert places == sorted(places)
    assert places[0] == 0.5
    assert places[-1] == 4.0


def test_words_without_times_share_the_segment() -> None:
    made = words(Stretch(1.0, 2.0, (_text(" abc"), _text(" def"))), "en")
    assert [(word.start, word.end) for word in made] == [(1.0, 1.5), (1.5, 2.0)]


def test_languages_without_spaces_split_at_characters() -> None:
    whole = "你好。世".encode()
    tokens = (Token(1, whole[:3], 0.0, 0.2), Token(2, whole[3:5], 0.0, 0.3), Token(3, whole[5:6], 0.0, 0.4))
    tokens += (Token(4, whole[6:9], 0.0, 0.5), Token(5, whole[9:], 0.0, 0.9))
    made = words(Stretch(0.0, 1.0, tokens), "zh")
    assert "".join(word.text for word in made) == "你好。世"
    assert [word.text for word in made] == ["你", "好。", "世"]
    assert decode(tokens) == "你好。世"


def test_figures() -> None:
    assert compression_ratio("la " * 100) > 10
    assert compression_ratio("A sentence of ordinary words.") < 1.5
    assert mean_logprob([]) == 0.0
    assert mean_logprob([_text("a", probability=0.5), _text("b", probability=0.25)]) == pytest.approx(
        math.log(0.125) / 2
    )
