"""Text cut into sentences, for speech: each is spoken while the next is still being written or synthesized."""

import re
import unicodedata

#: The longest piece, in characters; more than that is cut at a comma or a space.
MAX_PIECE = 240
#: The same for scripts in which a character is a syllable or a word.
MAX_DENSE_PIECE = 80
#: From this many characters on, the first clause of a stream is given without waiting for its sentence.
MIN_CLAUSE = 20

_STRONG = "。！？｡؟۔।॥።។။։"  # end a sentence with no space behind them
_CLOSERS = "\"'”’»›)\\]}」』）】*_"
_MARK = re.compile(rf"[.!?…{_STRONG}]+[{_CLOSERS}]*|\n")
#: What stands between a mark and the next sentence's first character.
_GAP = re.compile(r"\s+[\"'“‘„«‹(\[{¿¡*_#>-]*")
_SPACE = re.compile(r"\s*")
_CLAUSE = re.compile(rf"[,;:—–،؛][{_CLOSERS}]*(?=\s)|[，、；：]")
_WORD = re.compile(r"[^\s\"'“‘«(\[—]+$")
_DENSE = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")

#: Abbreviations that no sentence ends with.
_NEVER = frozenset(
    "mr mrs ms mx dr prof rev hon gen col capt lt sgt st mt ft vs cf al e.g i.e viz resp approx ca bzw z.b d.h u.a "
    "hr fr sr sra dr dra srta mme mlle ing dipl".split()
)
#: Abbreviations before a number.
_BEFORE_NUMBER = frozenset("no nos nr núm fig figs vol vols p pp ch sec art eq op ed par".split())
#: Abbreviations with which a sentence may end, if the next word has a capital letter.
_PERHAPS = frozenset(
    "etc inc ltd co corp bros dept est jr jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat "
    "sun min max ave blvd rd usw evtl str".split()
)


def split_sentences(text: str) -> list[str]:
    """Cut a text into the pieces in which it is spoken.

    Args:
        text: any length, any language.

    Returns:
        sentences, stripped, runs of white space made one space; long ones cut at commas or spaces. What has no letter
        or digit is left out.
    """
    splitter = SentenceSplitter(early=False)
    return [*splitter.push(text), *splitter.flush()]


class SentenceSplitter:
    """Cuts a text that is still being written.

    Args:
        early: give the first clause as soon as it is complete, so that speech begins sooner.
    """

    def __init__(self, *, early: bool = True) -> None:
        self._early = early
        self._text = ""

    def push(self, text: str) -> list[str]:
        """Take the next characters; return the sentences that are complete by now."""
        self._text += text
        return self._take(final=False)

    def flush(self) -> list[str]:
        """What is left, once no more is to come."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> list[str]:
        pieces: list[str] = []
        start = 0
        while (end := self._end(start, final)) is not None:
            piece = " ".join(self._text[start:end].split())
            start = end
            if any(character.isalnum() for character in piece):
                pieces.append(piece)
                self._early = False
        self._text = self._text[start:]
        return pieces

    def _end(self, start: int, final: bool) -> int | None:
        """Where the piece that begins at ``start`` ends, or None where that is not known yet."""
        text = self._text
        while start < len(text) and text[start].isspace():
            start += 1
        limit = start + _longest(text[start : start + MAX_DENSE_PIECE])
        end: int | None = None
        for mark in _MARK.finditer(text, start, limit + 1):
            verdict = _ends_sentence(text, start, mark, final)
            if verdict is None:
                return self._clause(start, mark.start())
            if verdict:
                end = mark.end()
                break
        if (clause := self._clause(start, end or limit)) is not None:
            return clause
        if end is None and len(text) > limit:
            end = _cut(text, start, limit)
        if end is None and final and start < len(text):
            end = len(text)
        return end

    def _clause(self, start: int, end: int) -> int | None:
        """The end of the first clause, where it may come early."""
        if not self._early:
            return None
        found = _CLAUSE.search(self._text, start + MIN_CLAUSE, end)
        return found.end() if found else None


def _longest(beginning: str) -> int:
    return MAX_DENSE_PIECE if len(_DENSE.findall(beginning)) * 2 > len(beginning) else MAX_PIECE


def _ends_sentence(text: str, start: int, mark: re.Match[str], final: bool) -> bool | None:
    """Whether a sentence ends with a mark; None where what follows it must be known first."""
    end = mark.end()
    if end == len(text):
        return True if final else None
    if mark[0] == "\n":
        after = _SPACE.match(text, end).end()  # type: ignore[union-attr]
        if after == len(text):
            return True if final or "\n" in text[end:] else None
        # A line that goes on in lower case was only wrapped.
        return "\n" in text[end:after] or not text[after].islower()
    if any(character in _STRONG for character in mark[0]):
        return True
    gap = _GAP.match(text, end)
    if gap is None:
        return False
    if gap.end() == len(text):
        return True if final else None
    return _ends_before(text[start : mark.start()], mark[0], text[gap.end()])


def _ends_before(before: str, mark: str, following: str) -> bool:
    """Whether a sentence ends with a mark between what is before it and the character that follows."""
    if mark != ".":
        return not following.islower()  # "Really?" she asked; well... no; (it seems.) and so on
    found = _WORD.search(before)
    word = found[0] if found else ""
    lower = word.lower()
    if lower in _NEVER or (lower in _BEFORE_NUMBER and following.isdigit()):
        return False
    if lower in _PERHAPS or "." in word:  # "in the U.S. Navy" is then cut, "at 5 p.m. sharp" is not
        return following.isupper()
    initial = len(word) == 1 and word.isupper() and word != "I"
    numbering = word.isdigit() and before.strip() == word
    return not (initial or numbering)


def _cut(text: str, start: int, limit: int) -> int:
    """Where a sentence that is too long is cut: behind a comma, at a space, or anywhere between two characters."""
    clauses = [found.end() for found in _CLAUSE.finditer(text, start, limit)]
    if clauses and clauses[-1] - start >= (limit - start) // 3:
        return clauses[-1]
    space = max(text.rfind(character, start + 1, limit) for character in " \t\n\u3000")
    if space > start:
        return space
    while limit > start + 1 and (unicodedata.combining(text[limit]) or text[limit] in "\u200d\ufe0f"):
        limit -= 1
    return limit
