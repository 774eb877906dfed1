"""Pictures of things, drawn once per thing: colour, silhouette, warmth and relief, at several sizes.

A sprite is a flat picture that faces the camera. It is drawn in a frame where the thing's foot is at y = 0 and its
top at y = 1, and x = 0 is its middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BELOW, ABOVE = 0.05, 0.03
"""Margins of the picture below foot and above top, in heights of the thing."""
RELIEF_M = 0.25
"""The relief that a full-scale value stands for."""
_DRAWN_PX = 400
_LEVELS = 4

Colour = tuple[float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One size of a sprite."""

    picture: NDArray[np.uint8]
    """[h, w, 4] RGB times alpha, and alpha; the shadow on the ground is part of it."""
    body: NDArray[np.uint8]
    """[h, w, 3] silhouette, silhouette times warmth, relief; each 0..255 for 0..1 (relief: 0..RELIEF_M)."""


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """One animation phase of a thing; `levels` go from the finest, each half the size of the one before."""

    levels: tuple[Level, ...]
    half_width: float
    """Half the width of the picture in heights of the thing."""
    cover: float
    """The part of the picture that the silhouette fills."""

    def level(self, height_px: float) -> Level:
        """The coarsest level that still has at least as many rows as will be painted."""
        for level in reversed(self.levels):
            if level.body.shape[0] >= height_px:
                return level
        return self.levels[0]


