"""Speech made faster or slower at its own pitch."""

import numpy as np
import numpy.typing as npt

#: Seconds of the overlapping pieces that the sound is cut into; half of it is the step in the result. At least two
#: periods of a low voice fit in.
_PIECE = 0.04
#: Seconds around its place in which a piece is looked for that continues the one before.
_SEARCH = 0.01


def stretch(samples: npt.NDArray[np.float32], rate: int, speed: float) -> npt.NDArray[np.float32]:
    """Change the pace of speech without changing its pitch.

    WSOLA (Verhelst and Roelands, "An overlap-add technique based on waveform similarity (WSOLA) for high quality
    time-scale modification of speech", ICASSP 1993).

    Args:
        samples: float32 [n].
        rate: samples per second.
        speed: above 1 is faster; 2 halves the duration.

    Returns:
        float32 [round(n / speed)].

    Raises:
        ValueError: ``speed`` is not positive.
    """
    if not speed > 0:
        raise ValueError(f"speed must be positive, not {speed}")
    if speed == 1 or not len(samples):
        return samples
    step = max(1, round(_PIECE * rate / 2))
    reach = round(_SEARCH * rate)
    length = round(len(samples) / speed)
    fade = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2 * step) / (2 * step))).astype(np.float32)
    # The first piece starts half a piece before the sound, so that the fades add up to one from its first sample.
    front = step + reach
    pieces = length // step + 2
    behind = max(0, round(pieces * step * speed) + 4 * step + 2 * reach - len(samples))
    source = np.concatenate([np.zeros(front, np.float32), samples, np.zeros(behind, np.float32)])
    made = np.zeros((pieces + 1) * step, np.float32)
    place = reach
    for index in range(pieces):
        made[index * step : (index + 2) * step] += fade * source[place : place + 2 * step]
        follows = source[place + step : place + 2 * step]
        # Measured from the sound's first sample, which lies half a piece into the first piece.
        wanted = reach + step + round(index * step * speed)
        area = source[max(0, wanted - reach) : wanted + reach + step]
        likeness = np.correlate(area, follows, "valid")
        energy = np.cumsum(np.concatenate([[0.0], area.astype(np.float64) ** 2]))
        likeness = likeness / np.sqrt(np.maximum(energy[step:] - energy[:-step], 1e-6))
        place = max(0, wanted - reach) + int(likeness.argmax())
    return made[step : step + length]
