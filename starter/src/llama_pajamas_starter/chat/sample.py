"""One conversation with a known right answer, and the rule that keeps training and held-out conversations apart."""

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from llama_pajamas_starter.vocabulary import spoken

Split = Literal["train", "held-out"]
Message = dict[str, Any]
T = TypeVar("T")

#: One key in this many belongs to the held-out split.
HELD_OUT_ONE_IN: Final = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation whose last message is the right answer.

    Attributes:
        family: the task family, a row of the evaluation table.
        messages: OpenAI-style messages; the last one is the assistant's answer (``content`` or ``tool_calls``).
        keys: what the split is decided by: for most families the words that the user says, for additions and
            subtractions the operands. The last key is that of the last question.
        tools: OpenAI-style tool definitions offered to the model.
        json: the answer must be one JSON object.
    """

    family: str
    messages: list[Message]
    keys: tuple[str, ...]
    tools: list[dict[str, Any]] = field(default_factory=list)
    json: bool = False

    @property
    def prompt(self) -> list[Message]:
        """All messages before the answer."""
        return self.messages[:-1]

    @property
    def answer(self) -> Message:
        """The right answer."""
        return self.messages[-1]

    def belongs_to(self, split: Split) -> bool:
        """Whether this conversation may be used in ``split``.

        Training sees no held-out key in any turn; a held-out conversation ends with a held-out question.
        """
        if split == "train":
            return not any(is_held_out(key) for key in self.keys)
        return is_held_out(self.keys[-1])


def normalise(text: str) -> str:
    """Lower-case words of ``text``, single-spaced, without punctuation: casing does not make a prompt a new one."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def is_held_out(key: str) -> bool:
    """Whether ``key`` belongs to the held-out split. ``"!"`` in front marks a key that is always trained on."""
    if key.startswith("!"):
        return False
    return hashlib.blake2b(key.encode(), digest_size=4).digest()[0] % HELD_OUT_ONE_IN == 0


def capitalise(text: str) -> str:
    """``text`` with its first letter in upper case and the rest as it was."""
    return text[:1].upper() + text[1:]


def join_words(parts: Sequence[str]) -> str:
    """The parts as a list: "a", "a and b", "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def spoken_tenths(tenths: int) -> str:
    """A number given in tenths, in words: 25 -> "two point five", 30 -> "three"."""
    whole, rest = divmod(abs(tenths), 10)
    words = spoken(whole) + (f" point {spoken(rest)}" if rest else "")
    return f"minus {words}" if tenths < 0 else words


_OPENERS: Final = (
    "hey pajama, ",
    "pajama, ",
    "okay, ",
    "so, ",
    "hi, ",
    "please tell me, ",
    "quick question, ",
    "well, ",
)


class Draw:
    """Random choices of one conversation: words, numbers as people write them, and how a sentence is put.

    Args:
        rng: the source of all choices.
        spoken_only: numbers as words, proper casing and punctuation: what is said aloud.
    """

    def __init__(self, rng: random.Random, *, spoken_only: bool = False) -> None:
        self.rng = rng
        self.spoken_only = spoken_only
        self.digits = not spoken_only and rng.random() < 0.35

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.rng.random() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """One of ``choices``."""
        return choices[int(self.rng.random() * len(choices))]

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return low + int(self.rng.random() * (high - low + 1))

    def number(self, value: int) -> str:
        """``value`` as the user puts it in this conversation: digits or words."""
        if self.digits:
            return str(value)
        words = spoken(value)
        if not self.spoken_only and value > 100 and value % 100 and self.chance(0.15):
            words = words.replace("hundred ", "hundred and ", 1)
        return words

    def tenths(self, value: int) -> str:
        """A number of tenths as the user puts it."""
        if self.digits:
            return str(value // 10) if value % 10 == 0 else f"{value / 10:.1f}"
        return spoken_tenths(value)

    def ask(self, question: str) -> str:
        """A question or request, as typed by a person or heard by a speech recognizer.

        Args:
            question: without its capital and its final mark; a final "." in it marks a request.
        """
        mark = "?"
        if question.endswith((".", "!")):
            question, mark = question[:-1], question[-1]
        if self.chance(0.12):
            question = self.pick(_OPENERS) + question
        if self.chance(0.04):
            question += ", please" if self.chance(0.5) else " please"
        if self.spoken_only:
            return capitalise(question) + mark
        style = self.rng.random()
        if style < 0.6:
            return capitalise(question) + mark
        if style < 0.8:
            lowered = re.sub(r"[,?!]|\.(?!\d)", "", question).lower()
            return lowered.replace("'", "") if self.chance(0.3) else lowered
        if style < 0.88:
            return capitalise(question)
        if style < 0.94:
            return question + mark
        return capitalise(question) + (" " + mark if style < 0.95 else mark * 2 if style < 0.96 else ".")

    def word(self) -> str:
        """A made-up word of two to three syllables: something that can only be copied."""
        syllables = (
            self.pick("b c d f g h j k l m n p r s t v w z br ch cl dr fl gr pl sh st th tr".split())
            + self.pick("a e i o u ai ee ou".split())
            for _ in range(self.integer(2, 3))
        )
        word = "".join(syllables) + self.pick(("", "", "n", "r", "s", "l", "m", "t", "x"))
        if self.spoken_only or not self.chance(0.06):
            return word
        pair = self.pick(("aá", "aä", "eé", "ií", "oó", "oö", "uü", "uú", "eè", "oø"))
        return word.replace(pair[0], pair[1])


Generator = Callable[[Draw], Sample]


def turn(
    draw: Draw, family: str, question: str, answer: str, *, key: str | None = None, always: bool = False
) -> Sample:
    """A single question and its answer.

    Args:
        question: as :meth:`Draw.ask` takes it.
        key: what decides the split; the normalised question where not given.
        always: the question is always in training and never held out.
    """
    chosen = normalise(question) if key is None else key
    return Sample(
        family,
        [{"role": "user", "content": draw.ask(question)}, {"role": "assistant", "content": answer}],
        ("!" + chosen if always else chosen,),
    )
