"""Positions in the picture: the pinhole camera and the billboards of the things as it sees them."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, radians, tan

import numpy as np
from numpy.typing import NDArray

from world.drawings import DRAWINGS
from world.motion import rotations
from world.sprites import ABOVE, BELOW
from world.things import Thing

Floats = NDArray[np.float64]
_NEAR_M = 0.2

BODY_TO_CAMERA: Floats = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
"""Rotation from x forward, y left, z up to x right, y down, z forward."""


@dataclass(frozen=True, slots=True)
class Pinhole:
    """A camera without distortion; its principal point is the middle of the picture."""

    width: int
    height: int
    hfov_deg: float

    @property
    def focal_px(self) -> float:
        """Focal length in pixels."""
        return self.width / 2 / tan(radians(self.hfov_deg) / 2)

    def slopes(self, step: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the slope to the left of the pixel columns [W] and that upwards of the rows [H], per metre forward."""
        columns = (self.width / 2 - 0.5 - np.arange(0, self.width, step)) / self.focal_px
        rows = (self.height / 2 - 0.5 - np.arange(0, self.height, step)) / self.focal_px
        return columns.astype(np.float32), rows.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Billboard:
    """A thing's sprite as it stands before the camera."""

    thing: Thing
    phase: int
    depth_m: float
    """Depth of its middle, along the optical axis."""
    corners_px: NDArray[np.float32]
    """[4, 2] top left, top right, bottom right, bottom left of the part of the sprite before the camera."""
    span: tuple[float, float]
    """Part of the sprite's width, 0..1; (0, 1) is all of it, and falling order means mirrored."""

    @property
    def area_px(self) -> float:
        """Size of the whole sprite in the picture."""
        x, y = self.corners_px[:, 0], self.corners_px[:, 1]
        part = 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
        return part / abs(self.span[1] - self.span[0])


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """The scene from the camera at one time."""

    t_s: float
    eye_m: Floats
    body_to_world: Floats
    billboards: tuple[Billboard, ...]
    """Things that may be in the picture, the farthest first."""


def look(t_s: float, pose: Floats, things: tuple[Thing, ...], camera: Pinhole) -> Sight:
    """Return the view at `t_s` from a pose (x, y, z, roll, pitch, yaw)."""
    body_to_world = rotations(pose[None, 3:])[0]
    to_camera = BODY_TO_CAMERA @ body_to_world.T
    found = [_billboard(t_s, pose[:3], to_camera, thing, camera) for thing in things]
    seen = sorted((board for board in found if board is not None), key=lambda board: -board.depth_m)
    return Sight(t_s, pose[:3], body_to_world, tuple(seen))


def _billboard(t_s: float, eye_m: Floats, to_camera: Floats, thing: Thing, camera: Pinhole) -> Billboard | None:
    drawing = DRAWINGS[thing.kind.name]
    feet = thing.feet_m(np.array([t_s, t_s + 0.1]))
    offset = feet[0] - eye_m
    distance = hypot(offset[0], offset[1])
    across = np.array([offset[1], -offset[0], 0.0]) / distance
    half = drawing.half_width * thing.height_m
    foot, right = to_camera @ offset, to_camera @ across
    up = to_camera[:, 2] * thing.height_m
    low, high = foot - BELOW * up, foot + (1.0 + ABOVE) * up
    depth = float(foot[2] + 0.5 * up[2])
    nearest = min(low[2], high[2])
    left_end, right_end = -half, half
    # Only the part of the billboard that lies before the camera can be projected.
    if abs(right[2]) > 1e-9:
        limit = (_NEAR_M - nearest) / right[2]
        left_end, right_end = (max(-half, limit), half) if right[2] > 0 else (-half, min(half, limit))
    if right_end - left_end < 0.02 * half or nearest + max(left_end * right[2], right_end * right[2]) < _NEAR_M:
        return None
    points = np.stack(
        [high + left_end * right, high + right_end * right, low + right_end * right, low + left_end * right]
    )
    corners = points[:, :2] / points[:, 2:] * camera.focal_px + (camera.width / 2, camera.height / 2)
    inside = (corners.max(axis=0) > 0) & (corners.min(axis=0) < (camera.width, camera.height))
    if not inside.all() or depth < _NEAR_M:
        return None
    mirrored = thing.mirrored
    if thing.kind.moves != "stays":
        mirrored = bool((feet[1] - feet[0]) @ across < 0.0)
    span = ((left_end + half) / (2 * half), (right_end + half) / (2 * half))
    if mirrored:
        span = (1.0 - span[0], 1.0 - span[1])
    return Billboard(thing, drawing.phase_at(t_s), depth, corners.astype(np.float32), span)


def direction_deg(offset_m: Floats, body_to_world: Floats) -> tuple[float, float]:
    """Azimuth (0 ahead, positive left) and elevation of a world offset, as seen from the body, in degrees."""
    forward, left, up = body_to_world.T @ offset_m
    return float(np.degrees(np.arctan2(left, forward))), float(np.degrees(np.arctan2(up, hypot(forward, left))))
