"""Seeded scenes of the ten objects: for the detector, crops of one object, and captioned scenes.

The same seed gives the same pixels with the same versions of NumPy and Pillow. Recipes draw from
:data:`TRAIN_SEEDS`, evaluation from :data:`HELD_OUT_SEEDS`, which also has layouts that training never sees.
"""

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from llama_pajamas_starter.vision.backgrounds import background, distractors
from llama_pajamas_starter.vision.objects import FLIPPED, PAINTERS, TILT
from llama_pajamas_starter.vision.pen import BLACK, WHITE, Colour, Pen
from llama_pajamas_starter.vocabulary import COLOURS, OBJECTS

#: Seeds of the scenes that the recipes train on.
TRAIN_SEEDS: Final = range(1_000_000_000)
#: Seeds of the scenes that every figure is measured on.
HELD_OUT_SEEDS: Final = range(1_000_000_000, 1_001_000_000)

COLOUR_NAMES: Final = tuple(COLOURS)


@dataclass(frozen=True)
class Scene:
    """A drawn image and what is in it.

    Attributes:
        image: (height, width, 3) uint8, RGB.
        boxes: (objects, 4) float32: x0, y0, x1, y1 in pixels of the image, clipped to it.
        labels: (objects,) int64, indices into ``vocabulary.OBJECTS``.
        colours: (objects,) int64, indices into :data:`COLOUR_NAMES`.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    colours: NDArray[np.int64]


@dataclass(frozen=True)
class Thing:
    """One object to draw: label and colour indices, centre and half extent in image pixels."""

    label: int
    colour: int
    x: float
    y: float
    half: float


def generator(seed: int, stream: int) -> np.random.Generator:
    """What one picture is drawn with; each kind of picture has a stream of its own."""
    return np.random.default_rng([stream, seed])


def _is_held_out(seed: int) -> bool:
    return seed in HELD_OUT_SEEDS


def _jittered(rng: np.random.Generator, colour: int) -> Colour:
    name = COLOUR_NAMES[colour]
    # A tint turns gray into another colour sooner than it turns red.
    tint = 4 if name == "gray" else 10
    values = np.array(COLOURS[name], dtype=np.float64) * rng.uniform(0.9, 1.08) + rng.uniform(-tint, tint, 3)
    red, green, blue = (int(v) for v in np.clip(values, 0, 255))
    return red, green, blue


def _paint(
    rng: np.random.Generator, canvas: Image.Image, draw: ImageDraw.ImageDraw, thing: Thing, supersampling: int
) -> tuple[float, float, float, float]:
    """Draws one object on a canvas; returns its box in image pixels, not clipped."""
    name = OBJECTS[thing.label]
    colour = _jittered(rng, thing.colour)
    column = min(max(int(thing.x * supersampling), 0), canvas.width - 1)
    row = min(max(int(thing.y * supersampling), 0), canvas.height - 1)
    behind = np.array(canvas.getpixel((column, row)), dtype=np.float64)
    outline: tuple[Colour, float] | None = None
    contrast = float(np.linalg.norm(behind - np.array(colour)))
    if contrast < 95 or rng.random() < 0.35:
        # An object in the colour of its background would have no visible edge.
        ink = BLACK if behind.mean() > 95 else WHITE
        outline = (ink, rng.uniform(0.05, 0.1))
    stretch = rng.uniform(0.9, 1.12)
    pen = Pen(
        draw,
        (thing.x, thing.y),
        (thing.half * stretch, thing.half / stretch),
        rng.uniform(-1, 1) * TILT[name] if rng.random() < 0.7 else 0.0,
        bool(name in FLIPPED and rng.random() < 0.5),
        supersampling,
        outline,
    )
    PAINTERS[thing.label](pen, rng, colour)
    return pen.box


def _camera(rng: np.random.Generator, image: Image.Image) -> NDArray[np.uint8]:
    """What a camera and a codec do to a picture: light, blur, noise, JPEG."""
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    pixels: NDArray[np.uint8] = np.asarray(image)
    if rng.random() < 0.5:
        table = np.arange(256, dtype=np.float32)[:, None] * rng.uniform(0.88, 1.1) * rng.uniform(0.97, 1.03, 3)
        table = np.clip(table + rng.uniform(-10, 10), 0, 255).astype(np.uint8)
        pixels = np.stack([table[:, channel][pixels[..., channel]] for channel in range(3)], axis=-1)
    if rng.random() < 0.25:
        noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(2, 10))
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        packed = io.BytesIO()
        Image.fromarray(pixels).save(packed, "JPEG", quality=int(rng.integers(45, 92)))
        pixels = np.asarray(Image.open(packed).convert("RGB"))
    return np.ascontiguousarray(pixels)


def render(
    rng: np.random.Generator,
    things: list[Thing],
    width: int,
    height: int,
    *,
    clutter: int = 0,
    supersampling: int = 2,
    camera: bool = True,
) -> Scene:
    """Draws things on a random background, the first one farthest back.

    Args:
        rng: decides style, background, light.
        things: what to draw.
        width: of the image, in pixels.
        height: of the image, in pixels.
        clutter: how many distractors lie behind the objects.
        supersampling: canvas pixels per image pixel along each axis.
        camera: whether blur, light, noise and JPEG artifacts are added.
    """
    size = (width * supersampling, height * supersampling)
    canvas = background(rng, size)
    draw = ImageDraw.Draw(canvas)
    distractors(rng, draw, size, clutter)
    boxes = [_paint(rng, canvas, draw, thing, supersampling) for thing in things]
    image = canvas.reduce(supersampling) if supersampling > 1 else canvas
    limits = np.array([width, height, width, height], dtype=np.float32)
    return Scene(
        image=_camera(rng, image) if camera else np.ascontiguousarray(np.asarray(image)),
        boxes=np.clip(np.array(boxes, dtype=np.float32).reshape(-1, 4), 0, limits),
        labels=np.array([thing.label for thing in things], dtype=np.int64),
        colours=np.array([thing.colour for thing in things], dtype=np.int64),
    )


def _overlap(first: Thing, second: Thing) -> float:
    """Shared area of two squares over the smaller one's."""
    reach = first.half + second.half
    across = reach - max(abs(first.x - second.x), abs(first.half - second.half))
    down = reach - max(abs(first.y - second.y), abs(first.half - second.half))
    if across <= 0 or down <= 0:
        return 0.0
    return across * down / (4 * min(first.half, second.half) ** 2)


