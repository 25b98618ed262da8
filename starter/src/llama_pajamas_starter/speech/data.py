"""Spoken sentences: text to a waveform by eSpeak NG, with the time of every token, and what spoils a recording.

eSpeak NG reads a sentence in one of several hundred voices (accent x variant). Some variants and one accent are
held out: training never hears them.
"""

import random
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_system._espeak import Espeak
from llama_pajamas_starter.speech import tokens
from llama_pajamas_starter.speech.lexicon import words
from llama_pajamas_starter.speech.sentences import Split, sentence

Waveform = npt.NDArray[np.float32]

#: Samples per second that Whisper hears.
RATE: Final = 16_000

_ACCENTS: Final = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-gbcwmd")
_VARIANTS: Final = words(
    """
    m1 m2 m3 m4 m5 m6 m8 f1 f2 f3 f5 klatt klatt2 klatt3 klatt4 klatt6 Alex Alicia Andy Annie AnxiousAndy Denis
    Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Mike Mr Nguyen Reed RicishayMax RicishayMax2 RicishayMax3
    Storm adam anika announcer antonio aunty belinda benjamin boris caleb david ed gustave ian iven iven2 iven3
    iven4 john max michel miguel mike2 norbert pablo paul pedro quincy rob robert sandro shelby steph steph3 travis
    victor zac grandma grandpa marcelo kaukovalta
    """
)
#: Speakers and an accent that training never hears.
HELD_OUT_VARIANTS: Final = ("f4", "m7", "klatt5", "linda", "edward", "edward2", "steph2", "Andrea", "Michael")
HELD_OUT_ACCENT: Final = "en-gb-x-gbclan"
#: The held-out voice that the demos and their checks ask questions with.
DEMO_VOICE: Final = "en-us+f4"
#: The voice that answers when nothing else is chosen.
DEFAULT_VOICE: Final = "en-us"


@dataclass(frozen=True, slots=True)
class Manner:
    """How a sentence is said: eSpeak NG's voice and parameters."""

    voice: str = DEFAULT_VOICE
    words_per_minute: int = 175
    pitch: int = 50
    intonation: int = 50

    @classmethod
    def draw(cls, rng: random.Random, split: Split) -> "Manner":
        """A random manner; the held-out split has only voices that the training split lacks."""
        if split == "train":
            if rng.random() < 0.08:
                return cls()
            voice = rng.choice(_ACCENTS)
            if rng.random() > 0.1:
                voice += "+" + rng.choice(_VARIANTS)
        elif rng.random() < 0.25:
            voice = HELD_OUT_ACCENT
            if rng.random() < 0.75:
                voice += "+" + rng.choice(HELD_OUT_VARIANTS)
        else:
            voice = f"{rng.choice(_ACCENTS)}+{rng.choice(HELD_OUT_VARIANTS)}"
        return cls(voice, round(rng.triangular(115, 230, 170)), round(rng.triangular(10, 90, 50)), rng.randint(25, 75))


@dataclass(frozen=True, slots=True)
class Utterance:
    """A spoken sentence, silence trimmed.

    Attributes:
        text: what was said, punctuated.
        manner: how it was said.
        samples: int16, mono, at ``rate``.
        rate: samples per second.
        tokens: the text's tokens (with the leading space of Whisper's transcripts).
        times: seconds, ``(len(tokens) + 1,)``: token ``i`` sounds from ``times[i]`` to ``times[i + 1]``; a punctuation
            mark lasts as long as the pause it makes.
    """

    text: str
    manner: Manner
    samples: npt.NDArray[np.int16]
    rate: int
    tokens: tuple[int, ...]
    times: tuple[float, ...]

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.rate

    def waveform(self) -> Waveform:
        """Float32 samples in [-1, 1] at 16 kHz."""
        return to_16k(self.samples, self.rate)

    def words(self) -> list[tuple[str, float]]:
        """Every word of the text (parted at spaces) and when it starts, in seconds."""
        found: list[tuple[str, float]] = []
        for token, start in zip(self.tokens, self.times, strict=False):
            piece = tokens.decode([token])
            if piece.startswith(" ") or not found:
                found.append((piece.strip(), start))
            else:
                found[-1] = (found[-1][0] + piece, found[-1][1])
        return found


