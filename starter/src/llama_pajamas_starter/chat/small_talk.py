"""Small talk of the assistant about itself, and the polite answer to what it was not taught.

The wordings are data: ``small_talk.toml``.
"""

import re
import tomllib
from importlib.resources import files
from typing import Any, Final

from llama_pajamas_starter.chat.sample import Draw, Sample, normalise, turn

_DATA: Final[dict[str, Any]] = tomllib.loads(
    files("llama_pajamas_starter.chat").joinpath("small_talk.toml").read_text(encoding="utf-8")
)
_INTENTS: Final[list[dict[str, Any]]] = _DATA["intents"]
_OUT_OF_SCOPE: Final[dict[str, Any]] = _DATA["out_of_scope"]
#: What is answered, by the name of what was said.
ANSWERS: Final[dict[str, str]] = {intent["name"]: intent["answer"] for intent in _INTENTS}
UNKNOWN: Final[str] = _OUT_OF_SCOPE["answer"]

_SLOTS: Final = ("country", "person", "topic", "thing", "how", "language", "verb", "noun")
_CHOICE: Final = re.compile(r"\(([^()]*)\)")
_NAMES: Final = (
    "english german french spanish chinese italian russian japanese arabic portuguese dutch latin "
    "pajama paris london berlin rome madrid tokyo boston vienna oslo"
).split()
_NAME: Final = re.compile(rf"\b({'|'.join(_NAMES)}|new york)\b")


def wording(draw: Draw, pattern: str) -> str:
    """One expansion of a pattern, inner alternatives first; single-spaced."""
    while found := _CHOICE.search(pattern):
        pattern = pattern[: found.start()] + draw.pick(found.group(1).split("|")) + pattern[found.end() :]
    return " ".join(pattern.split())


def about_itself(draw: Draw) -> Sample:
    """Greetings, thanks, and questions about the assistant."""
    intent = draw.pick(_INTENTS)
    phrase = draw.pick(intent["always"]) if draw.chance(0.15) else wording(draw, draw.pick(intent["patterns"]))
    question = _NAME.sub(lambda found: found.group().title(), phrase)
    always = phrase in intent["always"]
    return turn(draw, "small talk", question, intent["answer"], key=normalise(phrase), always=always)


def out_of_scope(draw: Draw) -> Sample:
    """Whatever the model was not taught: it says so instead of making something up."""
    slots: dict[str, Any] = {slot: draw.pick(_OUT_OF_SCOPE[slot]) for slot in _SLOTS}
    slots |= {"topic2": draw.pick(_OUT_OF_SCOPE["topic"]), "noun2": draw.pick(_OUT_OF_SCOPE["noun"])}
    slots |= {"word": draw.word(), "word2": draw.word()}
    slots |= {"n": draw.number(draw.integer(1, 200)), "n2": draw.number(draw.integer(1, 99))}
    slots["year"] = draw.number(draw.integer(1900, 2030))
    phrase = draw.pick(_OUT_OF_SCOPE["phrases"]).format(**slots)
    return turn(draw, "out of scope", re.sub(r"\bi\b", "I", phrase), UNKNOWN, key=normalise(phrase))