class Canvas:
    """Canvas of a drawing. Colours are RGB 0..255; warmth is 0 (air) to 1 (the thing's surface temperature)."""

    def __init__(self, half_width: float, random: np.random.Generator) -> None:
        self.half_width = half_width
        self.random = random
        self._scale = _DRAWN_PX / (1.0 + BELOW + ABOVE)
        shape = (_DRAWN_PX, round(2 * half_width * self._scale))
        self._rgb = np.zeros((*shape, 3), np.uint8)
        self._warmth = np.full(shape, -1.0, np.float32)
        self._grain = np.ones((2, 2), np.float32)

    def polygon(self, points: Iterable[Point], colour: Colour, warmth: float = 0.0) -> None:
        """Fill a polygon; points are in heights of the thing."""
        import cv2

        corners = np.array([self._px(x, y) for x, y in points], np.int32)
        cv2.fillPoly(self._rgb, [corners], _shade(colour))
        cv2.fillPoly(self._warmth, [corners], warmth)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, warmth: float = 0.0, tilt_deg: float = 0.0
    ) -> None:
        """Fill an ellipse; `tilt_deg` turns it anticlockwise."""
        import cv2

        axes = (max(1, round(rx * self._scale)), max(1, round(ry * self._scale)))
        cv2.ellipse(self._rgb, self._px(x, y), axes, -tilt_deg, 0, 360, _shade(colour), -1)
        cv2.ellipse(self._warmth, self._px(x, y), axes, -tilt_deg, 0, 360, warmth, -1)

    def line(self, points: Iterable[Point], width: float, colour: Colour, warmth: float = 0.0) -> None:
        """Draw a polyline with round ends."""
        import cv2

        corners = np.array([self._px(x, y) for x, y in points], np.int32)
        thickness = max(1, round(width * self._scale))
        cv2.polylines(self._rgb, [corners], False, _shade(colour), thickness)
        cv2.polylines(self._warmth, [corners], False, warmth, thickness)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, warmth: float = 0.0) -> None:
        """Fill an upright rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, warmth)

    def grain(self, amount: float, cell: float = 0.02, stretch: float = 1.0) -> None:
        """Give the whole picture a random texture; `cell` is its size, `stretch` how much longer it is upright."""
        rows = max(2, round(_DRAWN_PX / (cell * stretch * self._scale)))
        columns = max(2, round(self._warmth.shape[1] / (cell * self._scale)))
        self._grain = self.random.normal(1.0, amount, (rows, columns)).astype(np.float32)

    def sprite(self, shadow: float) -> Sprite:
        """Finish: smooth edges, texture, light from above, the shadow on the ground, and the smaller sizes."""
        import cv2

        width, height = self._warmth.shape[1] // 2, self._warmth.shape[0] // 2
        drawn = (self._warmth >= 0.0).astype(np.uint8)
        cover = float(drawn.mean())
        warmth = _halved(255.0 * np.clip(self._warmth, 0.0, 1.0))
        body = _halved(255.0 * drawn.astype(np.float32))
        light = np.linspace(1.12, 0.86, height, dtype=np.float32)[:, None]
        light = light * cv2.resize(self._grain, (width, height), interpolation=cv2.INTER_LINEAR)
        rgb = np.minimum(_halved(self._rgb) * light[..., None], body[..., None])
        ground = np.zeros((height, width), np.float32)
        columns = np.flatnonzero(drawn[height:].any(axis=0)) // 2
        if shadow > 0.0 and len(columns):
            centre = (int(columns[0] + columns[-1]) // 2, round((1.0 + ABOVE) * self._scale / 2))
            axes = (int(columns[-1] - columns[0]) // 2 + 1, round(0.015 * self._scale))
            cv2.ellipse(ground, centre, axes, 0, 0, 360, 255.0 * shadow, -1)
        relief = cv2.distanceTransform((body > 127).astype(np.uint8), cv2.DIST_L2, 3)
        relief = 255.0 * np.sqrt(np.minimum(relief / (0.06 * self._scale), 1.0))
        picture = np.concatenate([rgb, np.maximum(body, ground)[..., None]], axis=2).astype(np.uint8)
        channels = np.stack([body, warmth, relief], axis=2).astype(np.uint8)
        levels = [Level(picture, channels)]
        for _ in range(_LEVELS - 1):
            picture, channels = _halved(picture), _halved(channels)
            levels.append(Level(picture, channels))
        return Sprite(tuple(levels), self.half_width, cover)

    def _px(self, x: float, y: float) -> tuple[int, int]:
        return round((x + self.half_width) * self._scale), round((1.0 + ABOVE - y) * self._scale)


@dataclass(frozen=True, slots=True)
class Drawing:
    """Drawing of a kind: `draw(canvas, phase)` with phase 0..1 through its animation."""

    draw: Callable[[Canvas, float], None]
    half_width: float
    phases: int = 1
    phase_hz: float = 0.0
    shadow: float = 0.45

    def sprite(self, seed: tuple[int, ...], phase: int) -> Sprite:
        """Draw one phase; the same seed gives the same individual in every phase."""
        canvas = Canvas(self.half_width, np.random.default_rng(seed))
        self.draw(canvas, phase / self.phases)
        return canvas.sprite(self.shadow)

    def phase_at(self, t_s: float) -> int:
        """The phase shown at a time."""
        return int(t_s * self.phase_hz) % self.phases


def vary(random: np.random.Generator, colour: Colour, amount: float = 18.0) -> Colour:
    """Return a colour near another."""
    red, green, blue = np.clip(random.normal(0.0, amount, 3) + random.normal(0.0, amount) + colour, 0.0, 255.0)
    return float(red), float(green), float(blue)


def choose(random: np.random.Generator, *colours: Colour) -> Colour:
    """Return one of several colours, varied a little."""
    return vary(random, colours[int(random.integers(len(colours)))], 9.0)


def darker(colour: Colour, factor: float = 0.7) -> Colour:
    """Return a colour times a factor, at most white."""
    return min(255.0, colour[0] * factor), min(255.0, colour[1] * factor), min(255.0, colour[2] * factor)


def _halved(picture: NDArray[Any]) -> NDArray[Any]:
    import cv2

    size = (picture.shape[1] // 2, picture.shape[0] // 2)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _shade(colour: Colour) -> tuple[int, int, int]:
    return round(colour[0]), round(colour[1]), round(colour[2])
