"""What the raw outputs of vision models mean."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.dsp.boxes import nms
from llama_pajamas_run_core.errors import InferenceError
from llama_pajamas_run_core.types.vision import DetectOptions, VisionSpec

#: A box as a head gives it: class id, confidence, and x1, y1, x2, y2 in the model's input pixels.
RawBox = tuple[int, float, npt.NDArray[np.float32]]

#: Input pixels that no box reaches; a coordinate beyond it, or one that is not a number, is a fault of the model.
_FAR = 1e6


def decode_boxes(outputs: Sequence[npt.NDArray[Any]], spec: VisionSpec, options: DetectOptions) -> list[RawBox]:
    """Read the objects from a detector's outputs for one image.

    Args:
        outputs: the model's outputs without their batch dimension. For the head "yolov8" the first is [4 + classes, n]
            or its transpose, with centre x, centre y, width and height before the class scores; for "nms" it is [n, 6]
            with x1, y1, x2, y2, score and class. What is not finite is left out.
        spec: the model's head and labels.
        options: thresholds and limits.

    Returns:
        class id, confidence and float32 [4] x1, y1, x2, y2 in input pixels, the surest first.

    Raises:
        InferenceError: the output's shape is not that of the head.
    """
    if spec.head == "nms":
        boxes, scores, classes = _read_nms(outputs[0])
    elif spec.head == "yolov8":
        boxes, scores, classes = _read_yolov8(outputs[0], len(spec.labels))
    else:
        raise InferenceError(f"The head '{spec.head}' gives no boxes.")

    good = (scores >= options.confidence) & np.isfinite(scores)
    good &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if options.classes is not None:
        good &= np.isin(classes, options.classes)
    boxes, scores, classes = boxes[good], scores[good], classes[good]

    if spec.head == "nms":  # such a model has suppressed its doubles itself
        kept = np.argsort(-scores, kind="stable")[: options.max_detections]
    else:
        kept = nms(boxes, scores, options.iou, classes=classes, limit=options.max_detections)
    return [(int(classes[i]), float(scores[i]), boxes[i]) for i in kept]


def _read_yolov8(
    output: npt.NDArray[Any], labels: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    if output.ndim != 2:
        raise _misshapen(output, f"[{4 + labels}, n]")
    # Without labels the channels are the shorter side: a detector has more places than classes.
    channels = 4 + labels if labels else min(output.shape)
    if output.shape[0] != channels:
        output = output.T
    if output.shape[0] != channels or channels < 5:
        raise _misshapen(output.T, f"[{4 + labels}, n] or [n, {4 + labels}]")
    table = output.astype(np.float32, copy=False)
    table = table[:, (np.abs(table[:4]) < _FAR).all(axis=0)]
    scores = np.where(np.isnan(table[4:]), -np.inf, table[4:])
    classes = scores.argmax(axis=0)
    centres, halves = table[:2].T, table[2:4].T / 2
    boxes = np.concatenate([centres - halves, centres + halves], axis=1)
    return boxes, scores[classes, np.arange(scores.shape[1])], classes.astype(np.int64)


def _read_nms(
    output: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    if output.ndim != 2 or output.shape[1] != 6:
        raise _misshapen(output, "[n, 6]")
    table = output.astype(np.float32, copy=False)
    table = table[(np.abs(table) < _FAR).all(axis=1)]
    return table[:, :4], table[:, 4], table[:, 5].astype(np.int64)


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


def unit_vectors(output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Scale vectors to the Euclidean length 1; a vector of zeros stays.

    Args:
        output: [n, d], with or without dimensions of one behind.

    Returns:
        float32 [n, d].
    """
    vectors = output.reshape(len(output), -1).astype(np.float32)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    scaled: npt.NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled
