"""Where there could be speech, and where long audio can be cut without hurting a word."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.types.audio import Audio

#: Seconds from one measurement of the level to the next; each looks at twice as much.
_HOP = 0.01
#: Where the bands begin whose levels are watched, in hertz; speech stands out of noise in some before it does in all.
_BANDS = (100, 300, 600, 1200, 2400, 4800)
#: Levels are averaged over this many measurements, so that the chance ripple of steady noise stays small.
_SMOOTH = 5
#: Seconds on each side over which the noise floor is taken.
_FLOOR_REACH = 4
#: The floor is the level that this share of the measurements is below: speech has that much of pauses and closures.
_FLOOR_SHARE = 0.1
#: Decibels above the floor from which on a band may hold speech.
_MARGIN = 8.0
#: What is quieter, in decibels relative to full scale, is silence whatever the floor.
_SILENCE = -75.0
#: In audio shorter than this (seconds) a floor cannot be told from speech; there only the level counts.
_TOO_SHORT = 1.0
_SHORT_SILENCE = -60.0
#: A sound this short (seconds) with nothing near it is a click.
_CLICK = 0.05
#: Seconds within which sounds belong together.
_NEAR = 0.5
#: Seconds kept around speech.
_PADDING = 0.2
#: Silence longer than this (seconds) between two utterances ends a window.
_LONG_SILENCE = 5.0
#: A cut is looked for from this fraction of the longest window on.
_CUT_FROM = 0.5
#: A cut is where this many seconds around it are quietest, those next to it counting most.
_CUT_WIDTH = 0.3
#: Measurements made at once; bounds the memory.
_CHUNK = 1 << 14


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of longer audio.

    Attributes:
        audio: the stretch.
        start: where it begins, in seconds from the beginning of the whole.
    """

    audio: Audio
    start: float


def speech_windows(audio: Audio, longest: float) -> Iterator[Window]:
    """Cut audio into windows that could hold speech.

    Silence and steady noise are left out: a recognizer makes words up when it is given them. In doubt a sound is kept.
    Windows end in pauses or, where there is none, at the quietest place in their second half.

    Args:
        audio: any length, any rate.
        longest: the most seconds in a window.

    Returns:
        windows in order of time, which do not overlap; none where nothing could be speech. Audio that fits into one
        window is never cut, only freed of silence at its ends.

    Raises:
        ValueError: ``longest`` is not positive.
    """
    if longest <= 0:
        raise ValueError(f"longest must be positive, not {longest}")
    size = max(1, int(longest * audio.rate))
    bands = _band_levels(audio)
    spans = _spans(bands, audio)
    if not spans:
        return
    if len(audio.samples) <= size:
        yield _window(audio, spans[0][0], spans[-1][1])
        return
    half = round(_CUT_WIDTH / 2 / _HOP)
    loudness = _smooth(_smooth(bands.sum(axis=1), half), half)
    for first, last in _joined(spans, round(_LONG_SILENCE * audio.rate)):
        start = first
        while last - start > size:
            cut = _quietest(loudness, start + int(size * _CUT_FROM), start + size, audio.rate)
            yield from _pieces(audio, spans, start, cut)
            start = cut
        yield from _pieces(audio, spans, start, last)


def _pieces(audio: Audio, spans: list[tuple[int, int]], start: int, stop: int) -> Iterator[Window]:
    """The window from ``start`` to ``stop`` without the silence at its ends; none if it is all silence."""
    inside = [(max(first, start), min(last, stop)) for first, last in spans if first < stop and last > start]
    if inside:
        yield _window(audio, inside[0][0], inside[-1][1])


def _window(audio: Audio, start: int, stop: int) -> Window:
    return Window(Audio(audio.samples[start:stop], audio.rate), start / audio.rate)


