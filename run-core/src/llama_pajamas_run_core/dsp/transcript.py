"""What a Whisper model's tokens say, and when: segments and words, for every runtime of Whisper.

After openai-whisper's ``transcribe.py`` and ``timing.py`` (https://github.com/openai/whisper, MIT licence).
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from llama_pajamas_run_core.types.audio import Word

#: Seconds from one timestamp token to the next.
TIME_STEP: Final = 0.02
#: Languages written without spaces: there every character counts as a word.
_SPACELESS: Final = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
#: Marks that belong to the word behind them although a space stands before.
_OPENING: Final = "\"'“‘¿¡([{-«"


@dataclass(frozen=True, slots=True)
class Token:
    """A token that a Whisper model chose.

    Attributes:
        id: its number in the vocabulary.
        text: its bytes, which may be a part of a character; empty for a timestamp.
        logprob: natural logarithm of its probability.
        end: when it has been said, in seconds; None where that is unknown.
    """

    id: int
    text: bytes
    logprob: float
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """A segment as the timestamp tokens bound it.

    Attributes:
        start: seconds.
        end: seconds.
        tokens: the text tokens.
    """

    start: float
    end: float
    tokens: tuple[Token, ...]

    @property
    def text(self) -> str:
        """What was said, stripped."""
        return decode(self.tokens).strip()


def decode(tokens: Sequence[Token]) -> str:
    """The text of tokens; bytes that are no whole character are replaced."""
    return b"".join(token.text for token in tokens).decode("utf-8", "replace")


def compression_ratio(text: str) -> float:
    """The length of a text over its zlib-compressed length: high where a model repeats itself."""
    encoded = text.encode()
    return len(encoded) / len(zlib.compress(encoded))


def mean_logprob(tokens: Sequence[Token]) -> float:
    """The mean of the tokens' log probabilities; 0 where there are none."""
    return sum(token.logprob for token in tokens) / len(tokens) if tokens else 0.0


def cut(tokens: Sequence[Token], first_time: int, duration: float) -> tuple[list[Stretch], float | None]:
    """Cut what a model said at its timestamps.

    Args:
        tokens: text and timestamp tokens, in order.
        first_time: id of the timestamp 0.00; every larger id is a timestamp.
        duration: seconds of audio that the model heard.

    Returns:
        the segments, and where the model broke off in the middle of one, the time from which to listen again.
    """

    def is_time(index: int) -> bool:
        return 0 <= index < len(tokens) and tokens[index].id >= first_time

    def time(token: Token) -> float:
        return min((token.id - first_time) * TIME_STEP, duration)

    finished = is_time(len(tokens) - 1) and not is_time(len(tokens) - 2)
    cuts = [index for index in range(1, len(tokens)) if is_time(index) and is_time(index - 1)]
    if not cuts:
        times = [time(token) for token in tokens if token.id >= first_time]
        start = times[0] if times and is_time(0) else 0.0
        end = times[-1] if times and times[-1] > start else duration
        said = tuple(token for token in tokens if token.id < first_time)
        return ([Stretch(start, end, said)] if said else []), None

    stretches, last = [], 0
    for index in [*cuts, len(tokens)] if finished else cuts:
        part = tokens[last:index]
        said = tuple(token for token in part if token.id < first_time)
        if said:
            start = time(part[0]) if part[0].id >= first_time else 0.0
            stretches.append(Stretch(start, max(start, time(part[-1])), said))
        last = index
    return stretches, None if finished else time(tokens[last - 1])


def words(stretch: Stretch, language: str) -> tuple[Word, ...]:
    """The words of a segment with their times.

    A word begins where the token before it ended, and ends with its last letter: a pause at a mark belongs to no word.
    Where the tokens' times are unknown, the words share the segment by their lengths.
    """
    groups = _groups(stretch.tokens, spaces=language not in _SPACELESS)
    ends = _ends(stretch)
    made: list[Word] = []
    place, before = 0, stretch.start
    for group in groups:
        spoken = [index for index, token in enumerate(group) if _has_letter(token)]
        start = min(max(before, stretch.start), stretch.end)
        end = min(max(ends[place + (spoken[-1] if spoken else len(group) - 1)], start), stretch.end)
        before = max(before, ends[place + len(group) - 1])
        place += len(group)
        if text := decode(group).strip():
            sure = sum(math.exp(min(token.logprob, 0.0)) for token in group) / len(group)
            made.append(Word(text, start, end, sure))
    return tuple(made)


def _ends(stretch: Stretch) -> list[float]:
    """When each token of a segment has been said."""
    if all(token.end is not None for token in stretch.tokens):
        return [token.end for token in stretch.tokens if token.end is not None]
    lengths = [len(token.text) for token in stretch.tokens]
    whole, so_far, ends = max(1, sum(lengths)), 0, []
    for length in lengths:
        so_far += length
        ends.append(stretch.start + (stretch.end - stretch.start) * so_far / whole)
    return ends


def _groups(tokens: Sequence[Token], *, spaces: bool) -> list[list[Token]]:
    """Tokens that make up a word each."""
    groups: list[list[Token]] = []
    for token in tokens:
        begins = not groups or token.text.startswith(b" ")
        if not spaces and groups and _whole(groups[-1]):
            begins = begins or _has_letter(token) or not _whole([token])
        if begins and not (groups and decode(groups[-1]).strip() in tuple(_OPENING)):
            groups.append([token])
        else:
            groups[-1].append(token)
    return groups


def _has_letter(token: Token) -> bool:
    return any(character.isalnum() for character in token.text.decode("utf-8", "ignore"))


def _whole(tokens: Sequence[Token]) -> bool:
    """Whether tokens end with a whole character."""
    try:
        b"".join(token.text for token in tokens).decode()
    except UnicodeDecodeError:
        return False
    return True
