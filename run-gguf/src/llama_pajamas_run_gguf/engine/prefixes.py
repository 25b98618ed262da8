"""How far sequences of tokens begin alike."""

from typing import Any

import numpy as np


def common_length(one: "np.ndarray[Any, np.dtype[np.int32]]", other: "np.ndarray[Any, np.dtype[np.int32]]") -> int:
    """How many elements two arrays have in common at their beginning."""
    size = min(len(one), len(other))
    differing = np.flatnonzero(one[:size] != other[:size])
    return int(differing[0]) if len(differing) else size
