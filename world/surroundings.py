"""The arena around the things: ground, walls or horizon, light and air, all drawn from the seed.

The arena is a square room about the origin. Outdoors its walls are the picture of what lies beyond: a skyline and the
sky above it. Ground and walls share one texture, the atlas, so that a frame is painted by a single look-up: the ground
lies on top, the four walls stand side by side below it.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_GROUND_PX_PER_M = 40.0
_WALL_PX_PER_M = 16.0
_WALL_TOP_M = 14.0
_THERMAL_SHRINK = 4

Colour = NDArray[np.float64]


class Surroundings:
    """Everything of a scene but its things and the robot."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng([seed, 105])
        self._seed = seed
        self.indoors = bool(random.random() < 0.45)
        self.half_size_m = float(random.uniform(6.3, 7.2) if self.indoors else random.uniform(8.5, 11.0))
        self.air_c = float(random.uniform(18.0, 23.0) if self.indoors else random.uniform(6.0, 23.0))
        self.body_height_m = float(random.uniform(0.5, 0.8))
        """Height of the robot's sensors above level ground."""
        self.solid_top_m = _WALL_TOP_M if self.indoors else float(random.uniform(1.6, 3.0))
        """Height up to which the walls are solid; above is sky."""
        self._light = float(random.uniform(0.62, 1.12))
        self._light_swing = float(random.uniform(0.0, 0.08))
        self._light_phase = float(random.uniform(0.0, 2 * np.pi))
        size = 2 * self.half_size_m
        self._ground_px = _multiple(size * _GROUND_PX_PER_M)
        self._wall_px = (_multiple(_WALL_TOP_M * _WALL_PX_PER_M), _multiple(4 * size * _WALL_PX_PER_M))

    def light(self, t_s: float) -> float:
        """Brightness of the scene at a time; 1 is full daylight."""
        return self._light * (1.0 + self._light_swing * float(np.sin(0.25 * t_s + self._light_phase)))

    def atlas_coordinates(
        self, x: NDArray[np.float32], y: NDArray[np.float32], z: NDArray[np.float32], ground: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return column and row in the atlas of the points (x, y, z) of the ground and the walls."""
        half = np.float32(self.half_size_m)
        on_x = np.abs(x) > np.abs(y)
        around = np.where(
            on_x,
            np.where(x > 0, half + y, 5 * half - y),
            np.where(y > 0, 3 * half - x, 7 * half + x),
        )
        columns = np.where(ground, (x + half) * np.float32(_GROUND_PX_PER_M), around * np.float32(_WALL_PX_PER_M))
        wall_row = np.float32(self._ground_px + self._wall_px[0]) - z * np.float32(_WALL_PX_PER_M)
        ground_row = np.minimum(
            (y + half) * np.float32(_GROUND_PX_PER_M), np.float32(self._ground_px - _THERMAL_SHRINK)
        )
        rows = np.where(ground, ground_row, np.maximum(wall_row, np.float32(self._ground_px + _THERMAL_SHRINK)))
        return columns - np.float32(0.5), rows - np.float32(0.5)

    @cached_property
    def colours(self) -> NDArray[np.uint8]:
        """The atlas in RGB."""
        random = np.random.default_rng([self._seed, 106])
        ground = _ground(random, self._ground_px, self.indoors)
        wall = _room(random, *self._wall_px) if self.indoors else _skyline(random, *self._wall_px, self.solid_top_m)
        return np.clip(_stack(ground, wall), 0, 255).astype(np.uint8)

    @cached_property
    def temperatures(self) -> NDArray[np.float32]:
        """The atlas in degrees Celsius, _THERMAL_SHRINK times coarser."""
        random = np.random.default_rng([self._seed, 107])
        side = self._ground_px // _THERMAL_SHRINK
        height, width = self._wall_px[0] // _THERMAL_SHRINK, self._wall_px[1] // _THERMAL_SHRINK
        warmer = random.uniform(-1.5, 0.5) if self.indoors else random.uniform(-3.0, 2.5)
        ground = self.air_c + warmer + 0.7 * _noise(random, side, side, 12)[..., None]
        wall = self.air_c + random.uniform(-1.0, 1.5) + 0.5 * _noise(random, height, width, 16)[..., None]
        if not self.indoors:
            above = np.linspace(_WALL_TOP_M, 0.0, height)[:, None, None] - self.solid_top_m
            sky = self.air_c - random.uniform(14.0, 24.0) - 0.6 * above
            wall = np.where(above > 0, sky, wall)
        return _stack(ground, wall)[..., 0].astype(np.float32)

    @property
    def thermal_shrink(self) -> int:
        """Factor by which `temperatures` is coarser than `colours`."""
        return _THERMAL_SHRINK


def _multiple(px: float) -> int:
    """Round up so that both atlases divide evenly."""
    return -(-round(px) // _THERMAL_SHRINK) * _THERMAL_SHRINK


def _stack(ground: NDArray[np.float64], wall: NDArray[np.float64]) -> NDArray[np.float64]:
    width = max(ground.shape[1], wall.shape[1])
    widened = [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), mode="edge") for part in (ground, wall)]
    return np.concatenate(widened, axis=0)


def _noise(random: np.random.Generator, height: int, width: int, cell_px: float) -> NDArray[np.float64]:
    """Smooth random field of unit deviation, with features about `cell_px` wide, that closes on itself sideways."""
    import cv2

    shape = (max(2, round(height / cell_px)), max(2, round(width / cell_px)))
    coarse = random.standard_normal(shape, dtype=np.float32)
    coarse[:, -1] = coarse[:, 0]
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(field, np.float64)


def _ground(random: np.random.Generator, side: int, indoors: bool) -> NDArray[np.float64]:
    styles = ("planks", "tiles", "carpet", "concrete") if indoors else ("grass", "dirt", "asphalt", "slabs")
    style = styles[int(random.integers(len(styles)))]
    colours = {
        "planks": (150, 108, 70), "tiles": (186, 180, 170), "carpet": (110, 92, 104), "concrete": (146, 146, 142),
        "grass": (92, 124, 58), "dirt": (140, 112, 80), "asphalt": (96, 96, 98), "slabs": (158, 150, 138),
    }  # fmt: skip
    colour: Colour = np.array(colours[style]) + random.normal(0, 10, 3)
    shade = 1.0 + 0.07 * _noise(random, side, side, 60) + 0.08 * _noise(random, side, side, 3.0)
    rows, columns = np.arange(side)[:, None], np.arange(side)[None, :]
    if style == "planks":
        plank = random.uniform(0.82, 1.15, side // 8 + 1)[rows // 8]
        shade = shade * plank * np.where(rows % 8 == 0, 0.65, 1.0)
    elif style in ("tiles", "slabs"):
        cell = int(random.integers(18, 40))
        checker = 1.0 + 0.09 * (((rows // cell) + (columns // cell)) % 2)
        shade = shade * checker * np.where((rows % cell == 0) | (columns % cell == 0), 0.72, 1.0)
    elif style == "grass":
        shade = shade + 0.10 * _noise(random, side, side, 2.0)
    return shade[..., None] * colour


def _room(random: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    palette = ((214, 206, 190), (176, 196, 206), (206, 186, 176), (190, 204, 176), (160, 160, 168))
    colour: Colour = np.array(palette[int(random.integers(len(palette)))]) + random.normal(0, 8, 3)
    shade = 1.0 + 0.03 * _noise(random, height, width, 40)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    style = random.integers(3)
    if style == 1:
        shade = shade * (1.0 - 0.09 * ((columns // 10) % 2))
    elif style == 2:
        joint = (rows % 8 == 0) | ((columns + 9 * ((rows // 8) % 2)) % 18 == 0)
        shade = shade * np.where(joint, 0.8, 1.0)
    wall = shade[..., None] * colour
    from_floor = (height - 1 - rows) / _WALL_PX_PER_M
    wall = np.where(from_floor[..., None] < 0.14, colour * 0.5, wall)
    wall = np.where(from_floor[..., None] > 3.2, np.array((232, 232, 228)) * (1.0 - 0.02 * from_floor[..., None]), wall)
    for start in np.arange(20, width - 60, 110) + random.integers(0, 40, len(range(20, width - 60, 110))):
        if random.random() < 0.6:
            top, low = height - round(2.5 * _WALL_PX_PER_M), height - round(random.uniform(1.0, 1.4) * _WALL_PX_PER_M)
            right = start + int(random.integers(18, 34))
            wall[top - 1 : low + 1, start - 1 : right + 1] = colour * 0.72
            wall[top:low, start:right] = np.array(random.uniform((120, 140, 150), (215, 230, 240)))
    return wall


def _skyline(random: np.random.Generator, height: int, width: int, top_m: float) -> NDArray[np.float64]:
    skies = (((96, 150, 220), (206, 226, 244)), ((150, 160, 172), (206, 210, 214)), ((110, 120, 170), (246, 200, 160)))
    high, low = (np.array(colour) + random.normal(0, 8, 3) for colour in skies[int(random.integers(len(skies)))])
    up = np.linspace(1.0, 0.0, height)[:, None, None]
    clouds = np.clip(_noise(random, height, width, 34) + 0.5 * _noise(random, height, width, 12) - 0.6, 0, 1)
    picture = low * (1 - up) + high * up + 60.0 * clouds[..., None] * up
    from_ground = (height - 1 - np.arange(height)[:, None]) / _WALL_PX_PER_M
    for layer, (reach, palette) in enumerate(((1.0, (120, 136, 140)), (0.62, (96, 116, 88)))):
        ridge = top_m * reach * (0.78 + 0.22 * np.tanh(_noise(random, 1 + 1, width, 30 if layer else 70)[:1]))
        grain = 1.0 + 0.06 * _noise(random, height, width, 4 if layer else 14)
        colour = np.array(palette) + random.normal(0, 12, 3)
        picture = np.where((from_ground < ridge)[..., None], grain[..., None] * colour, picture)
    return picture
