"""How well a detector, a classifier and an embedder read held-out scenes: mAP, top-1, text-to-image R@1.

They measure any :class:`VisionBackend`, so every runtime is judged alike.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.dsp.boxes import iou_matrix
from llama_pajamas_run_core.types.vision import Detection, DetectOptions, Image
from llama_pajamas_starter.vision.captions import Content, caption, captioned, random_content
from llama_pajamas_starter.vision.scenes import COLOUR_NAMES, HELD_OUT_SEEDS, scene, single_object
from llama_pajamas_starter.vocabulary import OBJECTS

Floats = NDArray[np.floating[Any]]


class Found(NamedTuple):
    """Detections in one image: boxes (n, 4) x0, y0, x1, y1 in its pixels, scores (n,), labels (n,)."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


def average_precision(right: NDArray[np.bool_], scores: Floats, truths: int) -> float:
    """Area under the precision envelope over all recall points (PASCAL VOC 2010 and later).

    Args:
        right: (n,) whether each detection is a true positive.
        scores: (n,) confidences, in any order.
        truths: how many objects there are.

    Returns:
        0 to 1; NaN if there are neither truths nor detections.
    """
    if truths == 0:
        return 0.0 if len(right) else float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    recall = np.concatenate([[0.0], hits / truths, [1.0]])
    precision = np.concatenate([[0.0], hits / np.arange(1, len(right) + 1), [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope[1:]))


def mean_average_precision(
    found: Sequence[Found],
    truth: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
    classes: int,
    thresholds: Sequence[float] = (0.5,),
) -> dict[float, float]:
    """Mean average precision over classes at each IoU threshold; the most confident detection gets a truth, once.

    Args:
        found: detections of each image.
        truth: boxes (n, 4) and labels (n,) of each image.
        classes: how many labels there are.
        thresholds: least IoU of a match.
    """
    result: dict[float, float] = {}
    for threshold in thresholds:
        values: list[float] = []
        for label in range(classes):
            right: list[bool] = []
            scores: list[float] = []
            truths = 0
            for image, (boxes, labels) in zip(found, truth, strict=True):
                mine, wanted = image.labels == label, boxes[labels == label]
                truths += len(wanted)
                order = np.argsort(-image.scores[mine], kind="stable")
                overlaps = iou_matrix(image.boxes[mine][order], wanted)
                free = np.ones(len(wanted), dtype=bool)
                for row, score in zip(overlaps, image.scores[mine][order], strict=True):
                    best = int(np.argmax(np.where(free, row, -1.0))) if free.any() else -1
                    hit = best >= 0 and bool(row[best] >= threshold)
                    if hit:
                        free[best] = False
                    right.append(hit)
                    scores.append(float(score))
            value = average_precision(np.array(right, dtype=bool), np.array(scores), truths)
            if not np.isnan(value):
                values.append(value)
        result[threshold] = float(np.mean(values)) if values else 0.0
    return result


def as_found(detections: Sequence[Detection]) -> Found:
    """One image's detections as arrays."""
    corners = [(one.box.x1, one.box.y1, one.box.x2, one.box.y2) for one in detections]
    return Found(
        np.array(corners, dtype=np.float32).reshape(-1, 4),
        np.array([one.confidence for one in detections], dtype=np.float32),
        np.array([one.class_id for one in detections], dtype=np.int64),
    )


def precision_and_recall(
    found: Sequence[Found], truth: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]], confidence: float = 0.25
) -> tuple[float, float]:
    """Share of detections of at least ``confidence`` that are right, and of objects that are found, at IoU 0.5."""
    right = seen = wanted = 0
    for image, (boxes, labels) in zip(found, truth, strict=True):
        sure = image.scores >= confidence
        match = iou_matrix(image.boxes[sure], boxes) >= 0.5
        match &= image.labels[sure][:, None] == labels[None, :]
        # Objects of one class overlap too little for one box to match two of them.
        right += int(match.any(axis=0).sum())
        seen += int(sure.sum())
        wanted += len(labels)
    return right / max(seen, 1), right / max(wanted, 1)


def detector(backend: VisionBackend, count: int = 300) -> dict[str, float]:
    """A detector's mAP50 and mAP50-95 on ``count`` held-out scenes; precision and recall at confidence 0.25."""
    options = DetectOptions(confidence=0.01, iou=0.6)
    found, truth = [], []
    for seed in HELD_OUT_SEEDS[:count]:
        drawn = scene(seed)
        found.append(as_found(backend.detect([Image(drawn.image)], options)[0]))
        truth.append((drawn.boxes, drawn.labels))
    thresholds = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())
    values = mean_average_precision(found, truth, len(OBJECTS), thresholds)
    precision, recall = precision_and_recall(found, truth)
    return {
        "mAP50": round(values[0.5], 4),
        "mAP50-95": round(float(np.mean(list(values.values()))), 4),
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "scenes": count,
        "objects": sum(len(labels) for _, labels in truth),
    }


def classifier(backend: VisionBackend, count: int = 1000) -> dict[str, float]:
    """Top-1 accuracy of a classifier on ``count`` held-out images of one object."""
    right = 0
    for seed in HELD_OUT_SEEDS[:count]:
        drawn = single_object(seed)
        right += backend.classify([Image(drawn.image)], top=1)[0][0].class_id == drawn.labels[0]
    return {"top-1": round(float(right / count), 4), "images": count}


def zero_shot(backend: VisionBackend, count: int = 500) -> dict[str, float]:
    """How often the likeliest of all 80 captions like "a red car" is right for a held-out image of one object."""
    contents = [Content(1, label, colour) for label in range(len(OBJECTS)) for colour in range(len(COLOUR_NAMES))]
    texts = backend.embed_text([caption(content) for content in contents])
    right = 0
    for seed in HELD_OUT_SEEDS[:count]:
        drawn = single_object(seed)
        best = contents[int((texts @ backend.embed([Image(drawn.image)])[0]).argmax())]
        right += (best.label, best.colour) == (drawn.labels[0], drawn.colours[0])
    return {"top-1 of 80": round(float(right / count), 4), "images": count}


def retrieval_set(count: int = 100, group: int = 0) -> list[tuple[Image, str]]:
    """Held-out images with captions, no two alike."""
    rng = np.random.default_rng([77, group])
    contents: dict[Content, None] = {}
    while len(contents) < count:
        contents.setdefault(random_content(rng))
    first = 1000 * (group + 1)
    return [
        (Image(captioned(HELD_OUT_SEEDS[first + index], content)[0].image), caption(content, reverse=index % 2 == 1))
        for index, content in enumerate(contents)
    ]


def embedder(backend: VisionBackend, groups: int = 5, count: int = 100) -> dict[str, float]:
    """Retrieval among ``count`` distinct captions, averaged over ``groups`` sets of them."""
    to_image, to_text, within = [], [], []
    for group in range(groups):
        pairs = retrieval_set(count, group)
        images = backend.embed([image for image, _ in pairs])
        texts = backend.embed_text([text for _, text in pairs])
        likeness = texts @ images.T
        own = np.arange(count)
        to_image.append(np.mean(likeness.argmax(axis=1) == own))
        to_text.append(np.mean(likeness.argmax(axis=0) == own))
        within.append(np.mean((likeness > np.diag(likeness)[:, None]).sum(axis=1) < 5))
    return {
        "text-to-image R@1": round(float(np.mean(to_image)), 4),
        "text-to-image R@5": round(float(np.mean(within)), 4),
        "image-to-text R@1": round(float(np.mean(to_text)), 4),
        "sets": groups,
        "captions per set": count,
    }
