"""What verifying finds. Imports no SDK."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

#: Two vectors, or outputs, whose cosine is at least this are the same; also the floor of their mean.
COSINE: Final = 0.999
#: The floor of the intersection over union of boxes.
IOU: Final = 0.99
#: The floor of shares: of answers that stayed, of boxes that were found again.
SHARE: Final = 0.99


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure.

    Attributes:
        what: what it is.
        value: the figure; None where there is nothing but the text.
        floor: what it should reach; None where it only informs.
        note: more about it.
    """

    what: str
    value: float | None = None
    floor: float | None = None
    note: str = ""

    @property
    def good(self) -> bool:
        """Whether it is as it should be."""
        return self.floor is None or (self.value is not None and self.value >= self.floor)

    def __str__(self) -> str:
        value = "" if self.value is None else f" {self.value:.5f}"
        verdict = "" if self.floor is None else f" ({'at least' if self.good else 'LESS THAN'} {self.floor})"
        return f"{self.what}:{value}{verdict}" + (f" {self.note}" if self.note else "")


def cosine(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> float:
    """The cosine of two arrays as one vector each; 1 for two of zeros."""
    left, right = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    lengths = float(np.linalg.norm(left) * np.linalg.norm(right))
    if lengths == 0:
        return float(np.array_equal(left, right))
    return float(left @ right) / lengths
