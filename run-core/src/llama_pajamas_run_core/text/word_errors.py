"""Word error rate."""

import re
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """Words without case and punctuation; a hyphen parts words, an apostrophe within one does not."""
    return _WORD.findall(text.casefold())


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Levenshtein distance: the fewest insertions, deletions and substitutions that turn one into the other."""
    row = list(range(len(hypothesis) + 1))
    for index, expected in enumerate(reference, 1):
        diagonal, row[0] = row[0], index
        for column, heard in enumerate(hypothesis, 1):
            diagonal, row[column] = (
                row[column],
                min(diagonal + (expected != heard), row[column] + 1, row[column - 1] + 1),
            )
    return row[-1]


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Errors per word of the references, over a whole set.

    Case and punctuation do not count, and a hyphen parts words.

    Args:
        pairs: (reference, hypothesis) texts.

    Returns:
        The rate; 0.05 is five errors in a hundred words. 0 for a set without words.
    """
    errors = words = 0
    for reference, hypothesis in pairs:
        expected = words_of(reference)
        errors += edit_distance(expected, words_of(hypothesis))
        words += len(expected)
    return errors / words if words else 0.0