def _band_levels(audio: Audio) -> npt.NDArray[np.float32]:
    """Mean power in each band, float32 [measurements, bands], where a full-scale square wave has 1 in all bands."""
    hop = max(1, round(_HOP * audio.rate))
    size = 2 * hop
    edges = [edge for edge in _BANDS if edge < audio.rate / 2] or [0]
    starts = np.unique([int(np.ceil(edge * size / audio.rate)) for edge in edges])
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    scale = np.float32(2.0 / (np.square(window).sum() * size))
    padded = np.concatenate([audio.samples, np.zeros(size, np.float32)])
    count = max(1, -(-len(audio.samples) // hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:count]
    levels = np.empty((count, len(starts)), np.float32)
    for first in range(0, count, _CHUNK):
        spectrum = np.fft.rfft(frames[first : first + _CHUNK] * window, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2) * scale
        levels[first : first + _CHUNK] = np.add.reduceat(power, starts, axis=1)
    return levels


def _spans(bands: npt.NDArray[np.float32], audio: Audio) -> list[tuple[int, int]]:
    """Stretches [start, stop) in samples that could be speech, with their padding, in order, apart from each other."""
    levels = 10.0 * np.log10(_smooth(bands, _SMOOTH) + 1e-12)
    loudness = 10.0 * np.log10(_smooth(bands.sum(axis=1), _SMOOTH) + 1e-12)
    if audio.duration < _TOO_SHORT:
        active = loudness > _SHORT_SILENCE
    else:
        floor = np.stack([_noise_floor(levels[:, band]) for band in range(levels.shape[1])], axis=1)
        floor = np.maximum(floor, _SILENCE - _MARGIN)  # in an empty band any trace would stand out
        active = (loudness > _SILENCE) & ((levels - floor).max(axis=1) > _MARGIN)
    edges = np.flatnonzero(np.diff(active, prepend=False, append=False)).reshape(-1, 2)
    near, click = round(_NEAR / _HOP), round(_CLICK / _HOP) + _SMOOTH
    hop = max(1, round(_HOP * audio.rate))
    padding = round(_PADDING * audio.rate)
    found = [
        (max(0, int(first) * hop - padding), min(len(audio.samples), int(last) * hop + padding))
        for first, last in _joined([(int(a), int(b)) for a, b in edges], near)
        if last - first > click
    ]
    return _joined(found, 1)


def _noise_floor(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The level of the steady noise around each measurement, in decibels."""
    second = round(1 / _HOP)
    blocks = -(-len(levels) // second)
    padded = np.full((blocks + 2 * _FLOOR_REACH) * second, np.inf)
    middle = padded[_FLOOR_REACH * second :]
    middle[: len(levels)] = levels
    reach = (2 * _FLOOR_REACH + 1) * second
    around = np.lib.stride_tricks.sliding_window_view(padded, reach)[::second]
    floor = np.empty(blocks)
    for first in range(0, blocks, 256):
        ordered = np.sort(around[first : first + 256], axis=1)  # what lies outside the audio is infinite, and last
        rank = (np.isfinite(ordered).sum(axis=1) * _FLOOR_SHARE).astype(np.int64)
        floor[first : first + 256] = np.take_along_axis(ordered, rank[:, None], axis=1)[:, 0]
    return np.repeat(floor, second)[: len(levels)]


def _smooth(values: npt.NDArray[np.floating[Any]], width: int) -> npt.NDArray[np.float64]:
    """Mean over ``width`` neighbours along the first axis; at the ends over those there are."""
    total = np.cumsum(np.concatenate([np.zeros((1, *values.shape[1:])), values]), axis=0)
    index = np.arange(len(values))
    low = np.maximum(index - width // 2, 0)
    high = np.minimum(index + (width + 1) // 2, len(values))
    means: npt.NDArray[np.float64] = total[high] - total[low]
    # The running total rounds: what should be zero comes out as a little more or less.
    means = np.maximum(means, 0.0) / (high - low).reshape(-1, *[1] * (values.ndim - 1))
    return means


def _quietest(loudness: npt.NDArray[np.float64], start: int, stop: int, rate: int) -> int:
    """The sample between ``start`` and ``stop`` around which it is quietest; the last one where it is equally so."""
    hop = max(1, round(_HOP * rate))
    first = min(start // hop + 1, len(loudness) - 1)
    levels = 10.0 * np.log10(loudness[first : max(first + 1, stop // hop)] + 1e-12)
    best = int(np.flatnonzero(levels <= levels.min() + 1.0)[-1])
    return min(max((first + best + 1) * hop, start + 1), stop)  # in the middle of what was measured


def _joined(spans: list[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Spans with those joined that are less than ``gap`` apart."""
    joined: list[tuple[int, int]] = []
    for first, last in spans:
        if joined and first - joined[-1][1] < gap:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined
