"""Sentences, for speech: whole text cut up, or text as it streams."""

import re
from typing import Final

#: A piece longer than this many characters is cut at a comma or a space, so that the first sound comes early.
LONGEST: Final = 240

_LATIN_END: Final = ".!?…"
_WIDE_END: Final = "。！？．।۔؟"
_CLOSING: Final = "\"'”’»)]}」』）"
_ABBREVIATIONS: Final = frozenset(
    "mr mrs ms dr prof sr jr st vs etc e.g i.e a.m p.m u.s u.k no fig vol approx dept est inc ltd co jan feb mar apr jun jul "
    "aug sep sept oct nov dec".split()
)
_CUT: Final = re.compile(r"[,;:、，；：](?=\s|$)|[、，；：]|\s")


def split_sentences(text: str) -> list[str]:
    """Cut text into sentences that can be spoken one by one.

    Returns:
        the sentences in order, stripped, each with at least one letter or digit and at most about 240 characters.
    """
    splitter = SentenceSplitter()
    return [*splitter.push(text), *splitter.flush()]


class SentenceSplitter:
    """Takes text as it comes and gives sentences as soon as they are complete."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> list[str]:
        """Take the next piece of text; return the sentences that are complete by now."""
        self._held += text
        done: list[str] = []
        start = 0
        for at in range(len(self._held)):
            if self._ends(start, at):
                done.append(self._held[start : at + 1])
                start = at + 1
        self._held = self._held[start:]
        while len(self._held) > LONGEST:
            cut = _cut(self._held)
            done.append(self._held[:cut])
            self._held = self._held[cut:]
        return _speakable(done)

    def flush(self) -> list[str]:
        """What is left, once no more is to come."""
        rest, self._held = self._held, ""
        return _speakable([rest])

    def _ends(self, start: int, at: int) -> bool:
        """Whether a sentence that began at ``start`` ends with the character at ``at``, for all that is known yet."""
        text, char = self._held, self._held[at]
        if char == "\n":
            return True
        if char in _WIDE_END:
            return at + 1 >= len(text) or text[at + 1] not in _WIDE_END + _CLOSING
        if not char.isspace():
            return False
        before = text[start:at].rstrip(_CLOSING)
        if not before or before[-1] not in _LATIN_END:
            return False
        return before[-1] != "." or before.endswith("..") or not _abbreviated(before)


def _abbreviated(text: str) -> bool:
    """Whether the full stop at the end belongs to an abbreviation or an initial ("Dr.", "J.") and ends no sentence."""
    word = text[:-1].rsplit(None, 1)[-1] if text[:-1].strip() else ""
    word = word.lstrip("(\"'“‘").casefold()
    return word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word != "i")


def _cut(text: str) -> int:
    """Where to cut text that is too long: after the last comma in reach, else at the last space, else anywhere."""
    marks = [match for match in _CUT.finditer(text, 0, LONGEST) if match.end() > LONGEST // 3]
    commas = [match for match in marks if not match[0].isspace()]
    return (commas or marks)[-1].end() if marks else LONGEST


def _speakable(pieces: list[str]) -> list[str]:
    """The pieces that hold something to say, those that are too long cut further."""
    out: list[str] = []
    for piece in pieces:
        rest = piece.strip()
        while len(rest) > LONGEST:
            cut = _cut(rest)
            out.append(rest[:cut].strip())
            rest = rest[cut:].strip()
        out.append(rest)
    return [piece for piece in out if any(char.isalnum() for char in piece)]
