"""Losses: task-aligned assignment with CIoU, distribution focal and score losses; CLIP's without known duplicates.

Sources: TOOD (Feng et al. 2021, arXiv:2108.07755), CIoU (Zheng et al. 2019, arXiv:1911.08287), generalized focal loss
(Li et al. 2020, arXiv:2006.04388), CLIP (arXiv:2103.00020). The weights 7.5, 0.5 and 1.5 are YOLOv8's.
"""

import math

import torch
from networks import BINS, Detector
from torch import Tensor
from torch.nn import functional as F


def overlap(first: Tensor, second: Tensor, complete: bool = True) -> Tensor:
    """IoU, or CIoU, of corner boxes (..., 4), broadcast against each other."""
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    w1, h1 = (first[..., 2:] - first[..., :2]).clamp(min=1e-3).unbind(-1)
    w2, h2 = (second[..., 2:] - second[..., :2]).clamp(min=1e-3).unbind(-1)
    iou = shared / (w1 * h1 + w2 * h2 - shared + 1e-7)
    if not complete:
        return iou
    hull = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    diagonal = (hull * hull).sum(-1) + 1e-7
    offset = (first[..., :2] + first[..., 2:] - second[..., :2] - second[..., 2:]) / 2
    shape = 4 / math.pi**2 * (torch.atan(w2 / h2) - torch.atan(w1 / h1)) ** 2
    with torch.no_grad():
        share = shape / (1 - iou + shape + 1e-7)
    return iou - (offset * offset).sum(-1) / diagonal - share * shape


@torch.no_grad()
def assign(scores: Tensor, corners: Tensor, points: Tensor, truth: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which anchor answers for which true box.

    Args:
        scores: (batch, anchors, classes) after the sigmoid.
        corners: (batch, anchors, 4) predicted boxes.
        points: (anchors, 2) anchor centres.
        truth: (batch, boxes, 4); rows of absent boxes are ignored.
        labels: (batch, boxes), -1 where there is no box.

    Returns:
        (batch, anchors) index of the box, and (batch, anchors) weight, 0 where the anchor answers for none.
    """
    valid = labels >= 0
    inside = torch.cat([points[None, None] - truth[:, :, None, :2], truth[:, :, None, 2:] - points[None, None]], -1)
    inside = (inside.amin(-1) > 1e-6) & valid[..., None]
    index = labels.clamp(min=0)[..., None].expand(-1, -1, scores.shape[1])
    score = scores.transpose(1, 2).gather(1, index)
    iou = overlap(truth[:, :, None], corners[:, None]).clamp(min=0) * inside
    aligned = score.sqrt() * iou**6
    best = aligned.topk(10, -1).indices
    chosen = torch.zeros_like(inside).scatter_(-1, best, True) & inside & (aligned > 1e-12)
    # An anchor that several boxes want goes to the one that it overlaps most.
    owner = torch.where(chosen, iou + 1e-6, torch.zeros_like(iou)).argmax(1)
    chosen &= F.one_hot(owner, labels.shape[1]).transpose(1, 2).bool()
    aligned = aligned * chosen
    peak, reach = aligned.amax(-1, keepdim=True), (iou * chosen).amax(-1, keepdim=True)
    weight = (aligned * reach / (peak + 1e-12)).amax(1)
    return owner, weight


def detection_loss(model: Detector, output: tuple[Tensor, Tensor], truth: Tensor, labels: Tensor) -> Tensor:
    """The detector's loss for true boxes (batch, boxes, 4) in pixels and labels (batch, boxes), -1 for none."""
    distribution, logits = output[0].float(), output[1].float()
    corners = model.corners(distribution)
    owner, weight = assign(logits.sigmoid(), corners.detach(), model.points, truth, labels)
    label = labels.clamp(min=0).gather(1, owner)
    target = F.one_hot(label, model.classes) * weight[..., None]
    total = weight.sum().clamp(min=1)
    score_loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / total
    goal = truth.gather(1, owner[..., None].expand(-1, -1, 4))
    box_loss = ((1 - overlap(corners, goal)) * weight).sum() / total
    reach = torch.cat([model.points - goal[..., :2], goal[..., 2:] - model.points], -1) / model.strides[:, None]
    reach = reach.clamp(0, BINS - 1.01)
    low = reach.floor().long()
    share = reach - low
    logs = distribution.view(*distribution.shape[:2], 4, BINS).log_softmax(-1)
    near = logs.gather(-1, low[..., None])[..., 0] * (1 - share)
    far = logs.gather(-1, low[..., None] + 1)[..., 0] * share
    spread_loss = (-(near + far).mean(-1) * weight).sum() / total
    return 7.5 * box_loss + 0.5 * score_loss + 1.5 * spread_loss


def contrastive_loss(image: Tensor, text: Tensor, temperature: Tensor, content: Tensor, told: Tensor) -> Tensor:
    """CLIP's loss; a caption that happens to be true of another image of the batch is no negative for it.

    Args:
        image: (batch, width) of length one.
        text: (batch, width) of length one.
        temperature: logarithm of the scale.
        content: (batch, facts) what each image shows.
        told: (batch, facts) what each caption tells, -1 where it is silent.
    """
    logits = temperature.clamp(max=4.6).exp() * image @ text.T
    fits = ((content[:, None] == told[None]) | (told[None] == -1)).all(-1)
    fits.fill_diagonal_(False)
    logits = logits.masked_fill(fits, -1e4)
    goal = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, goal) + F.cross_entropy(logits.T, goal)) / 2
