import numpy as np
import pytest

from llama_pajamas_run_core.dsp.mel import N_SAMPLES, RATE, log_mel, mel_filterbank


def test_the_filters_are_those_of_librosa():
    """The first values of ``librosa.filters.mel(sr=16000, n_fft=400, n_mels=80)``, as Whisper ships them."""
    filters = mel_filterbank(80, 400, RATE)
    assert filters.shape == (80, 201)
    assert filters.dtype == np.float32
    np.testing.assert_allclose(filters[0, :4], [0, 0.02486259, 0, 0], atol=1e-7)
    np.testing.assert_allclose(filters[1, 1:4], [0.00199082, 0.02287177, 0], atol=1e-7)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_the_filters_are_triangles_of_the_same_area(n_mels):
    filters = mel_filterbank(n_mels, 4096, RATE)  # so finely that sums are integrals
    areas = filters.sum(axis=1) * (RATE / 4096)
    np.testing.assert_allclose(areas, 1, rtol=0.01)
    peaks = filters.argmax(axis=1)
    assert (np.diff(peaks) > 0).all()
    for row, peak in zip(filters, peaks, strict=True):
        assert (np.diff(row[: peak + 1]) >= 0).all()
        assert (np.diff(row[peak:]) <= 0).all()
    hertz = peaks * RATE / 4096
    below = hertz[hertz < 950]
    np.testing.assert_allclose(np.diff(below), np.diff(below).mean(), atol=2 * RATE / 4096)  # linear below 1 kHz
    above = hertz[hertz > 1100]
    np.testing.assert_allclose(above[1:] / above[:-1], (above[-1] / above[0]) ** (1 / (len(above) - 1)), atol=0.01)


def reference(samples, n_mels):
    """Whisper's definition, frame by frame and in double precision."""
    padded = np.pad(np.pad(samples.astype(np.float64), (0, N_SAMPLES - len(samples))), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    powers = [np.abs(np.fft.rfft(padded[i : i + 400] * window)) ** 2 for i in range(0, N_SAMPLES, 160)]
    logs = np.log10(np.maximum(mel_filterbank(n_mels, 400, RATE).astype(np.float64) @ np.array(powers).T, 1e-10))
    return (np.maximum(logs, logs.max() - 8) + 4) / 4


@pytest.mark.parametrize("n_mels", [80, 128])
def test_it_is_whispers(n_mels):
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal(RATE * 3) * np.linspace(0, 1, RATE * 3)).astype(np.float32)
    made = log_mel(samples, n_mels)
    assert made.shape == (n_mels, 3000)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, reference(samples, n_mels), atol=2e-5)


def test_a_tone_shows_in_its_band():
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    band = log_mel(tone)[:, :90].mean(axis=1).argmax()
    peak = mel_filterbank(80, 400, RATE)[band].argmax() * RATE / 400
    assert peak == pytest.approx(1000, abs=60)


def test_lengths():
    assert log_mel(np.zeros(0, np.float32)).shape == (80, 3000)
    assert log_mel(np.zeros(N_SAMPLES * 2, np.float32)).shape == (80, 3000)
    assert log_mel(np.zeros(RATE, np.float32), pad_to=None).shape == (80, 100)
    assert log_mel(np.zeros(5, np.float32), pad_to=None).shape[0] == 80
    assert log_mel(np.zeros(RATE, np.float32), pad_to=RATE * 5).shape == (80, 500)


def test_silence_is_flat():
    made = log_mel(np.zeros(RATE, np.float32))
    assert (made == made[0, 0]).all()
    assert made[0, 0] == pytest.approx(-1.5)


def test_the_filters_are_shared_and_so_read_only():
    with pytest.raises(ValueError, match="read-only"):
        mel_filterbank(80, 400, RATE)[0, 0] = 1
