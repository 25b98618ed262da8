"""English sentences made by a grammar, and the rule that keeps training and held-out sentences apart.

Transcripts are written as the starter models write everything that is spoken: a capital first letter, full stop,
question mark, exclamation mark or comma, numbers in words with hyphens ("Twenty-three plus nineteen is forty-two.").
"""

import functools
import hashlib
import re
from typing import Final, Literal

from llama_pajamas_starter.speech import grammar, topics
from llama_pajamas_starter.speech.grammar import Maker, Random

Split = Literal["train", "held-out"]

#: One sentence in this many belongs to the held-out split.
HELD_OUT_ONE_IN: Final = 16


def words_of(sentence: str) -> list[str]:
    """Lower-case words without punctuation; a hyphen parts words."""
    return re.findall(r"[a-z']+", sentence.lower())


def sentence_parts(text: str) -> list[str]:
    """The sentences that a text consists of."""
    return re.split(r"(?<=[.?!]) ", text)


@functools.cache
def _never_held_out() -> frozenset[str]:
    return frozenset(
        " ".join(words_of(part)) for text in topics.set_phrases() for part in (text, *sentence_parts(text))
    )


def is_held_out(sentence: str) -> bool:
    """Whether the sentence belongs to the held-out split: a hash of its words, so case and punctuation do not matter.

    Not held out are sentences of one or two words, and set phrases, of which there is a limited number.
    """
    words = words_of(sentence)
    said = " ".join(words)
    if len(words) < 3 or said in _never_held_out():
        return False
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest()) % HELD_OUT_ONE_IN == 0


def sentence(rng: Random, split: Split = "train") -> str:
    """A random sentence (sometimes two) of a split; no sentence of a training text is a held-out one."""
    while True:
        text = grammar.weighted(rng, _FAMILIES)
        if split == "held-out":
            if is_held_out(text):
                return text
        elif not any(map(is_held_out, (text, *sentence_parts(text)))):
            return text


#: The share of each kind of sentence.
_FAMILIES: Final[tuple[tuple[int, Maker], ...]] = (
    (30, grammar.everyday),
    (8, grammar.common_turn),
    (10, grammar.random_words),
    (8, topics.arithmetic),
    (5, topics.units),
    (7, topics.times),
    (6, topics.home),
    (7, topics.scene),
    (5, topics.phrase),
    (15, topics.chat),
)
