"""Saying words back."""

from typing import Final

from llama_pajamas_starter.chat.sample import Draw, Sample, capitalise, turn
from llama_pajamas_starter.vocabulary import COLOURS, DEVICES, OBJECTS, ROOMS

_WORDS: Final = (
    *OBJECTS, *COLOURS, *DEVICES, *ROOMS, "hello", "world", "good", "morning", "night", "the", "a", "my", "and", "is",
    "are", "one", "two", "three", "happy", "birthday", "big", "small", "llama", "pajama", "sunny", "day", "we", "you",
    "like", "love", "tea",
)  # fmt: skip


def repeat(draw: Draw) -> Sample:
    """Two to six words that are to be repeated."""
    made_up = 0.0 if draw.spoken_only else 0.1
    words = [draw.word() if draw.chance(made_up) else draw.pick(_WORDS) for _ in range(draw.integer(2, 6))]
    text = " ".join(words)
    forms = (
        "repeat after me: {}.", "repeat: {}.", "say: {}.", "please repeat: {}.", "please say: {}.",
        "repeat after me, {}.", "repeat the words {}.",
    )  # fmt: skip
    form = 'say "{}".' if not draw.spoken_only and draw.chance(0.12) else draw.pick(forms)
    return turn(draw, "repeat", form.format(text), f"{capitalise(text)}.")
