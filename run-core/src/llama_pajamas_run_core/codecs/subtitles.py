"""Transcripts as subtitles: SubRip (.srt) and WebVTT (.vtt)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from llama_pajamas_run_core.types.audio import Segment, Transcript, Word

#: The most that one cue shows: two lines of 42 characters for seven seconds, the usual advice for reading along.
_CHARACTERS: Final = 84
_SECONDS: Final = 7.0
#: From this many characters on, a cue ends with a sentence.
_ENOUGH: Final = 42
_SENTENCE_END: Final = re.compile(r"[.!?\u2026\u3002\uff01\uff1f]['\")\]\u201d\u2019\u300d]*$")


@dataclass(frozen=True, slots=True)
class Cue:
    """What is shown at one time.

    Attributes:
        start: milliseconds from the beginning.
        end: milliseconds from the beginning.
        text: one line.
    """

    start: int
    end: int
    text: str


def to_srt(transcript: Transcript) -> str:
    """Subtitles as SubRip: numbered cues, ``HH:MM:SS,mmm``, a blank line between them; empty where nothing is said."""
    blocks = [
        # An arrow within the text would be read as a line of times.
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.text.replace('-->', '->')}\n"
        for number, cue in enumerate(cues(transcript), 1)
    ]
    return "\n".join(blocks)


def to_vtt(transcript: Transcript) -> str:
    """Subtitles as WebVTT (https://www.w3.org/TR/webvtt1/): ``HH:MM:SS.mmm``, the text escaped."""
    blocks = [
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escaped(cue.text)}\n" for cue in cues(transcript)
    ]
    return "WEBVTT\n\n" + "\n".join(blocks)


def cues(transcript: Transcript) -> list[Cue]:
    """What is shown when: cues in order, that do not overlap and stay within the audio.

    A segment is a cue; a long one whose words have times becomes several, cut after sentences where there are any.
    """
    last = round(transcript.duration * 1000)
    before = 0
    made: list[Cue] = []
    for segment in transcript.segments:
        for text, start, end in _parts(segment):
            if not (line := " ".join(text.split())):
                continue
            begin = min(max(round(start * 1000), before), last)
            before = min(max(round(end * 1000), begin), last)
            made.append(Cue(begin, before, line))
    return made


def _parts(segment: Segment) -> Iterator[tuple[str, float, float]]:
    """(text, start, end) of the cues of a segment."""
    words = segment.words
    if not words or (len(segment.text) <= _CHARACTERS and segment.end - segment.start <= _SECONDS):
        yield segment.text, segment.start, segment.end
        return
    text = segment.text
    places = _places(text, words)
    if places is None:
        text = " ".join(word.text for word in words)
        places = _places(text, words) or []
    first = 0
    for index in range(1, len(words) + 1):
        if index == len(words):
            yield text[places[first] :], words[first].start, segment.end
        elif _full(text[places[first] : places[index]].strip(), words[first : index + 1]):
            yield text[places[first] : places[index]], words[first].start, words[index - 1].end
            first = index


def _full(shown: str, words: tuple[Word, ...]) -> bool:
    """Whether the cue ends before the last of the words."""
    longer = len(shown) + 1 + len(words[-1].text)
    if longer > _CHARACTERS or words[-1].end - words[0].start > _SECONDS:
        return True
    return len(shown) >= _ENOUGH and _SENTENCE_END.search(shown) is not None


def _places(text: str, words: tuple[Word, ...]) -> list[int] | None:
    """Where in the text each word begins, or None where the text is not made of the words.

    The spaces between words are the text's own: some languages have none.
    """
    places: list[int] = []
    end = 0
    for word in words:
        found = text.find(word.text, end)
        if found < 0:
            return None
        places.append(found)
        end = found + len(word.text)
    return [0, *places[1:]]


def _clock(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{milliseconds:03}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
