"""From windows of audio to segments: what breaks off is listened to again, and guesses at silence are dropped."""

from collections.abc import Sequence
from typing import Final, Protocol

from llama_pajamas_run_core.dsp.mel import RATE
from llama_pajamas_run_core.dsp.transcript import Stretch, compression_ratio, cut, decode, mean_logprob, words
from llama_pajamas_run_core.types.audio import Segment, TranscribeOptions, Word
from llama_pajamas_run_core.whisper.decode import Heard, Samples

#: Seconds of audio that are not worth listening to again.
_REST: Final = 0.5


class Ears(Protocol):
    """What listens: this package's ``Whisper``, or a library that decodes by itself."""

    @property
    def first_time(self) -> int:
        """The token of the time 0.00."""

    def listen(self, windows: Sequence[Samples], options: TranscribeOptions) -> list[Heard]:
        """For each window the first result that looks like speech."""


def transcribe(whisper: Ears, windows: Sequence[Samples], options: TranscribeOptions) -> list[list[Segment]]:
    """Transcribe windows together.

    Args:
        whisper: the model.
        windows: float32 at 16 kHz, at most 30 seconds each, at most as many as it listens to at once.
        options: how.

    Returns:
        the segments of each window, times from that window's start.
    """
    made: list[list[Segment]] = [[] for _ in windows]
    starts = dict.fromkeys(range(len(windows)), 0.0)
    while starts:
        rows = list(starts)
        rest = [windows[row][round(starts[row] * RATE) :] for row in rows]
        for row, samples, heard in zip(rows, rest, whisper.listen(rest, options), strict=True):
            left = len(samples) / RATE
            stretches, again = cut(heard.tokens, whisper.first_time, left)
            for stretch in () if heard.is_silence else stretches:
                made[row].append(_segment(stretch, starts[row], heard, options))
            if again is None or again < _REST or left - again <= _REST:
                del starts[row]
            else:
                starts[row] += again
    return made


def _segment(stretch: Stretch, offset: float, heard: Heard, options: TranscribeOptions) -> Segment:
    timed = words(stretch, heard.language) if options.word_times else ()
    return Segment(
        text=stretch.text,
        start=stretch.start + offset,
        end=stretch.end + offset,
        words=tuple(Word(word.text, word.start + offset, word.end + offset, word.probability) for word in timed),
        tokens=tuple(token.id for token in stretch.tokens),
        avg_logprob=mean_logprob(heard.tokens),
        no_speech_prob=heard.no_speech_prob,
        compression_ratio=compression_ratio(decode(heard.tokens)),
        temperature=heard.temperature,
    )
