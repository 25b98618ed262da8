"""When each token was said: the decoder's attention to the audio, and the path through it.

After openai-whisper's ``timing.py`` (https://github.com/openai/whisper, MIT licence).
"""

import numpy as np
import numpy.typing as npt

#: Frames over which the attention is smoothed.
_WIDTH = 7


def token_ends(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The position of the audio at which each token ends.

    Args:
        scores: float32 [heads, tokens + 1, positions], how much the place before each token, and the one behind the
            last, attends to the audio, before the softmax.

    Returns:
        int [tokens], not decreasing.
    """
    exact = np.exp(scores - scores.max(-1, keepdims=True))
    weights = exact / exact.sum(-1, keepdims=True)
    spread = np.maximum(weights.std(-2, keepdims=True), 1e-9)
    weights = _smooth((weights - weights.mean(-2, keepdims=True)) / spread)
    rows, columns = _path(-weights.mean(0))
    first = np.searchsorted(rows, np.arange(scores.shape[1]))  # where the path enters each row
    ends: npt.NDArray[np.int64] = columns[first[1:]]
    return ends


def _smooth(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    half = _WIDTH // 2
    if weights.shape[-1] <= half:
        return weights
    padded = np.pad(weights, ((0, 0), (0, 0), (half, half)), mode="reflect")
    smoothed: npt.NDArray[np.float32] = np.median(
        np.lib.stride_tricks.sliding_window_view(padded, _WIDTH, axis=-1), axis=-1
    )
    return smoothed


def _path(cost: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Dynamic time warping: the cheapest path from the first to the last corner, as rows and columns."""
    height, width = cost.shape
    total = np.full((height + 1, width + 1), np.inf)
    total[0, 0] = 0
    steps = np.zeros((height + 1, width + 1), np.int8)
    for diagonal in range(2, height + width + 1):
        rows = np.arange(max(1, diagonal - width), min(height, diagonal - 1) + 1)
        columns = diagonal - rows
        before = np.stack([total[rows - 1, columns - 1], total[rows - 1, columns], total[rows, columns - 1]])
        best = before.argmin(0)
        steps[rows, columns] = best
        total[rows, columns] = cost[rows - 1, columns - 1] + before[best, np.arange(len(rows))]
    row, column = height, width
    path = []
    while row > 0 and column > 0:
        path.append((row - 1, column - 1))
        step = steps[row, column]
        row, column = row - (step != 2), column - (step != 1)
    found = np.array(path[::-1], np.int64)
    return found[:, 0], found[:, 1]
