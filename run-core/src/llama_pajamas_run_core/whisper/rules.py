"""Which token may come next, and which one does: Whisper's rules for times.

After openai-whisper's ``decoding.py`` (https://github.com/openai/whisper, MIT licence).
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import InferenceError
from llama_pajamas_run_core.whisper.vocabulary import Vocabulary

#: The latest time at which a window's first words may begin, in timestamp tokens.
_LATEST_START: Final = 50


class Rules:
    """The rules for one vocabulary.

    Args:
        vocabulary: of the model.
        size: tokens that the model gives logits for.
    """

    def __init__(self, vocabulary: Vocabulary, size: int) -> None:
        self._first, self._end = vocabulary.first_time, vocabulary.end
        self._suppressed = np.array([token for token in sorted(set(vocabulary.suppressed())) if token < size], np.intp)

    def apply(self, scores: npt.NDArray[np.float32], made: Sequence[int]) -> None:
        """Set to -inf what may not come next.

        Args:
            scores: the logits [v] of one row, changed in place.
            made: the tokens said so far, without the opening.
        """
        first, end = self._first, self._end
        scores[self._suppressed] = -np.inf
        if not made:
            scores[:first] = -np.inf
            scores[first + _LATEST_START + 1 :] = -np.inf
            return
        last_is_time = made[-1] >= first
        pair = len(made) < 2 or made[-2] >= first
        if last_is_time and pair:
            scores[first:] = -np.inf
        elif last_is_time:
            scores[:end] = -np.inf
        latest = next(token for token in reversed(made) if token >= first)  # a transcript begins with a time
        # A segment's end may be the next one's beginning, but no segment is empty.
        scores[first : latest if last_is_time and not pair else latest + 1] = -np.inf
        # Where times together are likelier than any word, a time comes next.
        times = scores[first:]
        if times.size and np.isfinite(times.max()) and log_sum(times) > scores[:first].max():
            scores[:first] = -np.inf


def log_sum(scores: npt.NDArray[np.float32]) -> float:
    """The logarithm of the sum of the exponentials."""
    peak = scores.max()
    return float(peak + np.log(np.exp(scores - peak).sum(dtype=np.float64)))


def choose(scores: npt.NDArray[np.float32], temperature: float, random: np.random.Generator) -> tuple[int, float]:
    """The next token and its log probability at temperature 1.

    Args:
        scores: logits [v], -inf for what may not come.
        temperature: 0 takes the likeliest; more draws.
        random: where draws come from.

    Raises:
        InferenceError: the scores hold what is not a number.
    """
    whole = log_sum(scores)
    if not math.isfinite(whole):
        raise InferenceError(
            "The model's scores are not numbers.", hint="In half precision it may overflow: take a higher one."
        )
    choice = int(scores.argmax()) if temperature == 0 else _draw(scores / temperature, random)
    return choice, min(0.0, float(scores[choice]) - whole)


def _draw(scores: npt.NDArray[np.float32], random: np.random.Generator) -> int:
    odds = np.exp(scores - scores.max(), dtype=np.float64)
    return int(random.choice(len(odds), p=odds / odds.sum()))
