"""Augmentation of whole batches on the device: zoom, shift, turn, mirror, light, noise."""

import torch
from torch import Tensor
from torch.nn import functional as F

GRAY = 114 / 255


def _uniform(low: float, high: float, *shape: int, device: torch.device) -> Tensor:
    return torch.rand(*shape, device=device) * (high - low) + low


def _warp(images: Tensor, zoom_x: Tensor, zoom_y: Tensor, shift: Tensor, turn: Tensor | None = None) -> Tensor:
    """Output pixel p shows input pixel (p - shift) / zoom, in coordinates from -1 to 1; gray where there is none."""
    count = len(images)
    matrix = torch.zeros(count, 2, 3, device=images.device)
    cosine = torch.ones(count, device=images.device) if turn is None else torch.cos(turn)
    sine = torch.zeros(count, device=images.device) if turn is None else torch.sin(turn)
    matrix[:, 0, 0], matrix[:, 0, 1] = cosine / zoom_x, -sine / zoom_x
    matrix[:, 1, 0], matrix[:, 1, 1] = sine / zoom_y, cosine / zoom_y
    matrix[:, :, 2] = -(matrix[:, :, :2] @ shift[..., None])[..., 0]
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images - GRAY, grid, align_corners=False) + GRAY


def _light(images: Tensor) -> Tensor:
    device, count = images.device, len(images)
    gain = _uniform(0.85, 1.12, count, 1, 1, 1, device=device) * _uniform(0.97, 1.03, count, 3, 1, 1, device=device)
    images = images * gain + _uniform(-0.05, 0.05, count, 1, 1, 1, device=device)
    strength = _uniform(0, 0.04, count, 1, 1, 1, device=device) * (torch.rand(count, 1, 1, 1, device=device) < 0.25)
    return (images + torch.randn_like(images) * strength).clamp(0, 1)


def detection(images: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Zooms 0.5 to 1.3 times, shifts, mirrors; boxes (batch, boxes, 4) in pixels follow, lost ones get label -1."""
    count, size, device = len(images), images.shape[-1], images.device
    plain = torch.rand(count, device=device) < 0.3
    zoom = torch.where(plain, torch.ones_like(plain, dtype=torch.float32), _uniform(0.5, 1.3, count, device=device))
    room = (1 - zoom).abs()[:, None]
    shift = _uniform(-1, 1, count, 2, device=device) * room
    mirror = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    images = _warp(images, zoom * mirror, zoom, shift)
    places = boxes / size * 2 - 1
    x = places[..., 0::2] * (zoom * mirror)[:, None, None] + shift[:, None, :1]
    y = places[..., 1::2] * zoom[:, None, None] + shift[:, None, 1:]
    moved = torch.stack([x.amin(-1), y.amin(-1), x.amax(-1), y.amax(-1)], -1)
    moved = (moved + 1) / 2 * size
    kept = moved.clamp(0, size)
    area = (moved[..., 2:] - moved[..., :2]).prod(-1)
    sides = kept[..., 2:] - kept[..., :2]
    lost = (sides.prod(-1) < 0.45 * area) | (sides.amin(-1) < 7)
    return _light(images), kept, torch.where(lost, -1, labels)


def whole(images: Tensor, mirror: bool, low: float, high: float, shift: float, turn: float) -> Tensor:
    """Zooms between low and high with a little stretch, shifts, turns (radians), perhaps mirrors."""
    count, device = len(images), images.device
    zoom = _uniform(low, high, count, device=device)
    stretch = _uniform(0.88, 1.14, count, device=device)
    flip = (
        torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0) if mirror else torch.ones(count, device=device)
    )
    moved = _uniform(-shift, shift, count, 2, device=device)
    angle = _uniform(-turn, turn, count, device=device)
    return _light(_warp(images, zoom * stretch * flip, zoom / stretch, moved, angle))
