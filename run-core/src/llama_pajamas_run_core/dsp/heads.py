"""What the raw outputs of vision models mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.dsp.boxes import nms
from llama_pajamas_run_core.errors import InferenceError
from llama_pajamas_run_core.types.vision import DetectOptions, Head, VisionSpec

#: A box as a head gives it: class id, confidence, and x1, y1, x2, y2 in the model's input pixels.
RawBox = tuple[int, float, npt.NDArray[np.float32]]

#: Heads of detectors.
BOX_HEADS: frozenset[Head] = frozenset({"yolov8", "yolov8-seg", "nms", "nms-seg", "boxes", "efficient-nms"})
#: Heads that give masks beside boxes.
MASK_HEADS: frozenset[Head] = frozenset({"yolov8-seg", "nms-seg"})
#: Heads of models that suppress doubles themselves.
END_TO_END_HEADS: frozenset[Head] = frozenset({"nms", "nms-seg", "boxes", "efficient-nms"})

#: Input pixels that no box reaches; a coordinate beyond it, or one that is not a number, is a fault of the model.
FAR = 1e6


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Boxes that a head gives for one image.

    Attributes:
        boxes: float32 [n, 4], x1, y1, x2, y2 in the model's input pixels.
        scores: float32 [n].
        classes: int64 [n].
        coefficients: float32 [n, m], each box's weights of the prototypes, or None where there are no masks.
        prototypes: [m, h, w], float32 or float16, which lie over the whole input, or None.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    coefficients: npt.NDArray[np.float32] | None = None
    prototypes: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> "Candidates":
        """Those of a boolean mask, or at indices."""
        weights = None if self.coefficients is None else self.coefficients[which]
        return Candidates(self.boxes[which], self.scores[which], self.classes[which], weights, self.prototypes)


def decode_boxes(outputs: Sequence[npt.NDArray[Any]], spec: VisionSpec, options: DetectOptions) -> list[RawBox]:
    """Read the objects from a detector's outputs for one image.

    Args:
        outputs: as for :func:`read_candidates`.
        spec: the model's head and labels.
        options: thresholds and limits.

    Returns:
        class id, confidence and float32 [4] x1, y1, x2, y2 in input pixels, the surest first.

    Raises:
        InferenceError: the output's shape is not that of the head.
    """
    found = suppress(read_candidates(outputs, spec, options), spec, options)
    return [(int(found.classes[i]), float(found.scores[i]), found.boxes[i]) for i in range(len(found))]


def read_candidates(outputs: Sequence[npt.NDArray[Any]], spec: VisionSpec, options: DetectOptions) -> Candidates:
    """Read the boxes that are sure enough, and of a wanted class, from a detector's outputs for one image.

    Args:
        outputs: the model's outputs without their batch dimension, by the head:

            - "yolov8": [4 + classes, n] or its transpose, with centre x, centre y, width and height before the scores
            - "yolov8-seg": [4 + classes + m, n] or its transpose, m mask coefficients last; prototypes [m, h, w]
            - "nms": [n, 6], x1, y1, x2, y2, score and class
            - "nms-seg": [n, 6 + m] and prototypes [m, h, w]
            - "boxes": boxes [n, 4] x1, y1, x2, y2; labels [n]; scores [n]
            - "efficient-nms": number of boxes [1]; boxes [n, 4]; scores [n]; classes [n]

            What is not finite, or of a negative class, is left out.
        spec: the model's head and labels.
        options: thresholds and limits.

    Returns:
        the boxes in the head's order.

    Raises:
        InferenceError: the output's shape is not that of the head.
    """
    match spec.head:
        case "yolov8" | "yolov8-seg":
            found = _read_yolov8(outputs, len(spec.labels), masks=spec.head == "yolov8-seg")
        case "nms" | "nms-seg":
            found = _read_nms(outputs, masks=spec.head == "nms-seg")
        case "boxes":
            found = _read_lists(*_three(outputs))
        case "efficient-nms":
            found = _read_efficient_nms(outputs)
        case _:
            raise InferenceError(f"The head '{spec.head}' gives no boxes.")
    good = (found.scores >= options.confidence) & np.isfinite(found.scores)
    good &= (found.boxes[:, 2] > found.boxes[:, 0]) & (found.boxes[:, 3] > found.boxes[:, 1])
    good &= found.classes >= 0  # some models fill their lists up with -1
    if options.classes is not None:
        good &= np.isin(found.classes, options.classes)
    return found.take(good)


def suppress(found: Candidates, spec: VisionSpec, options: DetectOptions) -> Candidates:
    """Of boxes that are doubles of each other keep the surest, and at most as many as wanted.

    Args:
        found: what :func:`read_candidates` gave.
        spec: the model's head; where the model has suppressed its doubles itself, nothing is.
        options: thresholds and limits.

    Returns:
        those that stay, the surest first.
    """
    if spec.head in END_TO_END_HEADS:
        return found.take(np.argsort(-found.scores, kind="stable")[: options.max_detections])
    kept = nms(found.boxes, found.scores, options.iou, classes=found.classes, limit=options.max_detections)
    return found.take(kept)


def _read_yolov8(outputs: Sequence[npt.NDArray[Any]], labels: int, *, masks: bool) -> Candidates:
    output = outputs[0]
    prototypes = _prototypes(outputs) if masks else None
    weights = 0 if prototypes is None else len(prototypes)
    if output.ndim != 2:
        raise _misshapen(output, f"[{4 + labels + weights}, n]")
    # Without labels the channels are the shorter side: a detector has more places than classes.
    channels = 4 + labels + weights if labels else min(output.shape)
    if output.shape[0] != channels:
        output = output.T
    if output.shape[0] != channels or channels < 5 + weights:
        wanted = 4 + labels + weights
        raise _misshapen(output.T, f"[{wanted}, n] or [n, {wanted}]")
    table = output.astype(np.float32, copy=False)
    table = table[:, (np.abs(table[:4]) < FAR).all(axis=0)]
    scores = table[4 : channels - weights]
    scores = np.where(np.isnan(scores), -np.inf, scores)
    classes = scores.argmax(axis=0)
    centres, halves = table[:2].T, table[2:4].T / 2
    boxes = np.concatenate([centres - halves, centres + halves], axis=1)
    best = scores[classes, np.arange(scores.shape[1])]
    return Candidates(
        boxes, best, classes.astype(np.int64), table[channels - weights :].T if masks else None, prototypes
    )


def _read_nms(outputs: Sequence[npt.NDArray[Any]], *, masks: bool) -> Candidates:
    output = outputs[0]
    prototypes = _prototypes(outputs) if masks else None
    width = 6 + (0 if prototypes is None else len(prototypes))
    if output.ndim != 2 or output.shape[1] != width:
        raise _misshapen(output, f"[n, {width}]")
    table = output.astype(np.float32, copy=False)
    table = table[(np.abs(table[:, :6]) < FAR).all(axis=1)]
    classes = table[:, 5].astype(np.int64)
    return Candidates(table[:, :4], table[:, 4], classes, table[:, 6:] if masks else None, prototypes)


def _read_lists(boxes: npt.NDArray[Any], labels: npt.NDArray[Any], scores: npt.NDArray[Any]) -> Candidates:
    """Boxes [n, 4], labels [n] and scores [n], each an array of its own."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise _misshapen(boxes, "[n, 4]")
    for other in (labels, scores):
        if other.shape != (len(boxes),):
            raise _misshapen(other, f"[{len(boxes)}]")
    boxes = boxes.astype(np.float32, copy=False)
    good = (np.abs(boxes) < FAR).all(axis=1) & np.isfinite(labels)
    found = scores[good].astype(np.float32, copy=False)
    return Candidates(boxes[good], found, labels[good].astype(np.int64))


