"""How well a speech recognizer hears: held-out sentences in held-out voices, clean and in noise, and its word times."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from llama_pajamas_run_core.text.word_errors import word_error_rate
from llama_pajamas_run_core.types.audio import Audio, Transcript
from llama_pajamas_run_system._espeak import Espeak
from llama_pajamas_starter.speech.data import RATE, Noise, Utterance, Waveform, add_noise, padded, say, utterance
from llama_pajamas_starter.speech.sentences import words_of

#: What is evaluated: a backend's ``transcribe`` with word times asked for.
Transcribe = Callable[[Audio], Transcript]

#: Seconds of silence before and after every utterance.
_BEFORE, _AFTER = 0.3, 0.3
_NOISES: Final[tuple[Noise, ...]] = ("white", "pink", "babble")


@dataclass(frozen=True, slots=True)
class SpeechScores:
    """Figures on held-out data.

    Attributes:
        utterances: how many utterances each condition has.
        words: how many words they have.
        wer_clean: word error rate, unseen sentences in unseen voices.
        wer_noise: the same with noise at 10 dB, by kind of noise.
        wer_default_voice: unseen sentences in the voice that answers by default.
        word_time_median: seconds between where words begin and where the recognizer says they begin, over the clean
            utterances that it heard without an error; None if it gives no word times.
        word_time_within: share of those words that begin within 0.2 s of the truth.
        real_time_factor: seconds spent for a second of audio.
    """

    utterances: int
    words: int
    wer_clean: float
    wer_noise: dict[str, float]
    wer_default_voice: float
    word_time_median: float | None
    word_time_within: float | None
    real_time_factor: float


def held_out(count: int, seed: int = 20_000) -> list[Utterance]:
    """Sentences that training never saw in voices that it never heard; the same ones for the same seed."""
    engine, rng = Espeak(), random.Random(seed)
    return [utterance(engine, rng, "held-out") for _ in range(count)]


def word_time_errors(spoken: Utterance, heard: Transcript, offset: float) -> list[float]:
    """Seconds between the true and the reported start of every word; none where a word was misheard.

    Args:
        spoken: the utterance.
        heard: its transcript with word times.
        offset: where the utterance begins in the audio, in seconds.
    """
    truth = spoken.words()
    if [words_of(word) for word, _ in truth] != [words_of(word.text) for word in heard.words]:
        return []
    return [abs(word.start - start - offset) for word, (_, start) in zip(heard.words, truth, strict=True)]


def evaluate(transcribe: Transcribe, count: int = 100, seed: int = 20_000) -> SpeechScores:
    """Measures a recognizer on held-out speech.

    Args:
        transcribe: the recognizer.
        count: utterances in each condition.
        seed: of sentences, voices and noise.
    """
    engine = Espeak()
    spoken = held_out(count, seed)
    waves = [item.waveform() for item in spoken]
    rng = np.random.default_rng(seed)
    clock = audio_seconds = 0.0

    def hear(wave: Waveform) -> Transcript:
        nonlocal clock, audio_seconds
        audio = Audio(wave, RATE)
        begun = time.perf_counter()
        transcript = transcribe(audio)
        clock += time.perf_counter() - begun
        audio_seconds += audio.duration
        return transcript

    clean = [hear(padded(wave, _BEFORE, _AFTER)) for wave in waves]
    errors = [
        error for item, heard in zip(spoken, clean, strict=True) for error in word_time_errors(item, heard, _BEFORE)
    ]
    noisy: dict[str, float] = {}
    for kind in _NOISES:
        others = [waves[int(rng.integers(count))] for _ in range(6)]
        pairs = [
            (item.text, hear(add_noise(padded(wave, _BEFORE, _AFTER), 10, rng, kind, others)).text)
            for item, wave in zip(spoken, waves, strict=True)
        ]
        noisy[kind] = word_error_rate(pairs)
    default = [say(engine, item.text) for item in spoken]
    default_pairs = [
        (item.text, hear(padded(item.waveform(), _BEFORE, _AFTER)).text) for item in default if item is not None
    ]
    return SpeechScores(
        utterances=count,
        words=sum(len(words_of(item.text)) for item in spoken),
        wer_clean=word_error_rate((item.text, heard.text) for item, heard in zip(spoken, clean, strict=True)),
        wer_noise=noisy,
        wer_default_voice=word_error_rate(default_pairs),
        word_time_median=float(np.median(errors)) if errors else None,
        word_time_within=float(np.mean(np.array(errors) <= 0.2)) if errors else None,
        real_time_factor=clock / audio_seconds,
    )
