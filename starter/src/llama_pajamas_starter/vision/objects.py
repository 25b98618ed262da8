"""How each of the ten objects is drawn: several styles per object, all recognizable at 24 pixels."""

from collections.abc import Callable
from typing import Final

import numpy as np

from llama_pajamas_starter.vision.pen import BLACK, WHITE, Colour, Pen, mix
from llama_pajamas_starter.vocabulary import OBJECTS

Painter = Callable[[Pen, np.random.Generator, Colour], None]

_WOOD: Final[tuple[Colour, ...]] = ((110, 72, 42), (92, 60, 38), (128, 88, 56))
_GLASS: Final[tuple[Colour, ...]] = ((200, 226, 240), (222, 234, 240), (60, 72, 88), (245, 236, 190))
_LEAF: Final[tuple[Colour, ...]] = ((62, 130, 58), (44, 110, 60), (84, 140, 70))
_ROOF: Final[tuple[Colour, ...]] = ((92, 62, 50), (70, 70, 76), (120, 78, 60), (50, 46, 50))


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[rng.integers(len(colours))]


def _ball(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    style = rng.integers(5)
    pen.ellipse(0, 0, 1, 1, colour, outlined=True)
    if style == 1:
        pen.ellipse(-0.35, -0.38, 0.24, 0.17, mix(colour, WHITE, 0.75), tilt=-35)
    elif style == 2:
        turn = int(rng.integers(60))
        for start in range(turn, turn + 360, 120):
            pen.sector(0, 0, 0.97, start, start + 60, WHITE)
        pen.ellipse(0, 0, 0.16, 0.16, mix(colour, BLACK, 0.2))
    elif style == 3:
        seam = mix(colour, BLACK, 0.65)
        pen.line([(-0.97, 0), (0.97, 0)], 0.09, seam)
        pen.line([(0, -0.97), (0, 0.97)], 0.09, seam)
        bow = np.linspace(-0.72, 0.72, 9)
        pen.line(np.stack([0.42 + 0.55 * bow**2, bow], axis=1), 0.09, seam)
        pen.line(np.stack([-0.42 - 0.55 * bow**2, bow], axis=1), 0.09, seam)
    elif style == 4:
        height = rng.uniform(0.18, 0.3)
        edge = np.sqrt(1 - height**2) * 0.98
        pen.rectangle(-edge, -height, edge, height, WHITE)
        pen.ellipse(-0.3, -0.55, 0.2, 0.12, mix(colour, WHITE, 0.6), tilt=-25)


def _box(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    style = rng.integers(5)
    dark, light = mix(colour, BLACK, 0.35), mix(colour, WHITE, 0.35)
    if style == 0:
        depth = rng.uniform(0.45, 0.62)
        pen.polygon([(0, -1), (0.9, -depth), (0, -0.05), (-0.9, -depth)], light, outlined=True)
        pen.polygon([(-0.9, -depth), (0, -0.05), (0, 1), (-0.9, depth)], colour, outlined=True)
        pen.polygon([(0.9, -depth), (0, -0.05), (0, 1), (0.9, depth)], dark, outlined=True)
    elif style == 1:
        pen.rectangle(-0.9, -0.8, 0.9, 0.8, colour, outlined=True)
        pen.rectangle(-0.18, -0.8, 0.18, 0.8, light)
        pen.line([(-0.9, -0.42), (0.9, -0.42)], 0.07, dark)
    elif style == 2:
        ribbon = WHITE if rng.random() < 0.6 else mix(colour, BLACK, 0.6)
        pen.rectangle(-0.85, -0.5, 0.85, 0.95, colour, outlined=True)
        pen.rectangle(-0.95, -0.72, 0.95, -0.4, mix(colour, BLACK, 0.18), outlined=True)
        pen.rectangle(-0.14, -0.72, 0.14, 0.95, ribbon)
        pen.ellipse(-0.28, -0.84, 0.28, 0.14, ribbon, tilt=20)
        pen.ellipse(0.28, -0.84, 0.28, 0.14, ribbon, tilt=-20)
    elif style == 3:
        pen.polygon([(-0.75, -0.35), (0.75, -0.35), (0.55, -0.6), (-0.55, -0.6)], mix(colour, BLACK, 0.6))
        pen.polygon([(-0.75, -0.35), (-0.55, -0.6), (-0.9, -0.85), (-1.05, -0.55)], light, outlined=True)
        pen.polygon([(0.75, -0.35), (0.55, -0.6), (0.9, -0.85), (1.05, -0.55)], light, outlined=True)
        pen.rectangle(-0.75, -0.35, 0.75, 0.9, colour, outlined=True)
        pen.rectangle(-0.3, 0.35, 0.3, 0.62, mix(colour, WHITE, 0.7))
    else:
        pen.rectangle(-0.9, -0.9, 0.9, 0.9, colour, outlined=True)
        pen.line([(-0.72, -0.72), (0.72, 0.72)], 0.16, dark)
        if rng.random() < 0.5:
            pen.line([(0.72, -0.72), (-0.72, 0.72)], 0.16, dark)
        frame = [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82), (-0.82, -0.82)]
        pen.line(frame, 0.15, mix(colour, BLACK, 0.5))


def _star(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    style = rng.integers(4)
    count = int(rng.choice([5, 5, 5, 5, 6, 4]))
    inner = rng.uniform(0.36, 0.5)
    angles = np.radians(np.arange(2 * count) * 180 / count - 90)
    radii = np.where(np.arange(2 * count) % 2 == 0, 1.0, inner)
    points = np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)
    pen.polygon(points, colour, outlined=True)
    if style == 1:
        shade = mix(colour, BLACK, 0.3)
        for index in range(0, 2 * count, 2):
            pen.polygon([(0, 0), tuple(points[index]), tuple(points[index + 1])], shade)
    elif style == 2:
        pen.polygon(points * 0.55, mix(colour, WHITE, 0.55))
    elif style == 3:
        pen.line(np.concatenate([points, points[:2]]) * 0.93, 0.1, mix(colour, BLACK, 0.5))


def _tree(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    style = rng.integers(4)
    wood = _pick(rng, _WOOD)
    half = rng.uniform(0.1, 0.17)
    pen.rectangle(-half, 0.2, half, 1, wood, outlined=True)
    dark = mix(colour, BLACK, 0.22)
    if style == 0:
        layers = int(rng.integers(2, 4))
        for layer in reversed(range(layers)):
            top = -1 + layer * 1.2 / layers
            bottom = top + (1.5 if layers == 2 else 0.95)
            width = 0.42 + 0.38 * (layer + 1) / layers
            fill = colour if layer % 2 == 0 else dark
            pen.polygon([(0, top), (width, min(bottom, 0.6)), (-width, min(bottom, 0.6))], fill, outlined=True)
    elif style == 1:
        pen.ellipse(0, -0.3, 0.74, 0.7, colour, outlined=True)
        pen.ellipse(-0.2, -0.48, 0.32, 0.26, mix(colour, WHITE, 0.25))
    elif style == 2:
        for x, y, radius in ((-0.42, -0.1, 0.45), (0.42, -0.1, 0.45), (0, -0.5, 0.5)):
            pen.ellipse(x, y, radius, radius, colour, outlined=True)
        pen.ellipse(0, -0.16, 0.4, 0.34, colour)
    else:
        pen.line([(0, 0.5), (0.28, 0.12)], 0.09, wood)
        pen.ellipse(0, -0.28, 0.5, 0.72, colour, outlined=True)
        pen.ellipse(0.14, -0.2, 0.24, 0.45, dark)
    if style in (1, 2) and rng.random() < 0.4:
        fruit = WHITE if rng.random() < 0.5 else mix(colour, BLACK, 0.6)
        for x, y in ((-0.3, -0.2), (0.25, -0.1), (0.05, -0.55)):
            pen.ellipse(x, y, 0.09, 0.09, fruit)


def _house(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    style = rng.integers(4)
    roof = mix(colour, BLACK, 0.5) if rng.random() < 0.5 else _pick(rng, _ROOF)
    glass, door = _pick(rng, _GLASS), _pick(rng, _WOOD)
    if rng.random() < 0.5:
        pen.rectangle(0.38, -0.92, 0.6, -0.3, mix(roof, WHITE, 0.15), outlined=True)
    if style == 3:
        pen.rectangle(-0.6, -0.45, 0.6, 1, colour, outlined=True)
        pen.polygon([(-0.78, -0.4), (0, -1), (0.78, -0.4)], roof, outlined=True)
        windows = [(-0.28, -0.1), (0.28, -0.1), (-0.28, 0.35), (0.28, 0.35)]
        pen.rectangle(-0.14, 0.6, 0.14, 1, door)
    else:
        pen.rectangle(-0.82, -0.1, 0.82, 0.95, colour, outlined=True)
        if style == 0:
            pen.polygon([(-1, -0.08), (0, -0.95), (1, -0.08)], roof, outlined=True)
        elif style == 1:
            pen.polygon([(-1, -0.08), (-0.6, -0.75), (0.6, -0.75), (1, -0.08)], roof, outlined=True)
        else:
            pen.polygon([(-0.82, -0.08), (0, -0.95), (0.82, -0.08)], colour, outlined=True)
            pen.line([(-0.98, 0.02), (0, -0.92), (0.98, 0.02)], 0.16, roof)
        left = rng.random() < 0.5
        place = -0.42 if left else 0.0
        pen.rectangle(place - 0.18, 0.32, place + 0.18, 0.95, door)
        windows = [(0.38, 0.35)] if left else [(-0.5, 0.35), (0.5, 0.35)]
    for x, y in windows:
        pen.rectangle(x - 0.18, y - 0.17, x + 0.18, y + 0.17, glass)
        pen.line([(x, y - 0.17), (x, y + 0.17)], 0.05, mix(roof, BLACK, 0.2))


def _car(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    style = rng.integers(4)
    glass = _pick(rng, _GLASS[:3])
    if style == 0:
        pen.polygon([(-0.62, -0.1), (-0.36, -0.55), (0.3, -0.55), (0.6, -0.1)], colour, outlined=True)
        pen.polygon([(-0.48, -0.1), (-0.29, -0.44), (-0.05, -0.44), (-0.05, -0.1)], glass)
        pen.polygon([(0.05, -0.1), (0.05, -0.44), (0.25, -0.44), (0.46, -0.1)], glass)
        body = [(-1, 0.3), (-1, 0.0), (-0.9, -0.12), (0.75, -0.12), (1, 0.05), (1, 0.3)]
    elif style == 1:
        pen.polygon([(-0.95, -0.1), (-0.9, -0.62), (0.5, -0.62), (0.78, -0.1)], colour, outlined=True)
        for left in (-0.8, -0.36):
            pen.rectangle(left, -0.5, left + 0.34, -0.12, glass)
        pen.polygon([(0.1, -0.12), (0.1, -0.5), (0.43, -0.5), (0.62, -0.12)], glass)
        body = [(-0.98, 0.32), (-0.98, -0.12), (0.8, -0.12), (1, 0.02), (1, 0.32)]
    elif style == 2:
        pen.polygon([(-0.05, -0.1), (0.05, -0.58), (0.5, -0.58), (0.68, -0.1)], colour, outlined=True)
        pen.polygon([(0.06, -0.12), (0.13, -0.47), (0.44, -0.47), (0.56, -0.12)], glass)
        body = [(-1, 0.3), (-1, -0.14), (0.7, -0.12), (1, 0.0), (1, 0.3)]
    else:
        pen.ellipse(-0.05, 0, 0.68, 0.62, colour, outlined=True, start=180, end=360)
        pen.ellipse(-0.05, -0.06, 0.54, 0.46, glass, start=180, end=360)
        pen.line([(-0.05, -0.56), (-0.05, 0)], 0.1, colour)
        body = [(-1, 0.3), (-0.98, 0.08), (-0.8, -0.06), (0.75, -0.06), (0.97, 0.08), (1, 0.3)]
    pen.polygon(body, colour, outlined=True)
    if rng.random() < 0.5:
        pen.line([(-0.9, 0.12), (0.9, 0.12)], 0.05, mix(colour, BLACK, 0.4))
    pen.ellipse(0.93, 0.08, 0.06, 0.07, (250, 240, 180))
    rim = _pick(rng, ((190, 190, 195), (230, 230, 230), (120, 120, 125)))
    for x in (-0.55, 0.56):
        pen.ellipse(x, 0.32, 0.23, 0.23, BLACK)
        pen.ellipse(x, 0.32, 0.1, 0.1, rim)


def _fish(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    style = rng.integers(4)
    dark, light = mix(colour, BLACK, 0.3), mix(colour, WHITE, 0.45)
    height = rng.uniform(0.38, 0.6)
    spread = rng.uniform(0.38, 0.55)
    pen.polygon([(-0.5, 0), (-1, -spread), (-0.85, 0), (-1, spread)], dark, outlined=True)
    pen.polygon([(-0.2, -height * 0.8), (0.05, -height - 0.25), (0.4, -height * 0.75)], dark, outlined=True)
    if style == 3:
        bend = np.linspace(-1, 1, 15)
        upper = np.stack([bend * 0.78 + 0.2, -height * (1 - bend**2)], axis=1)
        lower = np.stack([bend[::-1] * 0.78 + 0.2, height * (1 - bend[::-1] ** 2)], axis=1)
        pen.polygon(np.concatenate([upper, lower[1:-1]]), colour, outlined=True)
    else:
        pen.ellipse(0.2, 0, 0.78, height, colour, outlined=True)
    if style == 1:
        for x in (-0.18, 0.12):
            reach = height * 0.9 * np.sqrt(max(0.1, 1 - ((x - 0.2) / 0.78) ** 2))
            pen.line([(x, -reach), (x, reach)], 0.13, WHITE if rng.random() < 0.5 else dark)
    elif style == 2:
        pen.ellipse(0.2, height * 0.45, 0.5, height * 0.42, light)
    pen.polygon([(0.05, 0.05), (-0.25, 0.3), (0.2, 0.22)], dark)
    pen.ellipse(0.62, -height * 0.25, 0.13, 0.13, WHITE)
    pen.ellipse(0.65, -height * 0.25, 0.065, 0.065, BLACK)
    if rng.random() < 0.5:
        pen.line([(0.8, height * 0.3), (0.93, height * 0.15)], 0.05, BLACK)


def _flower(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    count = int(rng.integers(5, 9))
    stem = rng.random() < 0.7
    y = -0.42 if stem else 0.0
    size = 0.58 if stem else 0.98
    leaf = _pick(rng, _LEAF)
    if stem:
        pen.line([(0, y), (rng.uniform(-0.12, 0.12), 0.3), (0, 1)], 0.11, leaf)
        pen.ellipse(0.26, 0.5, 0.3, 0.11, leaf, tilt=-35)
        if rng.random() < 0.6:
            pen.ellipse(-0.26, 0.65, 0.3, 0.11, leaf, tilt=35)
    turn = rng.uniform(0, 360)
    width = rng.uniform(0.75, 1.0) * np.sin(np.pi / count) * 0.62
    shade = mix(colour, BLACK, 0.15)
    for petal in range(count):
        angle = turn + petal * 360 / count
        x, dy = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        fill = shade if petal % 2 and count % 2 == 0 else colour
        pen.ellipse(x * 0.6 * size, y + dy * 0.6 * size, 0.4 * size, width * size, fill, outlined=True, tilt=angle)
    heart: Colour = _pick(rng, ((250, 205, 60), (250, 205, 60), (120, 78, 40), WHITE, (70, 50, 40)))
    if sum(abs(a - b) for a, b in zip(heart, colour, strict=True)) < 120:
        heart = (110, 70, 40)
    pen.ellipse(0, y, 0.3 * size, 0.3 * size, heart)


def _clock(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    style = rng.integers(4)
    face, ink = mix(WHITE, colour, 0.08), BLACK
    radius = 0.76
    if style == 0:
        pen.ellipse(0, 0, 1, 1, colour, outlined=True)
    elif style == 1:
        pen.rectangle(-0.95, -0.95, 0.95, 0.95, colour, outlined=True)
    elif style == 2:
        radius = 0.62
        for side in (-1, 1):
            pen.line([(side * 0.4, 0.5), (side * 0.62, 0.98)], 0.14, mix(colour, BLACK, 0.5))
            pen.ellipse(side * 0.5, -0.72, 0.3, 0.26, mix(colour, BLACK, 0.25), outlined=True, tilt=side * 35)
        pen.ellipse(0, 0.05, 0.82, 0.82, colour, outlined=True)
    else:
        pen.ellipse(0, 0, 1, 1, mix(colour, BLACK, 0.55), outlined=True)
        face, ink, radius = colour, WHITE, 0.86
    y = 0.05 if style == 2 else 0.0
    pen.ellipse(0, y, radius, radius, face)
    for hour in range(0, 12, int(rng.choice([1, 3]))):
        angle = np.radians(hour * 30)
        way = np.array([np.sin(angle), -np.cos(angle)])
        pen.line(np.array([way * radius * 0.78, way * radius * 0.93]) + (0, y), 0.07, ink)
    hours, minute = rng.uniform(0, 12), int(rng.integers(60))
    for angle, length, width in ((hours * 30, 0.45, 0.12), (minute * 6, 0.72, 0.085)):
        tip = (np.sin(np.radians(angle)) * radius * length, y - np.cos(np.radians(angle)) * radius * length)
        pen.line([(0, y), tip], width, ink)
    pen.ellipse(0, y, 0.08, 0.08, ink)


def _boat(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    style = rng.integers(4)
    cloth = _pick(rng, (WHITE, (240, 232, 205), (225, 230, 236)))
    if style in (0, 1):
        pen.line([(0, -1), (0, 0.4)], 0.08, _pick(rng, _WOOD))
        sail = mix(colour, WHITE, 0.15) if rng.random() < 0.3 else cloth
        pen.polygon([(0.06, -0.95), (0.72, 0.22), (0.06, 0.22)], sail, outlined=True)
        if style == 0:
            pen.polygon([(-0.06, -0.8), (-0.06, 0.22), (-0.58, 0.22)], mix(sail, BLACK, 0.1), outlined=True)
    elif style == 2:
        pen.rectangle(-0.05, -0.7, 0.2, -0.1, mix(colour, BLACK, 0.4), outlined=True)
        pen.rectangle(-0.05, -0.7, 0.2, -0.52, WHITE)
        pen.rectangle(-0.5, -0.15, 0.5, 0.4, cloth, outlined=True)
        for x in (-0.28, 0.02, 0.3):
            pen.ellipse(x, 0.12, 0.09, 0.09, (70, 90, 120))
    else:
        pen.polygon([(-0.35, 0.4), (-0.3, -0.3), (0.25, -0.3), (0.4, 0.4)], cloth, outlined=True)
        pen.rectangle(-0.15, -0.15, 0.2, 0.1, (70, 90, 120))
        pen.line([(-0.45, 0.4), (-0.45, -0.65)], 0.07, _pick(rng, _WOOD))
        pen.polygon([(-0.45, -0.65), (-0.8, -0.52), (-0.45, -0.4)], colour)
    pen.polygon([(-1, 0.32), (1, 0.32), (0.68, 0.85), (-0.65, 0.85)], colour, outlined=True)
    if rng.random() < 0.5:
        pen.line([(-0.9, 0.44), (0.9, 0.44)], 0.08, WHITE)


#: One painter per object, in the order of :data:`~llama_pajamas_starter.vocabulary.OBJECTS`.
PAINTERS: Final[tuple[Painter, ...]] = (_ball, _box, _star, _tree, _house, _car, _fish, _flower, _clock, _boat)

#: Half the range of the rotation in degrees: what stands on the ground stays upright.
TILT: Final = dict(zip(OBJECTS, (180, 20, 40, 8, 8, 14, 30, 20, 25, 14), strict=True))

#: Objects that look left as often as right.
FLIPPED: Final = frozenset({"car", "fish", "boat", "house", "tree", "flower", "box"})