def _scattered(rng: np.random.Generator, count: int, width: int, height: int) -> list[Thing]:
    longest = max(width, height)
    things: list[Thing] = []
    largest = 0.24 if count <= 3 else 0.17
    for _ in range(count):
        for _attempt in range(12):
            half = longest * rng.uniform(0.05, largest) * (0.75 if rng.random() < 0.4 else 1)
            half = min(max(half, 0.045 * longest), 0.46 * min(width, height))
            edge = half * (0.75 if rng.random() < 0.12 else 1.02)
            if 2 * edge >= min(width, height):
                continue
            thing = Thing(
                int(rng.integers(len(OBJECTS))),
                int(rng.integers(len(COLOUR_NAMES))),
                rng.uniform(edge, width - edge),
                rng.uniform(edge, height - edge),
                half,
            )
            if all(_overlap(thing, other) < 0.22 for other in things):
                things.append(thing)
                break
    return things


def _arranged(rng: np.random.Generator, width: int, height: int) -> list[Thing]:
    """Layouts kept for the held-out scenes: a grid, a row, a diagonal, a ring."""
    kind = rng.integers(4)
    if kind == 0:
        columns, rows = (3, 2) if width >= height else (2, 3)
        spots = [((c + 0.5) / columns, (r + 0.5) / rows) for r in range(rows) for c in range(columns)]
        half = 0.4 * min(width / columns, height / rows)
    elif kind == 1:
        count = int(rng.integers(3, 6))
        spots = [((i + 0.5) / count, rng.uniform(0.45, 0.55)) for i in range(count)]
        half = 0.42 * min(width / count, height)
    elif kind == 2:
        spots = [(0.18, 0.2), (0.4, 0.4), (0.6, 0.6), (0.82, 0.8)]
        half = 0.12 * min(width, height)
    else:
        turn = rng.uniform(0, 2 * np.pi)
        angles = turn + np.arange(6) * np.pi / 3
        spots = [(0.5 + 0.33 * np.cos(a), 0.5 + 0.33 * np.sin(a)) for a in angles]
        half = 0.13 * min(width, height)
    return [
        Thing(int(rng.integers(len(OBJECTS))), int(rng.integers(len(COLOUR_NAMES))), x * width, y * height, half)
        for x, y in spots
    ]


def scene(seed: int, width: int | None = None, height: int | None = None) -> Scene:
    """A scene of one to eight objects, mildly overlapping.

    Args:
        seed: from :data:`TRAIN_SEEDS` or :data:`HELD_OUT_SEEDS`.
        width: in pixels; by default the seed decides, 224 to 640.
        height: in pixels; by default the seed decides.
    """
    rng = generator(seed, 0)
    if width is None or height is None:
        longest = int(rng.integers(224, 641))
        shortest = int(longest * rng.choice([1.0, 0.75, 0.6667, 0.5625, rng.uniform(0.55, 1)]))
        width, height = (longest, shortest) if rng.random() < 0.65 else (shortest, longest)
    if _is_held_out(seed) and rng.random() < 0.3:
        things = _arranged(rng, width, height)
    else:
        things = _scattered(rng, int(rng.integers(1, 9)), width, height)
    return render(rng, things, width, height, clutter=int(rng.integers(0, 7)))


def single_object(seed: int, size: int | None = None) -> Scene:
    """A square image of one object, nearly filling it, perhaps cut a little at the edge."""
    rng = generator(seed, 1)
    if size is None:
        size = int(rng.integers(80, 257))
    half = size * rng.uniform(0.27, 0.5)
    slack = max(size / 2 - half, 0.03 * size)
    x, y = size / 2 + rng.uniform(-slack, slack, 2)
    thing = Thing(int(rng.integers(len(OBJECTS))), int(rng.integers(len(COLOUR_NAMES))), float(x), float(y), half)
    return render(rng, [thing], size, size, clutter=int(rng.integers(0, 4)))


def demo_scene(seed: int = 7, width: int = 480, height: int = 320) -> Scene:
    """A clean picture for demonstrations: three different objects in a row, each in another colour.

    Seed 7, the default, shows what the READMEs show; its contents are the same on every machine.
    """
    rng = generator(seed, 3)
    labels = rng.choice(len(OBJECTS), 3, replace=False)
    colours = rng.choice(len(COLOUR_NAMES), 3, replace=False)
    half = 0.26 * min(width / 2, height)
    things = [
        Thing(int(label), int(colour), width * (0.19 + 0.31 * place), height * rng.uniform(0.42, 0.58), half)
        for place, (label, colour) in enumerate(zip(labels, colours, strict=True))
    ]
    return render(rng, things, width, height, supersampling=4, camera=False)


def describe(drawn: Scene) -> list[str]:
    """Colour and name of each object, left to right: ``["red car", "blue house"]``."""
    order = np.argsort(drawn.boxes[:, 0])
    return [f"{COLOUR_NAMES[drawn.colours[i]]} {OBJECTS[drawn.labels[i]]}" for i in order]
