"""Boxes that overlap: intersection over union and non-maximum suppression."""

import numpy as np
import numpy.typing as npt


def iou_matrix(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Intersection over union of every box with every other.

    Args:
        a: float32 [n, 4], x1, y1, x2, y2.
        b: float32 [m, 4].

    Returns:
        float32 [n, m], 0 to 1; 0 for boxes without area.
    """
    corners = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.clip(corners, 0.0, None).prod(axis=2)
    union = _areas(a)[:, None] + _areas(b)[None, :] - shared
    ratios: npt.NDArray[np.float32] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratios


def nms(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    iou: float,
    *,
    classes: npt.NDArray[np.int64] | None = None,
    limit: int | None = None,
) -> npt.NDArray[np.int64]:
    """Greedy non-maximum suppression: of boxes that overlap, the one with the highest score stays.

    Args:
        boxes: float32 [n, 4], x1, y1, x2, y2.
        scores: float32 [n].
        iou: boxes that overlap by more than this are one.
        classes: int64 [n]; only boxes of the same class suppress each other. None: all do.
        limit: the most boxes kept.

    Returns:
        int64 [k], indices of the boxes that stay, the highest score first; ties in the order given.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, areas = boxes[order], _areas(boxes)[order]
    x1, y1, x2, y2 = np.ascontiguousarray(ranked.T)
    kinds = np.zeros(len(order), np.int64) if classes is None else classes[order]
    # Of each class the ranks that are still there: what a box is compared with.
    left = {kind: np.flatnonzero(kinds == kind) for kind in np.unique(kinds).tolist()}
    gone = np.zeros(len(order), bool)
    kept: list[int] = []
    for rank, kind in enumerate(kinds.tolist()):
        if gone[rank]:
            continue
        if len(kept) == limit:
            break
        kept.append(rank)
        others = left[kind][1:]  # the first is this one
        wide = np.minimum(x2[rank], x2[others]) - np.maximum(x1[rank], x1[others])
        high = np.minimum(y2[rank], y2[others]) - np.maximum(y1[rank], y1[others])
        shared = np.maximum(wide, 0.0) * np.maximum(high, 0.0)
        union = areas[rank] + areas[others] - shared
        same = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0) > iou
        gone[others[same]] = True
        left[kind] = others[~same]
    return order[kept].astype(np.int64, copy=False)


def _areas(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    sides: npt.NDArray[np.float32] = np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None)
    areas: npt.NDArray[np.float32] = sides.prod(axis=1)
    return areas
