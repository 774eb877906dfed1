"""Motion of the robot: an endless, seeded sequence of smooth segments, one after the other.

Within a segment speed, yaw, height and tilt are closed-form functions of time that begin and end at rest, so the
whole trajectory is twice differentiable and an IMU can be computed from it. Rotations are yaw, then pitch, then roll
about the moved axes (ROS REP-103: pitch is positive nose down, roll is positive right side down).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from math import atan2, cos, pi, radians, sin, tan
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MotionName = Literal["standing", "driving", "turning left", "turning right", "bumping", "climbing", "falling"]
MOTIONS: tuple[MotionName, ...] = get_args(MotionName)

ROAM_RADIUS_M = 1.6
"""The robot stays within this distance of the middle of the arena; things stand farther out."""

GRAVITY_MPS2 = 9.81
_WEIGHTS = (0.22, 0.36, 0.13, 0.13, 0.08, 0.08, 0.02)
_DURATION_S: dict[MotionName, tuple[float, float]] = {
    "standing": (3.0, 6.0),
    "driving": (3.0, 8.0),
    "turning left": (3.0, 7.0),
    "turning right": (3.0, 7.0),
    "bumping": (3.5, 6.0),
    "climbing": (5.0, 8.0),
    "falling": (4.0, 5.0),
}
_SLOWEST_MPS = {"driving": 0.15, "bumping": 0.25, "climbing": 0.2}
_RAMP_S = 0.8
_GRID_S = 0.02
_IMPACT_S = 0.08
_CLIMB_UP, _CLIMB_DOWN = 0.55, 0.28
_STEEPEST_SMOOTHSTEP = 1.875


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of one kind of motion, from the place and heading where the last one ended."""

    motion: MotionName
    start_s: float
    duration_s: float
    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float = 0.0
    turn_rad: float = 0.0
    size: float = 0.0
    """Height of the climb or of the bumps, or of the fall, in metres."""
    tilt_rad: float = 0.0
    """Angle by which a fall or a bump tilts the body."""
    forward: bool = False
    """True if a fall goes over the nose rather than over a side."""
    phase: float = 0.0

    @property
    def stop_s(self) -> float:
        """Begin of the next segment."""
        return self.start_s + self.duration_s


@dataclass(frozen=True, slots=True)
class Attitude:
    """Prescription of a segment at n times: forward speed m/s, lift m above level ground, angles in radians."""

    speed: Floats
    lift: Floats
    roll: Floats
    pitch: Floats
    yaw: Floats


def smoothstep(u: Floats) -> Floats:
    """Rise from 0 to 1 over u in 0..1 with zero first and second derivatives at both ends."""
    u = np.clip(u, 0.0, 1.0)
    return u * u * u * (u * (u * 6.0 - 15.0) + 10.0)


def _slope(u: Floats) -> Floats:
    u = np.clip(u, 0.0, 1.0)
    return 30.0 * u * u * (1.0 - u) ** 2


def attitude(segment: Segment, tau: Floats) -> Attitude:
    """Evaluate a segment at `tau` seconds after its start; before and after it, it rests."""
    duration = segment.duration_s
    cruise = smoothstep(tau / _RAMP_S) * smoothstep((duration - tau) / _RAMP_S)
    speed = segment.speed_mps * cruise
    sway = segment.speed_mps * cruise * radians(0.8)
    roll = sway * np.sin(2 * pi * 1.1 * tau + segment.phase)
    pitch = sway * np.sin(2 * pi * 1.7 * tau + 2 * segment.phase)
    lift = np.zeros_like(tau)
    yaw = segment.yaw_rad + segment.turn_rad * _turned(tau / duration)
    if segment.motion == "bumping":
        period, width = 0.9, 0.26
        for index in range(int((duration - 2 * _RAMP_S) / period) + 1):
            u = np.clip((tau - _RAMP_S - period * index) / width, 0.0, 1.0)
            hump = 64.0 * (u * (1.0 - u)) ** 3
            side = 1.0 if (index + int(segment.phase * 10)) % 2 else -1.0
            lift = lift + segment.size * hump
            roll = roll + side * 0.6 * segment.tilt_rad * hump
            pitch = pitch - 2.0 * segment.tilt_rad * hump * (1.0 - 2.0 * u)
    elif segment.motion == "climbing":
        up, down = _CLIMB_UP * duration, _CLIMB_DOWN * duration
        u_up, u_down = (tau - 0.06 * duration) / up, (tau - 0.66 * duration) / down
        lift = segment.size * (smoothstep(u_up) - smoothstep(u_down))
        rate = segment.size * (_slope(u_up) / up - _slope(u_down) / down)
        pitch = pitch - np.arctan(rate / segment.speed_mps)
    elif segment.motion == "falling":
        lift, tilt = _fall(segment, tau)
        roll, pitch = (roll, tilt) if segment.forward else (tilt, pitch)
    return Attitude(speed, lift, roll, pitch, yaw)


