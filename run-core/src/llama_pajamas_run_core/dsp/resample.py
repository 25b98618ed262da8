"""Sample rate conversion: band-limited, polyphase, without delay."""

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, gcd, pi

import numpy as np
import numpy.typing as npt

#: Zero crossings of the sinc on each side of its centre: the length, and so the sharpness, of the filter.
_ZEROS = 48
#: Attenuation of the stop band in decibels, which fixes the shape of the Kaiser window.
_ATTENUATION = 80.0
#: Kaiser's formulas (Oppenheim and Schafer, Discrete-Time Signal Processing, section 7.5).
_BETA = 0.1102 * (_ATTENUATION - 8.7)
_TRANSITION = (_ATTENUATION - 8.0) / (2.285 * 2 * _ZEROS) / pi
#: The cut-off as a fraction of the lower Nyquist frequency, placed so that the stop band begins there.
_CUTOFF = 1.0 - _TRANSITION / 2
#: Points of the tabulated filter for each zero crossing; linear between them, which errs by less than 1e-7.
_RESOLUTION = 2048
#: The most samples that are laid out in frames at once; bounds the memory beside input and output.
_FRAMES_SIZE = 1 << 22


def resample(samples: npt.NDArray[np.float32], rate_in: int, rate_out: int) -> npt.NDArray[np.float32]:
    """Convert to another sample rate.

    A Kaiser-windowed sinc (Smith, Digital Audio Resampling): what is above the lower of the two Nyquist frequencies is
    taken off by 80 dB, what is below nine tenths of it passes unchanged, and nothing is shifted in time.

    Args:
        samples: float32 [n].
        rate_in: their samples per second.
        rate_out: the samples per second wanted.

    Returns:
        float32 [round(n * rate_out / rate_in)]; the very input where the rates are equal.

    Raises:
        ValueError: a rate is not positive.
    """
    if rate_in <= 0 or rate_out <= 0:
        raise ValueError(f"sample rates must be positive, not {rate_in} and {rate_out}")
    if rate_in == rate_out:
        return samples
    common = gcd(rate_in, rate_out)
    up, down = rate_out // common, rate_in // common
    count = round(Fraction(len(samples) * up, down))
    out = np.zeros(count, np.float32)
    if not count:
        return out

    # Output i lies at input position i * down / up, so that the filter's taps repeat every `up` outputs, `down` inputs
    # further on. A run of neighbouring outputs is one product: frames of input, a period apart, times the taps.
    reach = _reach(up, down)
    padded = np.concatenate([np.zeros(reach, np.float32), samples, np.zeros(reach + down, np.float32)])
    for first, taps in _bank(up, down):
        width, run = taps.shape
        begin = first * down // up  # of the frame in `padded`, where input 0 lies at `reach`
        hop, period = _stride(up, down, run)
        repeats = ceil((count - first) / period) if count > first else 0
        step = max(1, _FRAMES_SIZE // width)
        for start in range(0, repeats, step):
            stop = min(start + step, repeats)
            low, high = begin + start * hop, begin + (stop - 1) * hop + width
            piece = padded[low:high]
            if len(piece) < high - low:
                piece = np.concatenate([piece, np.zeros(high - low - len(piece), np.float32)])
            frames = np.lib.stride_tricks.sliding_window_view(piece, width)[::hop]
            made = np.ascontiguousarray(frames) @ taps
            _place(out, made, first + start * period, period)
    return out


def _place(out: npt.NDArray[np.float32], made: npt.NDArray[np.float32], first: int, period: int) -> None:
    """Write runs of outputs that lie a period apart; what lies past the end is left out."""
    rows, run = made.shape
    if run == period:
        end = min(first + made.size, len(out))
        out[first:end] = made.reshape(-1)[: end - first]
        return
    whole = min(rows, max(0, (len(out) - first - run) // period + 1))
    if whole:
        view = np.lib.stride_tricks.as_strided(
            out[first:], shape=(whole, run), strides=(period * out.itemsize, out.itemsize), writeable=True
        )
        view[...] = made[:whole]
    if whole < rows:
        begin = first + whole * period
        end = min(begin + run, len(out))
        out[begin:end] = made[whole, : max(0, end - begin)]


def _reach(up: int, down: int) -> int:
    """How many inputs on each side of its position an output depends on."""
    return ceil(_ZEROS * max(1.0, down / up) / _CUTOFF) + 1


def _stride(up: int, down: int, run: int) -> tuple[int, int]:
    """Inputs and outputs from one frame to the next."""
    periods = max(1, run // up)
    return periods * down, periods * up


def _bank(up: int, down: int) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """The filter as matrices: (first output, taps [inputs, outputs]) for each run of outputs within a period."""
    # A frame holds the inputs of a whole run, so most of its taps are zero where the run is long, and the frames
    # overlap where it is short. As many inputs for the run as for the filter keeps both within a factor of two.
    run = max(1, floor(2 * _reach(up, down) * up / down))
    if run >= up:
        yield 0, _taps(up, down, 0, run // up * up)
        return
    for first in range(0, up, run):
        yield first, _taps(up, down, first, min(run, up - first))


@lru_cache(maxsize=32)
def _taps(up: int, down: int, first: int, run: int) -> npt.NDArray[np.float32]:
    """The taps [inputs, outputs] of outputs first to first + run."""
    reach = _reach(up, down)
    begin = first * down // up
    positions = (np.arange(first, first + run, dtype=np.int64) * down - begin * up) / up + reach
    width = int(positions[-1]) + reach + 1
    distance = np.arange(width)[:, None] - positions[None, :]
    at = np.abs(distance) * (_CUTOFF * min(1.0, up / down) * _RESOLUTION)
    table = _kernel()
    index = np.minimum(at.astype(np.int32), len(table) - 2)
    taps = table[index]
    taps += (table[index + 1] - taps) * np.minimum(at - index, 1.0)
    taps /= taps.sum(axis=0)  # a constant stays exactly what it was
    made: npt.NDArray[np.float32] = np.ascontiguousarray(taps, np.float32)
    made.flags.writeable = False  # it is shared by all who resample at these rates
    return made


@lru_cache(maxsize=1)
def _kernel() -> npt.NDArray[np.float64]:
    """The right half of the windowed sinc, from its centre to its end, and zero."""
    at = np.arange(_ZEROS * _RESOLUTION) / _RESOLUTION
    window = np.i0(_BETA * np.sqrt(1.0 - (at / _ZEROS) ** 2))
    return np.append(np.sinc(at) * window, [0.0, 0.0])
