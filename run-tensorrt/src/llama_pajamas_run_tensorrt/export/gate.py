"""What an engine loses against its graph in FP32, and whether that is too much."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.vision.spec import Reading
from llama_pajamas_run_core.dsp.boxes import iou_matrix
from llama_pajamas_run_core.dsp.heads import class_probabilities, decode_boxes, unit_vectors
from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_core.types.vision import DetectOptions

Arrays = Mapping[str, npt.NDArray[Any]]
#: Boxes float32 [n, 4], scores [n], classes [n] of one image.
Boxes = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]]

#: The most that a figure may lose, in points of 100, where nothing else is said.
_LIMITS: Final[Mapping[str, Mapping[str, float]]] = {
    "mAP50": {"fp32": 0.1, "fp16": 0.5, "int8": 1.0},
    "top-1": {"fp32": 0.1, "fp16": 0.5, "int8": 0.5},
    "cosine": {"fp32": 0.01, "fp16": 0.1, "int8": 1.0},
    "WER": {"fp32": 0.1, "fp16": 0.2, "int8": 0.5},
}
#: FP32's own detections from this confidence on count as the truth.
_SURE: Final = 0.25
_IOU: Final = 0.5
#: What a loss may be past its limit by the rounding of its figure alone.
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Change:
    """What was measured against FP32.

    Attributes:
        figure: "mAP50" with FP32's own detections as the truth, "top-1" agreement, "cosine" of the outputs, or "WER":
            errors in words with FP32's own as the truth.
        value: 1 where nothing changed, else less; 1 minus the rate of errors.
        largest: the largest difference of any output value, relative to that output's largest value.
        cases: how many rows of a batch, or recordings, were compared.
        limit: the most that it may lose, in points of 100.
    """

    figure: str
    value: float
    largest: float
    cases: int
    limit: float

    @property
    def loss(self) -> float:
        """Points of 100 that were lost."""
        return 100.0 * (1.0 - self.value)

    @property
    def passed(self) -> bool:
        """Whether the loss is within the limit."""
        return self.loss <= self.limit + _ROUNDING

    def __str__(self) -> str:
        if self.figure == "WER":
            return f"WER {self.loss:.2f} % against FP32's words, on {self.cases} recordings, limit {self.limit:g}"
        return (
            f"{self.figure} {self.value:.4f} of FP32's on {self.cases} cases (a loss of {self.loss:.2f} points, limit "
            f"{self.limit:g}); largest difference of an output {self.largest:.2e}"
        )

    def check(self, what: str) -> None:
        """Refuse what lost too much.

        Args:
            what: the engine's name, for the message.

        Raises:
            Unsupported: the loss is past the limit.
        """
        if not self.passed:
            raise Unsupported(
                f"{what} loses {self.loss:.2f} points of {self.figure} against FP32, more than the limit of "
                f"{self.limit:g}.",
                hint="Use another --precision, more pictures to calibrate with, a higher --limit, or --force.",
            )

    def facts(self) -> dict[str, Any]:
        """The same for a sidecar."""
        return {**asdict(self), "loss": round(self.loss, 4)}


def measure(
    reference: Callable[[Arrays], Arrays],
    engine: Callable[[Arrays], Arrays],
    feeds: Iterable[Arrays],
    *,
    precision: str,
    reading: Reading | None = None,
    limit: float | None = None,
) -> Change:
    """Run graph and engine on the same, and compare what they say.

    Args:
        reference: the graph in FP32.
        engine: the engine.
        feeds: what to run them on.
        precision: the engine's, for the limit.
        reading: how the outputs are read; None compares the numbers alone.
        limit: the most that the figure may lose, in points of 100; None for the precision's own limit.
    """
    pairs = [_pair(reference(one), engine(one), _rows(one)) for one in feeds]
    largest = max((_largest(one, other) for one, other, _ in pairs), default=0.0)
    cases = sum(rows for _, _, rows in pairs)
    figure, value = _figure(pairs, reading)
    return Change(figure, value, largest, cases, limit_of(figure, precision, limit))


def limit_of(figure: str, precision: str, limit: float | None = None) -> float:
    """The most that a figure may lose, in points of 100: what is asked for, else the precision's own limit."""
    return _LIMITS[figure][precision] if limit is None else limit


def _pair(wanted: Arrays, made: Arrays, rows: int) -> tuple[Arrays, Arrays, int]:
    """The outputs of both in the graph's order, by which they are read; an engine may have another."""
    return wanted, {name: made[name] for name in wanted}, rows


