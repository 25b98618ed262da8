"""Whisper's input: the log-mel spectrogram, as OpenAI's reference computes it."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

#: Samples per second of Whisper's audio.
RATE = 16_000
#: Samples in a frame of the short-time Fourier transform.
N_FFT = 400
#: Samples from one frame to the next.
HOP = 160
#: Samples in Whisper's window of 30 seconds.
N_SAMPLES = 30 * RATE


def log_mel(
    samples: npt.NDArray[np.float32], n_mels: int = 80, pad_to: int | None = N_SAMPLES
) -> npt.NDArray[np.float32]:
    """The log-mel spectrogram that Whisper reads.

    Args:
        samples: float32 [n] at 16 kHz.
        n_mels: 80, or 128 for large-v3 and its descendants.
        pad_to: the length in samples that silence fills the audio up to, or that it is cut to; None leaves it.

    Returns:
        float32 [n_mels, frames], a frame for every 160 samples; about -1 to 1.5.
    """
    if pad_to is not None:
        samples = samples[:pad_to]
    count = len(samples) if pad_to is None else pad_to
    half = N_FFT // 2
    whole = np.zeros(max(count, half + 1), np.float32)  # reflection needs more samples than it mirrors
    whole[: len(samples)] = samples
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(whole, half, mode="reflect"), N_FFT)[::HOP]
    frames = frames[: len(whole) // HOP]  # the reference drops the last frame
    spectrum = np.fft.rfft(frames * _hann(N_FFT), axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    logs = np.log10(np.maximum(mel_filterbank(n_mels, N_FFT, RATE) @ power.T.astype(np.float32), 1e-10))
    if logs.size:
        logs = np.maximum(logs, logs.max() - 8.0)
    return ((logs + 4.0) / 4.0).astype(np.float32)


@lru_cache(maxsize=8)
def mel_filterbank(n_mels: int, n_fft: int, rate: int) -> npt.NDArray[np.float32]:
    """Triangular filters on the mel scale of Slaney's Auditory Toolbox, each of the same area, as librosa makes them.

    Args:
        n_mels: how many filters, from 0 Hz to half the sample rate.
        n_fft: samples in a frame.
        rate: samples per second.

    Returns:
        float32 [n_mels, 1 + n_fft // 2], read-only.
    """
    bins = np.linspace(0.0, rate / 2, 1 + n_fft // 2)
    corners = _mel_to_hz(np.linspace(0.0, _hz_to_mel(rate / 2), n_mels + 2))
    widths = np.diff(corners)
    slopes = corners[:, None] - bins[None, :]
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters *= (2.0 / (corners[2:] - corners[:-2]))[:, None]
    made: npt.NDArray[np.float32] = filters.astype(np.float32)
    made.flags.writeable = False
    return made


# Slaney's scale is linear below 1 kHz and logarithmic above.
_HZ_PER_MEL = 200.0 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    return hz / _HZ_PER_MEL if hz < _BREAK_HZ else float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    exponential = _BREAK_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _BREAK_MEL) - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, mel * _HZ_PER_MEL, exponential)


@lru_cache(maxsize=1)
def _hann(length: int) -> npt.NDArray[np.float32]:
    """The periodic Hann window, as torch.hann_window makes it."""
    made: npt.NDArray[np.float32] = np.hanning(length + 1)[:-1].astype(np.float32)
    return made
