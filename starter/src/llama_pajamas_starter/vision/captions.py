"""Scenes with a caption, for the image/text embedder: one object, several of a kind, or two and how they lie."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from llama_pajamas_starter.vision.scenes import COLOUR_NAMES, Scene, Thing, generator, render
from llama_pajamas_starter.vocabulary import OBJECTS, RELATIONS, plural, spoken

#: What a caption can stand in; the first is the caption alone.
TEMPLATES: Final = ("{}", "a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}")

_OPPOSITE: Final = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class Content:
    """What a captioned scene shows; two scenes with equal content deserve the same captions.

    Attributes:
        count: how many objects of the first kind, 1 to 4.
        label: index into ``vocabulary.OBJECTS``.
        colour: index into ``COLOUR_NAMES``.
        relation: "left of" or "above", how the first lies to the second; None without a second object.
        other_label: of the second object, or None.
        other_colour: of the second object, or None.
    """

    count: int
    label: int
    colour: int
    relation: str | None = None
    other_label: int | None = None
    other_colour: int | None = None


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _noun(label: int, colour: int) -> str:
    return f"{COLOUR_NAMES[colour]} {OBJECTS[label]}"


def caption(content: Content, *, reverse: bool = False) -> str:
    """The caption of some content, such as "two green fish" or "a red car left of a blue house".

    Args:
        content: what to describe.
        reverse: tells a relation from the other side: "a blue house right of a red car".
    """
    if content.count > 1:
        return f"{spoken(content.count)} {COLOUR_NAMES[content.colour]} {plural(OBJECTS[content.label])}"
    first = _article(_noun(content.label, content.colour))
    if content.relation is None or content.other_label is None or content.other_colour is None:
        return first
    second = _article(_noun(content.other_label, content.other_colour))
    if reverse:
        return f"{second} {_OPPOSITE[content.relation]} {first}"
    return f"{first} {content.relation} {second}"


def random_content(rng: np.random.Generator) -> Content:
    """Draws some content: 30 % one object, 25 % several, 45 % two and their relation."""
    label, other = (int(v) for v in rng.integers(len(OBJECTS), size=2))
    colour, tint = (int(v) for v in rng.integers(len(COLOUR_NAMES), size=2))
    kind = rng.random()
    if kind < 0.3:
        return Content(1, label, colour)
    if kind < 0.55:
        return Content(int(rng.integers(2, 5)), label, colour)
    if rng.random() < 0.35:
        # Pairs that differ in one thing only are the hardest to tell apart, so they come more often than by chance.
        other, tint = (label, tint) if rng.random() < 0.5 else (other, colour)
    if (other, tint) == (label, colour):
        other = (label + 1) % len(OBJECTS)
    return Content(1, label, colour, RELATIONS[0] if rng.random() < 0.5 else RELATIONS[2], other, tint)


def captioned(seed: int, content: Content | None = None, size: int | None = None) -> tuple[Scene, Content]:
    """Draws a scene for a caption.

    Args:
        seed: from ``TRAIN_SEEDS`` or ``HELD_OUT_SEEDS``.
        content: what to draw; by default the seed decides.
        size: width and height in pixels; by default the seed decides, 112 to 320, not always square.
    """
    rng = generator(seed, 2)
    drawn = random_content(rng)
    content = drawn if content is None else content
    if size is None:
        width = int(rng.integers(112, 321))
        height = int(width * rng.uniform(0.75, 1.33))
    else:
        width = height = size
    return render(rng, _things(rng, content, width, height), width, height, clutter=int(rng.integers(0, 3))), content


def _things(rng: np.random.Generator, content: Content, width: int, height: int) -> list[Thing]:
    small = min(width, height)
    if content.count > 1:
        spots = _apart(rng, content.count, width, height)
        half = small * rng.uniform(0.15, 0.19)
        return [Thing(content.label, content.colour, x, y, half) for x, y in spots]
    if content.relation is None or content.other_label is None or content.other_colour is None:
        half = small * rng.uniform(0.18, 0.44)
        x, y = (rng.uniform(half, side - half) for side in (width, height))
        return [Thing(content.label, content.colour, x, y, half)]
    first, second = (small * rng.uniform(0.15, 0.22) for _ in range(2))
    along = width if content.relation == "left of" else height
    across = height if content.relation == "left of" else width
    begin = rng.uniform(first, max(along - 2.1 * second - first, first + 1))
    end = rng.uniform(min(begin + first + second, along - second - 1), along - second)
    middle = rng.uniform(second, across - second)
    # The second lies clearly to one side: the offset across is at most half the offset along.
    drift = 0.5 * (end - begin)
    beside = float(np.clip(middle + rng.uniform(-drift, drift), first, across - first))
    places = ((begin, beside), (end, middle))
    if content.relation != "left of":
        places = ((beside, begin), (middle, end))
    return [
        Thing(content.label, content.colour, *places[0], first),
        Thing(content.other_label, content.other_colour, *places[1], second),
    ]


def _apart(rng: np.random.Generator, count: int, width: int, height: int) -> list[tuple[float, float]]:
    """Places that keep a distance: one cell of a 2 x 2 grid each, jittered."""
    cells = rng.permutation(4)[:count]
    return [
        (
            width * (0.26 + 0.48 * (cell % 2) + rng.uniform(-0.06, 0.06)),
            height * (0.26 + 0.48 * (cell // 2) + rng.uniform(-0.06, 0.06)),
        )
        for cell in cells
    ]
