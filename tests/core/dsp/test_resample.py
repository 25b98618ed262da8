import time

import numpy as np
import pytest

from llama_pajamas_run_core.dsp.resample import resample

PAIRS = [
    (24_000, 16_000),
    (48_000, 16_000),
    (44_100, 16_000),
    (22_050, 16_000),
    (16_000, 24_000),
    (8000, 16_000),
    (16_000, 44_100),
    (44_101, 16_000),
    (192_000, 8000),
]


def sine(frequency, rate, seconds=1.0):
    return np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate).astype(np.float32)


def middle(samples):
    tenth = len(samples) // 10
    return samples[tenth:-tenth]


def decibels(samples):
    return 20 * np.log10(np.sqrt(np.mean(np.square(middle(samples), dtype=np.float64))) + 1e-12)


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_what_both_rates_hold_passes_unchanged_and_unshifted(rate_in, rate_out):
    lower = min(rate_in, rate_out)
    for fraction in (0.01, 0.1, 0.25, 0.4, 0.44):
        made = resample(sine(fraction * lower, rate_in), rate_in, rate_out)
        expected = sine(fraction * lower, rate_out)
        assert np.abs(middle(made) - middle(expected)).max() < 1e-3


@pytest.mark.parametrize(("rate_in", "rate_out"), [pair for pair in PAIRS if pair[0] > pair[1]])
def test_what_the_lower_rate_cannot_hold_is_taken_off(rate_in, rate_out):
    for frequency in np.linspace(0.5 * rate_out, 0.5 * rate_in, 7)[:-1]:
        made = resample(sine(frequency, rate_in), rate_in, rate_out)
        assert decibels(made) - decibels(sine(frequency * 0.99, rate_in)) < -60


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_lengths(rate_in, rate_out):
    for count in (0, 1, 2, 3, 100, 999, 4096, 50_001):
        made = resample(np.ones(count, np.float32), rate_in, rate_out)
        assert made.dtype == np.float32
        assert len(made) == round(count * rate_out / rate_in)


def test_a_constant_stays_what_it_is():
    for pair in PAIRS:
        np.testing.assert_allclose(middle(resample(np.full(20_000, 0.5, np.float32), *pair)), 0.5, atol=1e-6)


def test_equal_rates_give_the_input_itself():
    samples = sine(100, 16_000)
    assert resample(samples, 16_000, 16_000) is samples


def test_there_and_back():
    speech = sum(sine(f, 16_000) / f for f in (150, 700, 1900, 4300)).astype(np.float32)
    back = resample(resample(speech, 16_000, 22_050), 22_050, 16_000)
    assert len(back) == len(speech)
    assert np.abs(middle(back) - middle(speech)).max() < 1e-5


def test_an_impulse_stays_in_its_place():
    impulse = np.zeros(24_000, np.float32)
    impulse[12_000] = 1
    made = resample(impulse, 24_000, 16_000)
    assert made.argmax() == 8000
    np.testing.assert_allclose(made[8001:8050], made[7999:7950:-1], atol=1e-6)


def test_long_audio_is_worked_through_in_parts(monkeypatch):
    samples = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    for pair in PAIRS:
        whole = resample(samples, *pair)
        with monkeypatch.context() as patch:
            patch.setattr("llama_pajamas_run_core.dsp.resample._FRAMES_SIZE", 5000)
            np.testing.assert_allclose(resample(samples, *pair), whole, atol=1e-5)


def test_the_input_is_left_alone():
    samples = sine(440, 24_000)
    samples.flags.writeable = False
    before = samples.copy()
    resample(samples, 24_000, 16_000)
    assert (samples == before).all()


@pytest.mark.parametrize("rates", [(0, 16_000), (16_000, 0), (-1, 16_000)])
def test_rates_are_positive(rates):
    with pytest.raises(ValueError, match="positive"):
        resample(np.zeros(10, np.float32), *rates)


def test_a_minute_takes_a_moment():
    samples = np.random.default_rng(0).standard_normal(60 * 24_000).astype(np.float32)
    resample(samples[:24_000], 24_000, 16_000)
    times = []
    for _ in range(5):
        start = time.thread_time()
        resample(samples, 24_000, 16_000)
        times.append(time.thread_time() - start)
    assert min(times) < 0.5
