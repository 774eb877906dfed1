"""Painting a view: colour, depth, temperature, and which pixel shows which thing.

Each modality costs only itself. They share the geometry of the frame: rays through pixels onto ground and walls, and
the billboards painted over them from the farthest to the nearest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from world.drawings import DRAWINGS
from world.sprites import RELIEF_M, Level, Sprite
from world.surroundings import Surroundings
from world.view import Billboard, Pinhole, Sight

DEPTH_RANGE_M = (0.25, 10.0)
_IMAGE_NOISE = 3.0
_THERMAL_NOISE_C = 0.12
_COVERAGE_SHRINK = 2
_SHIFT = 48

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Hits:
    """Ends of the rays of a frame, each [H, W]: depth in metres, and world points of ground or wall."""

    depth_m: NDArray[np.float32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    z: NDArray[np.float32]
    ground: NDArray[np.bool_]


class Painter:
    """Paints the views of one scene at one size."""

    def __init__(self, seed: int, camera: Pinhole, surroundings: Surroundings) -> None:
        self._seed = seed
        self._camera = camera
        self._surroundings = surroundings
        self._sprites: dict[tuple[int, int], Sprite] = {}

    def image(self, view: Sight, frame: int) -> NDArray[np.uint8]:
        """Paint RGB [H, W, 3]."""
        import cv2

        hits = self._cast(view)
        columns, rows = self._surroundings.atlas_coordinates(hits.x, hits.y, hits.z, hits.ground)
        image = cv2.remap(
            self._surroundings.colours,
            columns,
            rows,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for _, placed in self._placed(view):
            x0, y0, x1, y1 = placed.roi
            sprite = placed.warp(placed.level.picture)
            region = image[y0:y1, x0:x1]
            behind = cv2.multiply(region, cv2.cvtColor(255 - sprite[..., 3], cv2.COLOR_GRAY2RGB), scale=1 / 255)
            image[y0:y1, x0:x1] = cv2.add(behind, sprite[..., :3])
        image = cv2.convertScaleAbs(image, alpha=self._surroundings.light(view.t_s))
        image = cv2.add(image, self._window(self._image_noise, frame), dtype=cv2.CV_8U)
        return np.asarray(image, np.uint8)

    def depth(self, view: Sight, frame: int) -> NDArray[np.float32]:
        """Paint depth along the optical axis [H, W] in metres; 0 marks a missing reading."""
        hits = self._cast(view)
        solid = hits.ground | (hits.z < self._surroundings.solid_top_m)
        depth = np.where(solid, hits.depth_m, np.float32(np.inf))
        for board, placed in self._placed(view):
            x0, y0, x1, y1 = placed.roi
            body = placed.warp(placed.level.body)
            surface = np.float32(board.depth_m + 0.5 * RELIEF_M) - body[..., 2] * np.float32(RELIEF_M / 255)
            region = depth[y0:y1, x0:x1]
            np.copyto(region, surface, where=body[..., 0] > 127)
        noise = self._window(self._noise, frame)
        depth = depth + noise * (np.float32(0.003) + np.float32(0.002) * np.minimum(depth, 10.0) ** 2)
        lost = (depth < DEPTH_RANGE_M[0]) | (depth > DEPTH_RANGE_M[1]) | (np.abs(noise) > 2.9)
        depth[lost] = 0.0
        return np.ascontiguousarray(depth, np.float32)

    def thermal(self, view: Sight, frame: int) -> NDArray[np.float32]:
        """Paint temperature [H, W] in degrees Celsius."""
        import cv2

        around = self._surroundings
        hits = self._cast(view, step=2)
        columns, rows = around.atlas_coordinates(hits.x, hits.y, hits.z, hits.ground)
        shrink = np.float32(1 / around.thermal_shrink)
        coarse = cv2.remap(
            around.temperatures,
            columns * shrink,
            rows * shrink,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        thermal = cv2.resize(coarse, (2 * columns.shape[1], 2 * columns.shape[0]), interpolation=cv2.INTER_LINEAR)
        thermal = np.ascontiguousarray(thermal[: self._camera.height, : self._camera.width])
        for board, placed in self._placed(view):
            x0, y0, x1, y1 = placed.roi
            body = placed.warp(placed.level.body)[..., :2].astype(np.float32) / np.float32(255)
            behind = thermal[y0:y1, x0:x1] * (1 - body[..., 0]) + body[..., 0] * np.float32(around.air_c)
            thermal[y0:y1, x0:x1] = behind + body[..., 1] * np.float32(board.thing.surface_c - around.air_c)
        blurred = cv2.blur(thermal, (3, 3)) + self._window(self._noise, frame) * np.float32(_THERMAL_NOISE_C)
        return np.asarray(blurred, np.float32)

    def coverage(self, view: Sight) -> dict[int, tuple[Box, float]]:
        """Return, for each thing in the picture, the box of its visible part and the visible fraction of its
        silhouette.
        """
        shrink = _COVERAGE_SHRINK
        width, height = -(-self._camera.width // shrink), -(-self._camera.height // shrink)
        labels = np.full((height, width), -1, np.int16)
        placements = []
        for board, placed in self._placed(view, shrink):
            x0, y0, x1, y1 = placed.roi
            body = placed.warp(placed.level.body)
            labels[y0:y1, x0:x1][body[..., 0] > 127] = board.thing.index
            placements.append((board, placed))
        found = {}
        for board, placed in placements:
            x0, y0, x1, y1 = placed.roi
            seen = labels[y0:y1, x0:x1] == board.thing.index
            count = int(np.count_nonzero(seen))
            if count == 0:
                continue
            columns, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
            box = (
                float(shrink * (x0 + columns[0])),
                float(shrink * (y0 + rows[0])),
                float(min(self._camera.width, shrink * (x0 + columns[-1] + 1))),
                float(min(self._camera.height, shrink * (y0 + rows[-1] + 1))),
            )
            whole = self._sprite(board).cover * board.area_px / shrink**2
            found[board.thing.index] = (box, min(1.0, count / max(whole, 1.0)))
        return found

    def _placed(self, view: Sight, shrink: int = 1) -> Iterator[tuple[Billboard, _Placement]]:
        for board in view.billboards:
            placed = _place(board, self._sprite(board), self._camera, shrink)
            if placed is not None:
                yield board, placed

    def _sprite(self, board: Billboard) -> Sprite:
        key = (board.thing.index, board.phase)
        if key not in self._sprites:
            drawing = DRAWINGS[board.thing.kind.name]
            self._sprites[key] = drawing.sprite((self._seed, 108, board.thing.index), board.phase)
        return self._sprites[key]

    def _cast(self, view: Sight, step: int = 1) -> _Hits:
        """Follow the rays of every `step`-th pixel to the ground or the walls, whichever comes first."""
        left, up = self._camera.slopes(step)
        turn = view.body_to_world.astype(np.float32)
        # Sums of a row and a column, and no matrix product: its rounding would depend on the number of threads.
        dx, dy, dz = (turn[axis, 0] + turn[axis, 2] * up[:, None] + turn[axis, 1] * left[None, :] for axis in range(3))
        x, y, z = (np.float32(value) for value in view.eye_m)
        half = np.float32(self._surroundings.half_size_m)
        with np.errstate(divide="ignore"):
            to_wall = np.minimum((np.copysign(half, dx) - x) / dx, (np.copysign(half, dy) - y) / dy)
        to_ground = -z / np.minimum(dz, np.float32(-1e-6))
        ground = to_ground < to_wall
        depth = np.minimum(to_wall, to_ground)
        return _Hits(depth, x + depth * dx, y + depth * dy, z + depth * dz, ground)

    @cached_property
    def _noise(self) -> NDArray[np.float32]:
        random = np.random.default_rng([self._seed, 109])
        return random.standard_normal((self._camera.height + _SHIFT, self._camera.width + _SHIFT), dtype=np.float32)

    @cached_property
    def _image_noise(self) -> NDArray[np.int16]:
        random = np.random.default_rng([self._seed, 110])
        shape = (self._camera.height + _SHIFT, self._camera.width + _SHIFT, 3)
        return np.asarray(np.rint(_IMAGE_NOISE * random.standard_normal(shape, dtype=np.float32)), np.int16)

    def _window(self, noise: NDArray[Any], frame: int) -> NDArray[Any]:
        """Cut a frame's noise from a larger field: drawing noise for every frame would cost more than painting."""
        down, right = np.random.default_rng([self._seed, 111, frame]).integers(0, _SHIFT, 2)
        window: NDArray[Any] = noise[down : down + self._camera.height, right : right + self._camera.width]
        return window