def _turned(u: Floats) -> Floats:
    """Part of a turn done after part `u` of its time, at a rate that rises, holds and falls."""
    ramp = 0.3
    rising, falling = np.clip(u / ramp, 0.0, 1.0), np.clip((1.0 - u) / ramp, 0.0, 1.0)
    # The antiderivative of smoothstep.
    risen, fallen = (x**4 * (2.5 - 3.0 * x + x * x) for x in (rising, falling))
    return (ramp * (risen + 0.5 - fallen) + np.clip(u - ramp, 0.0, 1.0 - 2 * ramp)) / (1.0 - ramp)


def _fall(segment: Segment, tau: Floats) -> tuple[Floats, Floats]:
    """Topple (nearly free fall), hit the ground, lie there, and be lifted up again."""
    gravity = 0.93 * GRAVITY_MPS2
    begin = 0.6
    # The last part of the drop is the impact, which stops the fall in _IMPACT_S.
    free = (-gravity * _IMPACT_S + ((gravity * _IMPACT_S) ** 2 + 8 * gravity * segment.size) ** 0.5) / (2 * gravity)
    after = np.maximum(tau - begin, 0.0)
    impact = np.clip(after - free, 0.0, _IMPACT_S)
    drop = 0.5 * gravity * np.minimum(after, free) ** 2
    drop = drop + gravity * free * (impact - impact**2 / (2 * _IMPACT_S))
    upright = 1.0 - smoothstep((tau - (segment.duration_s - 1.6)) / 1.5)
    tilt = segment.tilt_rad * smoothstep((tau - begin + 0.25) / (free + 0.3)) * upright
    return -drop * upright, tilt