def _read_efficient_nms(outputs: Sequence[npt.NDArray[Any]]) -> Candidates:
    if len(outputs) != 4:
        raise InferenceError(f"The detector gives {len(outputs)} outputs where count, boxes, scores, classes were due.")
    count, boxes, scores, classes = outputs
    if count.size != 1:
        raise _misshapen(count, "[1]")
    last = min(max(int(count.reshape(-1)[0]), 0), len(scores))
    return _read_lists(boxes[:last], classes[:last], scores[:last])


def _three(outputs: Sequence[npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    if len(outputs) != 3:
        raise InferenceError(f"The detector gives {len(outputs)} outputs where boxes, labels and scores were due.")
    return outputs[0], outputs[1], outputs[2]


def _prototypes(outputs: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if len(outputs) < 2:
        raise InferenceError("The model gives boxes without the prototypes of their masks.")
    if outputs[1].ndim != 3:
        raise _misshapen(outputs[1], "[m, h, w]")
    return outputs[1]


def _misshapen(output: npt.NDArray[Any], expected: str) -> InferenceError:
    return InferenceError(
        f"The detector's output has the shape {list(output.shape)} where {expected} was expected.",
        hint="See that the model's head and labels are declared as they are.",
    )


def class_probabilities(output: npt.NDArray[Any], spec: VisionSpec) -> npt.NDArray[np.float32]:
    """Read a classifier's output.

    Args:
        output: [n, classes], with or without dimensions of one behind.
        spec: with the head "logits" (a softmax is applied) or "probabilities" (taken as they are).

    Returns:
        float32 [n, classes].

    Raises:
        InferenceError: the output holds what is not a number.
    """
    scores = output.reshape(len(output), -1).astype(np.float32)
    if not np.isfinite(scores).all():
        raise InferenceError("The classifier's output is not finite.")
    if spec.head == "probabilities":
        return scores
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def top_classes(probabilities: npt.NDArray[np.float32], top: int) -> list[npt.NDArray[np.int64]]:
    """The likeliest classes.

    Args:
        probabilities: float32 [n, classes].
        top: how many; all if there are fewer.

    Returns:
        for each row int64 [top], the likeliest first, equally likely ones in the order of the classes.
    """
    classes = probabilities.shape[1]
    if top >= classes:
        return list(np.argsort(-probabilities, axis=1, kind="stable"))
    # Only what is at least as likely as the last that is wanted has to be put in order.
    least = np.partition(probabilities, classes - top, axis=1)[:, classes - top]
    likely = probabilities >= least[:, None]
    if len(likely) > 4 and (np.count_nonzero(likely, axis=1) == top).all():  # no ties at the bound: all rows at once
        columns = np.nonzero(likely)[1].reshape(-1, top)
        ranks = np.argsort(-np.take_along_axis(probabilities, columns, 1), axis=1, kind="stable")
        return list(np.take_along_axis(columns, ranks, 1))
    chosen = []
    for row, among_row in zip(probabilities, likely, strict=True):
        among = np.flatnonzero(among_row)
        chosen.append(among[np.argsort(-row[among], kind="stable")][:top])
    return chosen


def unit_vectors(output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Scale vectors to the Euclidean length 1; a vector of zeros stays.

    Args:
        output: [n, d], with or without dimensions of one behind.

    Returns:
        float32 [n, d].

    Raises:
        InferenceError: a vector holds what is not a number.
    """
    vectors = output.reshape(len(output), -1).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise InferenceError("A vector of the model is not finite.")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    scaled: npt.NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled
