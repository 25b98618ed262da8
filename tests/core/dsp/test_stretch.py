"""Time-scale modification: duration changes, pitch and level do not."""

import numpy as np
import pytest

from llama_pajamas_run_core.dsp.stretch import stretch

RATE = 16_000


def _tone(seconds: float, hertz: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.9, 1.1, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("hertz", [110.0, 440.0])
def test_a_tone_keeps_its_pitch_and_level(speed: float, hertz: float) -> None:
    made = stretch(_tone(2.0, hertz), RATE, speed)
    assert len(made) == round(2.0 * RATE / speed)
    assert made.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(made * np.hanning(len(made)), 8 * RATE))
    assert spectrum.argmax() / 8 == pytest.approx(hertz, rel=0.02)
    middle = made[len(made) // 8 : -len(made) // 8]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


def test_speed_one_changes_nothing() -> None:
    sound = _tone(0.5, 200.0)
    assert stretch(sound, RATE, 1.0) is sound


@pytest.mark.parametrize("count", [0, 1, 7, 100, 400])
@pytest.mark.parametrize("speed", [0.3, 3.0])
def test_sound_shorter_than_a_piece(count: int, speed: float) -> None:
    made = stretch(np.ones(count, np.float32), RATE, speed)
    assert len(made) == round(count / speed)
    assert np.isfinite(made).all()


def test_events_stay_in_proportion() -> None:
    sound = np.zeros(4 * RATE, np.float32)
    for second in (1, 2, 3):
        sound[second * RATE : second * RATE + 800] = _tone(0.05, 300.0)
    for speed in (0.5, 2.0):
        made = stretch(sound, RATE, speed)
        for second in (1, 2, 3):
            around = made[round((second - 0.1) * RATE / speed) : round((second + 0.15) * RATE / speed)]
            assert np.abs(around).max() > 0.3


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_senseless_speed_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        stretch(np.zeros(10, np.float32), RATE, speed)