def _figure(pairs: Sequence[tuple[Arrays, Arrays, int]], reading: Reading | None) -> tuple[str, float]:
    if reading is not None and "detect" in reading.spec.tasks:
        truths, found = [], []
        for wanted, made, rows in pairs:
            truths += _boxes(wanted, reading, rows, _SURE)
            found += _boxes(made, reading, rows, 0.01)
        if any(len(boxes) for boxes, _, _ in truths):
            return "mAP50", mean_average_precision(truths, found)
    if reading is not None and "classify" in reading.spec.tasks:
        same = [
            class_probabilities(reading.read(list(wanted.values()), rows)[0], reading.spec).argmax(axis=1)
            == class_probabilities(reading.read(list(made.values()), rows)[0], reading.spec).argmax(axis=1)
            for wanted, made, rows in pairs
        ]
        return "top-1", float(np.concatenate(same).mean())
    return "cosine", _cosine(pairs, reading)


def mean_average_precision(truths: Sequence[Boxes], found: Sequence[Boxes]) -> float:
    """Mean over the classes of the truths of the average precision at an IoU of one half.

    Args:
        truths: for each image what is to be found.
        found: for each image what was found.
    """
    classes = sorted({int(kind) for _, _, kinds in truths for kind in kinds})
    return float(np.mean([_average_precision(truths, found, kind) for kind in classes])) if classes else 1.0


def _average_precision(truths: Sequence[Boxes], found: Sequence[Boxes], kind: int) -> float:
    scores: list[float] = []
    right: list[bool] = []
    total = 0
    for (wanted, _, wanted_kinds), (boxes, sure, kinds) in zip(truths, found, strict=True):
        mine, ours = wanted[wanted_kinds == kind], kinds == kind
        total += len(mine)
        free = np.ones(len(mine), bool)
        order = np.argsort(-sure[ours], kind="stable")
        overlaps = iou_matrix(boxes[ours][order], mine)
        for row, score in zip(overlaps, sure[ours][order], strict=True):
            best = int(np.where(free, row, -1.0).argmax()) if free.any() else -1
            hit = best >= 0 and bool(row[best] >= _IOU)
            if hit:
                free[best] = False
            scores.append(float(score))
            right.append(hit)
    order = np.argsort(-np.asarray(scores), kind="stable")
    hits = np.cumsum(np.asarray(right, bool)[order])
    recall = np.concatenate([[0.0], hits / total, [1.0]])
    precision = np.concatenate([[0.0], hits / np.arange(1, len(hits) + 1), [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope[1:]))


def _boxes(outputs: Arrays, reading: Reading, rows: int, confidence: float) -> list[Boxes]:
    given = reading.read(list(outputs.values()), rows)
    options = DetectOptions(confidence=confidence, iou=0.6)
    made = []
    for index in range(rows):
        read = decode_boxes([output[index] for output in given], reading.spec, options)
        made.append((
            np.array([box for _, _, box in read], np.float32).reshape(-1, 4),
            np.array([score for _, score, _ in read], np.float32),
            np.array([kind for kind, _, _ in read], np.int64),
        ))  # fmt: skip
    return made


def _cosine(pairs: Sequence[tuple[Arrays, Arrays, int]], reading: Reading | None) -> float:
    """The mean cosine between rows of the outputs; the least of any output."""
    values = []
    for wanted, made, rows in pairs:
        if reading is not None and "embed" in reading.spec.tasks:
            vectors = [unit_vectors(reading.read(list(given.values()), rows)[0]) for given in (wanted, made)]
            values.append(float((vectors[0] * vectors[1]).sum(axis=1).mean()))
            continue
        for name in wanted:
            one, other = (np.asarray(array, np.float64).reshape(-1) for array in (wanted[name], made[name]))
            length = float(np.linalg.norm(one) * np.linalg.norm(other))
            values.append(float(one @ other / length) if length else float(np.array_equal(one, other)))
    return min(values, default=1.0)


def _largest(wanted: Arrays, made: Arrays) -> float:
    found = 0.0
    for name, array in wanted.items():
        one, other = np.asarray(array, np.float64), np.asarray(made[name], np.float64)
        if one.shape != other.shape:
            return float("inf")
        scale = float(np.abs(one).max(initial=0.0)) or 1.0
        found = max(found, float(np.abs(one - other).max(initial=0.0)) / scale)
    return found


def _rows(feeds: Arrays) -> int:
    first = next(iter(feeds.values()))
    return len(first) if first.ndim else 1