class Trajectory:
    """The robot's path for one seed, unbounded in time; segments are made in order and kept."""

    def __init__(self, seed: int, body_height_m: float) -> None:
        self._random = np.random.default_rng([seed, 101])
        self.body_height_m = body_height_m
        yaw = float(self._random.uniform(-pi, pi))
        radius, angle = 1.0 * self._random.random(), 2 * pi * self._random.random()
        first = Segment("standing", 0.0, 3.0, radius * cos(angle), radius * sin(angle), yaw)
        self._segments = [first]
        self._starts = [0.0]
        self._paths = [_path(first)]

    def segment(self, t_s: float) -> Segment:
        """The segment that holds `t_s` >= 0."""
        return self._segments[self._index(t_s)]

    def pose(self, t_s: Floats) -> Floats:
        """Return x, y, z (m), roll, pitch, yaw (rad) of camera, microphones and IMU at n times, [n, 6]."""
        out = np.empty((len(t_s), 6))
        for segment, rows in self.split(t_s):
            tau = t_s[rows] - segment.start_s
            path = self._paths[self._index(segment.start_s)]
            state = attitude(segment, tau)
            grid = np.arange(len(path)) * (segment.duration_s / (len(path) - 1))
            out[rows, 0] = np.interp(tau, grid, path[:, 0])
            out[rows, 1] = np.interp(tau, grid, path[:, 1])
            out[rows, 2] = self.body_height_m + state.lift
            out[rows, 3], out[rows, 4], out[rows, 5] = state.roll, state.pitch, state.yaw
        return out

    def split(self, t_s: Floats) -> list[tuple[Segment, slice]]:
        """Cut ascending times into runs that each lie in one segment."""
        runs: list[tuple[Segment, slice]] = []
        begin = 0
        while begin < len(t_s):
            segment = self.segment(float(t_s[begin]))
            end = max(begin + 1, int(np.searchsorted(t_s, segment.stop_s, side="left")))
            runs.append((segment, slice(begin, end)))
            begin = end
        return runs

    def _index(self, t_s: float) -> int:
        while self._segments[-1].stop_s <= t_s:
            self._append()
        return bisect_right(self._starts, t_s) - 1

    def _append(self) -> None:
        last, path = self._segments[-1], self._paths[-1]
        x, y = float(path[-1, 0]), float(path[-1, 1])
        yaw = (last.yaw_rad + last.turn_rad + pi) % (2 * pi) - pi
        segment = self._next(last, x, y, yaw)
        path = _path(segment)
        self._segments.append(segment)
        self._starts.append(segment.start_s)
        self._paths.append(path)

    def _next(self, last: Segment, x: float, y: float, yaw: float) -> Segment:
        random = self._random
        motion = self._choose(last)
        duration = float(random.uniform(*_DURATION_S[motion]))
        phase = float(random.random() * 2 * pi)
        start = last.stop_s
        if motion == "standing":
            return Segment(motion, start, duration, x, y, yaw)
        if motion in ("turning left", "turning right"):
            turn = radians(random.uniform(10, 24)) * duration * (1 if motion == "turning left" else -1)
            return Segment(motion, start, duration, x, y, yaw, turn_rad=turn)
        if motion == "falling":
            tilt = radians(random.uniform(65, 85))
            forward = random.random() < 0.35
            tilt = tilt if forward or random.random() < 0.5 else -tilt
            size = 0.65 * self.body_height_m
            return Segment(motion, start, duration, x, y, yaw, size=size, tilt_rad=tilt, forward=forward)
        room = _room_ahead_m(x, y, yaw)
        speed = min(float(random.uniform(0.3, 0.8)), room / (duration - _RAMP_S))
        if speed < _SLOWEST_MPS[motion]:
            return self._turn_inward(start, x, y, yaw)
        size, tilt = 0.0, radians(random.uniform(4, 9))
        if motion == "bumping":
            size = float(random.uniform(0.025, 0.05))
        elif motion == "climbing":
            steepest = tan(radians(random.uniform(13, 19)))
            size = speed * _CLIMB_UP * duration * steepest / _STEEPEST_SMOOTHSTEP
        return Segment(motion, start, duration, x, y, yaw, speed, size=size, tilt_rad=tilt, phase=phase)

    def _choose(self, last: Segment) -> MotionName:
        if last.motion == "falling":
            return "standing"
        weights = np.array(_WEIGHTS)
        weights[MOTIONS.index(last.motion)] *= 0.3
        if last.motion in ("turning left", "turning right"):
            weights[MOTIONS.index("turning left")] *= 0.4
            weights[MOTIONS.index("turning right")] *= 0.4
        return MOTIONS[int(self._random.choice(len(MOTIONS), p=weights / weights.sum()))]

    def _turn_inward(self, start_s: float, x: float, y: float, yaw: float) -> Segment:
        """Turn on the spot until the middle of the arena lies roughly ahead."""
        turn = (atan2(-y, -x) - yaw + pi) % (2 * pi) - pi
        turn += radians(self._random.uniform(-35, 35))
        turn = turn if abs(turn) > radians(40) else radians(40) * (1 if turn >= 0 else -1)
        duration = abs(turn) / radians(self._random.uniform(18, 32))
        motion: MotionName = "turning left" if turn > 0 else "turning right"
        return Segment(motion, start_s, max(3.0, duration), x, y, yaw, turn_rad=turn)


def _room_ahead_m(x: float, y: float, yaw: float) -> float:
    """Return the distance straight ahead to the edge of the roaming circle."""
    along, across = x * cos(yaw) + y * sin(yaw), y * cos(yaw) - x * sin(yaw)
    return max(0.0, float(np.sqrt(max(0.0, ROAM_RADIUS_M**2 - across**2))) - along)


def _path(segment: Segment) -> Floats:
    """Integrate the ground track, [n, 2] in metres, evenly spaced in time."""
    n = int(np.ceil(segment.duration_s / _GRID_S)) + 1
    tau = np.linspace(0.0, segment.duration_s, n)
    state = attitude(segment, tau)
    velocity = np.stack([state.speed * np.cos(state.yaw), state.speed * np.sin(state.yaw)], axis=1)
    steps = 0.5 * (velocity[1:] + velocity[:-1]) * (tau[1] - tau[0])
    track = np.zeros((n, 2))
    track[1:] = np.cumsum(steps, axis=0)
    track += np.array([segment.x_m, segment.y_m])
    return track


def rotations(angles: Floats) -> Floats:
    """Matrices [n, 3, 3] that take body vectors to the world, Rz(yaw) Ry(pitch) Rx(roll), of angles [n, 3]."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(angles).T, np.sin(angles).T
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return np.moveaxis(np.array(rows), -1, 0)
