"""What lies behind the objects, from a plain colour to noise, and distractors that are no object."""

from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from llama_pajamas_starter.vision.pen import Colour, mix

_SKY: Final[tuple[Colour, ...]] = ((186, 216, 240), (214, 228, 240), (240, 214, 190), (38, 44, 66), (170, 184, 198))
_GROUND: Final[tuple[Colour, ...]] = ((150, 176, 118), (196, 180, 146), (120, 124, 120), (96, 116, 84), (222, 216, 206))


def _tone(rng: np.random.Generator) -> Colour:
    """A pale, dark or muted colour: backgrounds stay less saturated than objects."""
    kind = rng.random()
    if kind < 0.55:
        level, spread = rng.uniform(185, 245), 22
    elif kind < 0.75:
        level, spread = rng.uniform(25, 75), 18
    else:
        level, spread = rng.uniform(90, 180), 26
    red, green, blue = (int(v) for v in np.clip(level + rng.uniform(-spread, spread, 3), 0, 255))
    return red, green, blue


def _grid(rng: np.random.Generator, size: tuple[int, int], cells: int, spread: float) -> Image.Image:
    base = np.array(_tone(rng), dtype=np.float32)
    values = base + rng.normal(0, spread, (cells, cells, 1)) + rng.normal(0, spread / 3, (cells, cells, 3))
    small = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    return small.resize(size, Image.Resampling.BILINEAR)


def background(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Draws a background.

    Args:
        rng: decides which.
        size: width and height in pixels.

    Returns:
        An RGB image.
    """
    kind = rng.integers(7)
    width, height = size
    if kind == 0:
        return Image.new("RGB", size, _tone(rng))
    if kind == 1:
        first, second = _tone(rng), _tone(rng)
        corners = np.array([[first, mix(first, second, rng.random())], [mix(first, second, 0.5), second]], np.uint8)
        return Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR)
    if kind == 2:
        sky, ground = _SKY[rng.integers(len(_SKY))], _GROUND[rng.integers(len(_GROUND))]
        image = Image.new("RGB", size, sky)
        horizon = rng.uniform(0.4, 0.8) * height
        slope = rng.uniform(-0.08, 0.08) * height
        hills = [(0.0, horizon), (width / 2, horizon + slope), (float(width), horizon - slope)]
        draw = ImageDraw.Draw(image)
        draw.polygon([*hills, (width, height), (0, height)], fill=ground)
        return image
    if kind == 3:
        return _grid(rng, size, int(rng.integers(4, 14)), rng.uniform(6, 20))
    if kind == 4:
        return _grid(rng, size, int(rng.integers(40, 110)), rng.uniform(5, 16))
    base = _tone(rng)
    other = mix(base, _tone(rng), rng.uniform(0.15, 0.4))
    image = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(image)
    step = rng.uniform(0.05, 0.16) * max(size)
    if kind == 5:
        shift = rng.uniform(-1, 1) * height
        for x in np.arange(-abs(shift), width + abs(shift), 2 * step):
            draw.polygon([(x, 0), (x + step, 0), (x + step + shift, height), (x + shift, height)], fill=other)
    else:
        for row, y in enumerate(np.arange(0, height, step)):
            for x in np.arange(step * (row % 2), width, 2 * step):
                draw.rectangle((x, y, x + step, y + step), fill=other)
    return image


def distractors(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: tuple[int, int], count: int) -> None:
    """Draws lines, dots, slabs and shapeless blobs on a canvas of the given width and height."""
    width, height = size
    reach = max(size)
    for _ in range(count):
        kind = rng.integers(4)
        colour = tuple(int(v) for v in rng.integers(20, 236, 3))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        if kind == 0:
            bend = rng.normal(0, reach * 0.2, (int(rng.integers(2, 4)), 2)).cumsum(axis=0) + (x, y)
            draw.line(
                [(x, y), *map(tuple, bend.tolist())], fill=colour, width=max(1, int(reach * rng.uniform(0.003, 0.012)))
            )
        elif kind == 1:
            spots = rng.normal(0, reach * 0.06, (int(rng.integers(3, 9)), 2)) + (x, y)
            radius = reach * rng.uniform(0.003, 0.008)
            for a, b in spots:
                draw.ellipse((a - radius, b - radius, a + radius, b + radius), fill=colour)
        elif kind == 2:
            length, thick = (reach * rng.uniform(0.06, 0.3), reach * rng.uniform(0.008, 0.03))
            turn = rng.uniform(0, np.pi)
            along, across = (
                np.array([np.cos(turn), np.sin(turn)]) * length,
                np.array([-np.sin(turn), np.cos(turn)]) * thick,
            )
            corners = [(x, y) + across, (x, y) + along + across, (x, y) + along, np.array((x, y))]
            draw.polygon([tuple(corner) for corner in corners], fill=colour)
        else:
            points = int(rng.integers(7, 12))
            angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
            radii = reach * rng.uniform(0.02, 0.06) * rng.uniform(0.45, 1.3, points)
            stretch = rng.uniform(1.2, 2.2)
            blob = np.stack([np.cos(angles) * radii * stretch, np.sin(angles) * radii], axis=1) + (x, y)
            draw.polygon([tuple(point) for point in blob], fill=colour)
