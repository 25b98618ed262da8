from functools import cache

import numpy as np
import pytest

from llama_pajamas_run_core.dsp.windows import speech_windows
from llama_pajamas_run_core.types.audio import Audio

RATE = 16_000


def noise(seconds, level, colour=0.0, seed=0, rate=RATE):
    """Noise of a level, white (0), pink (0.5) or brown (1)."""
    count = int(seconds * rate)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    bins = np.maximum(np.arange(len(spectrum)), 1)
    samples = np.fft.irfft(spectrum / bins**colour, count)
    return (level * samples / np.sqrt(np.mean(samples**2))).astype(np.float32)


def utterance(seconds, level=0.1, seed=0, rate=RATE):
    """What has speech's build: a voice with harmonics and moving formants, four syllables a second."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * time)) / rate
    formants = 500 + 300 * np.sin(2 * np.pi * 1.3 * time), 1500 + 500 * np.sin(2 * np.pi * 0.9 * time + 1)
    voice = np.zeros_like(time)
    for harmonic in range(1, 30):
        frequency = 120 * harmonic
        gain = sum(np.exp(-(((frequency - formant) / 200) ** 2)) for formant in formants) + 0.02
        voice += gain * np.sin(harmonic * phase + rng.uniform(0, 6))
    syllables = np.clip(np.sin(2 * np.pi * 2 * time) ** 2 * 1.2 - 0.1, 0, 1)
    voice *= syllables
    return (level * voice / np.sqrt(np.mean(voice**2))).astype(np.float32)


def silence(seconds, rate=RATE):
    return np.zeros(int(seconds * rate), np.float32)


def windows(*parts, longest=30.0, rate=RATE):
    return list(speech_windows(Audio(np.concatenate(parts).astype(np.float32), rate), longest))


def ends(window):
    return window.start, window.start + window.audio.duration


def hum():
    time = np.arange(60 * RATE) / RATE
    return (0.1 * np.sin(2 * np.pi * 50 * time) + 0.05 * np.sin(2 * np.pi * 150 * time)).astype(np.float32)


def clicks():
    samples = noise(60, 1e-3)
    samples[10 * RATE] = 0.9
    samples[30 * RATE : 30 * RATE + 20] = 0.5
    return samples


NOT_SPEECH = {
    "nothing": silence(0),
    "zeros": silence(60),
    "direct current": np.full(60 * RATE, 0.5, np.float32),
    "hum": hum(),
    "clicks": clicks(),
    "tone": np.sin(2 * np.pi * 1000 * np.arange(60 * RATE) / RATE).astype(np.float32),
}


@pytest.mark.parametrize("name", NOT_SPEECH)
def test_silence_is_no_window(name):
    assert windows(NOT_SPEECH[name]) == []
    assert windows(NOT_SPEECH[name], longest=5.0) == []


@pytest.mark.parametrize("colour", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("level", [1e-4, 1e-2, 0.3])
def test_steady_noise_is_no_window(level, colour):
    for seconds in (3, 45):
        assert windows(noise(seconds, level, colour)) == []


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 48_000])
def test_short_audio_is_one_window_without_its_silent_ends(rate):
    (window,) = windows(silence(5, rate), utterance(3, rate=rate), silence(7, rate), rate=rate)
    start, end = ends(window)
    assert 4.7 <= start <= 5.0
    assert 8.0 <= end <= 8.3
    assert window.audio.rate == rate
    assert window.audio.samples.dtype == np.float32


def test_pauses_do_not_divide_what_fits():
    (window,) = windows(silence(2), utterance(1), silence(20), utterance(1), silence(3))
    assert ends(window)[0] == pytest.approx(1.85, abs=0.15)
    assert ends(window)[1] == pytest.approx(24.15, abs=0.15)


@pytest.mark.parametrize("colour", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("ratio", [20, 10, 5, 0])
def test_speech_is_found_in_noise(ratio, colour):
    speech = utterance(3)
    padded = np.concatenate([silence(5), speech, silence(5)])
    (window,) = windows(padded + noise(13, 0.1 * 10 ** (-ratio / 20), colour))
    start, end = ends(window)
    assert 4 <= start <= 5.1
    assert 7.85 <= end <= 9  # the last syllable ends at 7.9


@pytest.mark.parametrize("level", [0.5, 0.01, 0.001])
def test_quiet_speech_counts(level):
    (window,) = windows(silence(4), utterance(2, level), silence(4))
    assert ends(window)[0] <= 4.05
    assert ends(window)[1] >= 5.85


def test_a_word_that_fills_its_audio_counts():
    for seconds in (0.2, 0.5, 0.9, 1.5, 4.0):
        (window,) = windows(utterance(seconds))
        assert window.audio.duration > 0.6 * seconds
    assert len(windows(np.full(RATE // 2, 0.1) * np.sin(np.arange(RATE // 2) * 0.06))) == 1  # one held vowel


@cache
def conversation(count=24, pause=0.4):
    parts, pauses, at = [], [], 0.0
    for seed in range(count):
        seconds = 3 + seed % 4
        parts += [utterance(seconds, seed=seed), silence(pause)]
        at += seconds
        pauses.append((at, at + pause))
        at += pause
    return np.concatenate(parts) + noise(at, 0.002, 0.5)[: sum(map(len, parts))], pauses


@pytest.mark.parametrize("longest", [30.0, 15.0, 8.0])
def test_long_audio_is_cut_in_pauses(longest):
    samples, pauses = conversation()
    made = windows(samples, longest=longest)
    assert len(made) >= len(samples) / RATE / longest
    before = 0.0
    for window in made:
        start, end = ends(window)
        assert before <= start + 1e-9
        assert window.audio.duration <= longest
        np.testing.assert_array_equal(window.audio.samples, samples[round(start * RATE) :][: len(window.audio.samples)])
        before = end
    for window in made[:-1]:
        end = ends(window)[1]
        # An utterance is silent for a quarter of a second between its syllables' last and the pause.
        assert any(first - 0.15 <= end <= last + 0.25 for first, last in pauses), end
    spoken = len(samples) / RATE - sum(last - first for first, last in pauses)
    assert sum(window.audio.duration for window in made) >= spoken * 0.97


def test_no_speech_is_lost_at_a_cut():
    samples = np.concatenate([utterance(5, seed=seed) for seed in range(12)])
    made = windows(samples, longest=10.0)
    joined = np.concatenate([window.audio.samples for window in made])
    assert np.square(joined).sum() > 0.999 * np.square(samples).sum()
    assert all(window.audio.duration <= 10 for window in made)


def test_long_silence_is_left_out_of_long_audio():
    made = windows(silence(40), utterance(3), silence(30), utterance(4), silence(60))
    assert [round(window.start) for window in made] == [40, 73]
    assert sum(window.audio.duration for window in made) < 8


def test_the_end_of_long_audio_is_kept():
    made = windows(*[utterance(4, seed=seed) for seed in range(9)], longest=30.0)
    assert ends(made[-1])[1] >= 35.8


def test_windows_share_the_audio():
    audio = Audio(np.concatenate([silence(2), utterance(2)]), RATE)
    (window,) = speech_windows(audio, 30.0)
    assert np.shares_memory(window.audio.samples, audio.samples)


def test_longest_is_positive():
    with pytest.raises(ValueError, match="positive"):
        list(speech_windows(Audio(silence(1), RATE), 0))