def say(engine: Espeak, text: str, manner: Manner | None = None) -> Utterance | None:
    """Speaks a text and notes when each of its tokens sounds; None where eSpeak NG made no sound."""
    manner = manner or Manner()
    samples, rate, events = engine.synthesize_with_words(
        text,
        manner.voice,
        words_per_minute=manner.words_per_minute,
        pitch=manner.pitch,
        intonation=manner.intonation,
    )
    level = np.abs(samples.astype(np.int32))
    peak = int(level.max(initial=0))
    if peak < 300:
        return None
    block = rate // 100
    blocks = level[: len(level) // block * block].reshape(-1, block).max(1) > 0.012 * peak
    active = np.flatnonzero(blocks)
    first, last = int(active[0]), int(active[-1]) + 1
    origin = first * block / rate
    samples = samples[first * block : last * block]
    end = len(samples) / rate

    starts = {event.position: max(0.0, event.start - origin) for event in events}
    found: list[int] = []
    times: list[float] = []
    written = text.split()
    positions: list[int] = []
    cursor = 0
    for word in written:
        cursor = text.index(word, cursor)
        positions.append(cursor)
        cursor += len(word)
    # The library can report no event for a short word ("a"): it then shares the time of the word before it.
    known = [_onset(starts, position, len(word)) for position, word in zip(positions, written, strict=True)]
    onsets = _interpolate(known, [len(word) for word in written], end)
    for index, word in enumerate(written):
        start, stop = onsets[index], onsets[index + 1]
        pieces = tokens.encode(" " + word)
        marks = len(word) - len(word.rstrip(".,?!"))
        tail = 1 if marks else 0  # one token: the sentences have no doubled marks
        sounding = stop
        if tail:
            inside = active[(active >= first + start * 100) & (active < first + stop * 100)]
            if len(inside):
                sounding = min(stop, (int(inside[-1]) + 1 - first) / 100)
        core = pieces[: len(pieces) - tail]
        lengths = np.cumsum([0, *(len(tokens.decode([piece])) for piece in core)], dtype=float)
        times.extend(start + (sounding - start) * lengths[:-1] / max(1.0, lengths[-1]))
        if tail:
            times.append(sounding)
        found.extend(pieces)
    times.append(end)
    return Utterance(text, manner, samples, rate, tuple(found), tuple(np.maximum.accumulate(times).tolist()))


def _onset(starts: dict[int, float], position: int, length: int) -> float | None:
    inside = [starts[p] for p in range(position, position + length) if p in starts]
    return inside[0] if inside else None


def _interpolate(onsets: list[float | None], lengths: list[int], end: float) -> list[float]:
    """Fills in the onsets that are unknown, by the words' lengths, and appends the end."""
    filled: list[float] = []
    for index, onset in enumerate(onsets):
        if onset is None and filled:
            following, stop = next(
                ((i, at) for i, at in enumerate(onsets) if i > index and at is not None), (len(onsets), end)
            )
            share = lengths[index - 1] / sum(lengths[index - 1 : following])
            onset = filled[-1] + (stop - filled[-1]) * share
        filled.append(min(onset or 0.0, end))
    return [*filled, end]


def utterance(engine: Espeak, rng: random.Random, split: Split) -> Utterance:
    """A random sentence of a split in a random voice of that split."""
    while True:
        made = say(engine, sentence(rng, split), Manner.draw(rng, split))
        if made is not None and made.duration < 24:
            return made


def to_16k(samples: npt.NDArray[np.int16], rate: int) -> Waveform:
    """Resamples by cutting the spectrum (exact for a signal that ends in silence).

    Args:
        samples: int16, mono.
        rate: samples per second, at least 16000.

    Returns:
        float32 in [-1, 1] at 16 kHz.
    """
    step = rate // np.gcd(rate, RATE)
    size = -(-(len(samples) + rate // 20) // step) * step
    spectrum = np.fft.rfft(samples.astype(np.float64) / 32768, size)
    made = size * RATE // rate
    resampled = np.fft.irfft(spectrum[: made // 2 + 1], made) * (RATE / rate)
    return resampled[: len(samples) * RATE // rate].astype(np.float32)


Noise = Literal["white", "pink", "babble"]


def noise(kind: Noise, length: int, rng: np.random.Generator, voices: list[Waveform] | None = None) -> Waveform:
    """Noise of unit power.

    Args:
        kind: white, pink (power falls with 1/f) or babble (several ``voices`` at once).
        length: samples.
        voices: what babble is mixed from.
    """
    if kind == "babble" and voices:
        mixed = np.zeros(length, np.float32)
        for voice in voices:
            shift = int(rng.integers(length))
            mixed += np.roll(np.resize(voice / (voice.std() + 1e-9), length), shift)
    else:
        spectrum = np.fft.rfft(rng.standard_normal(length))
        if kind == "pink":
            spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), length * 50 / RATE))
        mixed = np.fft.irfft(spectrum, length).astype(np.float32)
    return mixed / np.float32(np.sqrt(np.mean(mixed**2)) + 1e-9)


def add_noise(
    speech: Waveform,
    decibels: float,
    rng: np.random.Generator,
    kind: Noise = "white",
    voices: list[Waveform] | None = None,
) -> Waveform:
    """Speech with noise at a signal-to-noise ratio (powers over the whole clip)."""
    power = float(np.mean(speech**2))
    return speech + noise(kind, len(speech), rng, voices) * np.float32(np.sqrt(power / 10 ** (decibels / 10)))


def padded(speech: Waveform, before: float, after: float) -> Waveform:
    """Speech between seconds of silence."""
    return np.concatenate(
        [np.zeros(round(before * RATE), np.float32), speech, np.zeros(round(after * RATE), np.float32)]
    )