@dataclass(frozen=True, slots=True, eq=False)
class _Placement:
    """A sprite's way into the picture: the level to take, the region it covers, and the homography."""

    level: Level
    roi: tuple[int, int, int, int]
    matrix: NDArray[np.float64]

    def warp(self, layer: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import cv2

        size = (self.roi[2] - self.roi[0], self.roi[3] - self.roi[1])
        return np.asarray(cv2.warpPerspective(layer, self.matrix, size, flags=cv2.INTER_LINEAR), np.uint8)


def _place(board: Billboard, sprite: Sprite, camera: Pinhole, shrink: int) -> _Placement | None:
    """Fit a sprite to its corners in the picture made `shrink` times smaller; None when nothing of it is inside."""
    import cv2

    corners = board.corners_px / shrink
    low = np.floor(corners.min(axis=0)).astype(int)
    high = np.ceil(corners.max(axis=0)).astype(int)
    x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
    x1, y1 = min(-(-camera.width // shrink), int(high[0])), min(-(-camera.height // shrink), int(high[1]))
    if x1 <= x0 or y1 <= y0:
        return None
    level = sprite.level(float(np.linalg.norm(corners[0] - corners[3])))
    height, width = level.body.shape[:2]
    left, right = board.span[0] * width, board.span[1] * width
    source = np.array([[left, 0], [right, 0], [right, height], [left, height]], np.float32) - 0.5
    target = corners - (x0 + 0.5, y0 + 0.5)
    matrix = cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))
    return _Placement(level, (x0, y0, x1, y1), np.asarray(matrix, np.float64))
