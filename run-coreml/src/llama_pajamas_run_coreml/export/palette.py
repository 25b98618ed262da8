"""The few values that stand for all weights of a tensor: k-means on a line, where sorting makes it fast and exact.

coremltools' own k-means needs scikit-learn, and this is all that it is needed for.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

_ROUNDS: Final = 60


def palette(weights: npt.NDArray[Any], bits: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """A table of values, and for each weight its place in the table.

    Args:
        weights: any shape.
        bits: of a place.

    Returns:
        the table, [2 ** bits] in the weights' type, rising; and the places, uint8 [weights.size].
    """
    flat = weights.reshape(-1).astype(np.float64)
    values = np.sort(flat)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    count = 1 << bits
    # From both where most weights are, and where the far ones are, which weigh most in a product.
    dense = np.quantile(values, (np.arange(count) + 0.5) / count)
    centres = (dense + np.linspace(values[0], values[-1], count)) / 2
    near = 1e-7 * max(values[-1] - values[0], 1e-30)
    for _ in range(_ROUNDS):
        bounds = np.concatenate([[0], np.searchsorted(values, _edges(centres)), [len(values)]])
        held = np.diff(bounds)
        moved = np.where(held > 0, np.diff(sums[bounds]) / np.maximum(held, 1), centres)
        still = np.abs(moved - centres).max() < near
        centres = moved
        if still:
            break
    centres = np.sort(centres)
    return centres.astype(weights.dtype), np.searchsorted(_edges(centres), flat).astype(np.uint8)


def _edges(centres: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    middle: npt.NDArray[np.float64] = (centres[1:] + centres[:-1]) / 2
    return middle
