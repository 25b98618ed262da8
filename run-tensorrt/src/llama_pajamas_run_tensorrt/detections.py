"""What a detector found in a picture: arrays, and objects of them as soon as they are asked for."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.dsp.fit import Placement
from llama_pajamas_run_core.dsp.heads import Candidates
from llama_pajamas_run_core.types.vision import Detection


class Detections(Sequence[Detection]):
    """The objects of one picture, the surest first.

    A GPU finds thousands of them in the time in which Python makes some hundred objects, so the objects are made when
    the first is asked for. Equal to any sequence of equal detections.

    Args:
        found: without doubles, the surest first, in the model's input pixels.
        placement: where the picture lay in the input.
        labels: names of the classes.

    Attributes:
        scores: float32 [n], 0 to 1.
        classes: class ids, integers [n].
    """

    __slots__ = ("_found", "_labels", "_made", "_placement", "classes", "scores")

    def __init__(self, found: Candidates, placement: Placement, labels: Sequence[str]) -> None:
        self.scores: npt.NDArray[np.float32] = found.scores
        self.classes: npt.NDArray[np.integer] = found.classes
        self._found, self._placement, self._labels = found.boxes, placement, labels
        self._made: list[Detection] | None = None

    @property
    def boxes(self) -> npt.NDArray[np.float64]:
        """float64 [n, 4], x1, y1, x2, y2 in the picture's own pixels."""
        return self._placement.restored(self._found)

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice) -> list[Detection]: ...
    def __getitem__(self, index: int | slice) -> Detection | list[Detection]:
        return self._objects()[index]

    def __iter__(self) -> Iterator[Detection]:
        return iter(self._objects())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return self._objects() == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._objects())

    def _objects(self) -> list[Detection]:
        if self._made is None:
            labels, known = self._labels, len(self._labels)
            boxes = self._placement.restore_all(self._found)
            rows = zip(self.classes.tolist(), self.scores.tolist(), boxes, strict=True)
            self._made = [
                Detection(which, labels[which] if which < known else str(which), score, box)
                for which, score, box in rows
            ]
        return self._made
