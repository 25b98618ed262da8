"""A pen that draws one object in unit coordinates and knows the extent of what it drew."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import ImageDraw

Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

BLACK: Colour = (25, 25, 28)
WHITE: Colour = (248, 248, 245)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour between two colours; ``share`` 0 gives the first, 1 the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


@lru_cache(maxsize=64)
def _circle(start: int, end: int, count: int) -> NDArray[np.float64]:
    angles = np.radians(np.linspace(start, end, count))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


class Pen:
    """Draws an object whose parts are given in unit coordinates: x right, y down, the body within -1 to 1.

    Rotation is applied to the points, not to pixels, so edges stay sharp and the bounding box is exact.

    Args:
        draw: canvas, ``supersampling`` times as large as the image that it becomes.
        centre: centre of the object in image pixels.
        scale: image pixels per unit, along x and along y before rotation.
        angle: clockwise rotation in degrees.
        flip: mirrors the object left to right.
        supersampling: canvas pixels per image pixel.
        outline: colour and width (in units) of a line drawn around the parts that ask for one, or None.
    """

    def __init__(
        self,
        draw: "ImageDraw.ImageDraw",
        centre: tuple[float, float],
        scale: tuple[float, float],
        angle: float = 0.0,
        flip: bool = False,
        supersampling: int = 1,
        outline: tuple[Colour, float] | None = None,
    ) -> None:
        self._draw = draw
        self._supersampling = supersampling
        self._outline = outline
        turn = np.radians(angle)
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        stretch = np.diag([-scale[0] if flip else scale[0], scale[1]])
        self._matrix = stretch @ rotation * supersampling
        self._centre = np.array(centre) * supersampling
        self._unit = float(min(scale)) * supersampling
        self._low = np.array([np.inf, np.inf])
        self._high = np.array([-np.inf, -np.inf])

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Extent of all that was drawn: x0, y0, x1, y1 in image pixels."""
        low, high = self._low / self._supersampling, self._high / self._supersampling
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def _place(self, points: NDArray[np.float64], margin: float) -> list[float]:
        placed = points @ self._matrix + self._centre
        self._low = np.minimum(self._low, placed.min(axis=0) - margin)
        self._high = np.maximum(self._high, placed.max(axis=0) + margin)
        flat: list[float] = placed.ravel().tolist()
        return flat

    def polygon(self, points: Points | NDArray[np.float64], fill: Colour, outlined: bool = False) -> None:
        """Fills a polygon; ``outlined`` lets the pen's outline follow its edge."""
        corners = np.asarray(points, dtype=np.float64)
        width = 0
        if outlined and self._outline is not None:
            width = max(1, round(self._outline[1] * self._unit))
        placed = self._place(corners, width / 2)
        self._draw.polygon(placed, fill=fill)
        if outlined and self._outline is not None:
            self._draw.line([*placed, *placed[:4]], fill=self._outline[0], width=width, joint="curve")

    def rectangle(
        self, left: float, top: float, right: float, bottom: float, fill: Colour, outlined: bool = False
    ) -> None:
        """Fills a rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill, outlined)

    def ellipse(
        self,
        x: float,
        y: float,
        radius_x: float,
        radius_y: float,
        fill: Colour,
        outlined: bool = False,
        start: int = 0,
        end: int = 360,
        tilt: float = 0.0,
    ) -> None:
        """Fills an ellipse, or the part of it between two angles (degrees, clockwise from the right)."""
        whole = end - start >= 360
        rim = _circle(start, end - 10 if whole else end, 36 if whole else 20) * (radius_x, radius_y)
        if tilt:
            turn = np.radians(tilt)
            rim = rim @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        self.polygon(rim + (x, y), fill, outlined)

    def sector(self, x: float, y: float, radius: float, start: int, end: int, fill: Colour) -> None:
        """Fills a sector of a circle."""
        rim = _circle(start, end, 12) * radius + (x, y)
        self.polygon(np.concatenate([rim, [[x, y]]]), fill)

    def line(self, points: Points | NDArray[np.float64], width: float, fill: Colour) -> None:
        """Draws a line through points; the width is in units."""
        pixels = max(1, round(width * self._unit))
        placed = self._place(np.asarray(points, dtype=np.float64), pixels / 2)
        self._draw.line(placed, fill=fill, width=pixels, joint="curve")
