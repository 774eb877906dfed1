"""Readings of an IMU that is fixed to the robot, along its trajectory."""

from __future__ import annotations

from math import pi

import numpy as np
from numpy.typing import NDArray

from world.motion import GRAVITY_MPS2, Floats, Segment, Trajectory, attitude

_STEP_S = 1e-3
_BLOCK = 256
_ACCEL_NOISE_MPS2 = 0.03
_GYRO_NOISE_RPS = 0.003
_VIBRATION_MPS2 = 0.8
"""Peak per tone at 1 m/s; what small wheeled robots on hard floors show, in order of size."""


class Imu:
    """Specific force and angular rate in the body frame, with bias, white noise and the vibration of the drive."""

    def __init__(self, seed: int, trajectory: Trajectory, rate_hz: float) -> None:
        random = np.random.default_rng([seed, 102])
        self._seed = seed
        self._trajectory = trajectory
        self._rate_hz = rate_hz
        self._bias = np.concatenate([random.normal(0.0, 0.03, 3), random.normal(0.0, 0.003, 3)])
        self._tone_hz = random.uniform(17.0, 48.0, (4, 1, 6))
        self._tone_phase = random.uniform(0.0, 2 * pi, (4, 1, 6))

    def rows(self, first: int, n: int) -> NDArray[np.float32]:
        """Rows `first` to `first + n`, [n, 6]: accelerometer m/s2 (gravity included), gyroscope rad/s."""
        # Whole blocks are computed and cut, so that rounding and noise do not depend on how rows are asked for.
        low, high = first // _BLOCK, -(-(first + n) // _BLOCK)
        rows = np.concatenate([self._block(block) for block in range(low, high)]) if n else np.empty((0, 6))
        offset = first - low * _BLOCK
        return rows[offset : offset + n].astype(np.float32)

    def _block(self, block: int) -> Floats:
        t_s = np.arange(block * _BLOCK, (block + 1) * _BLOCK) / self._rate_hz
        noise = np.random.default_rng([self._seed, 103, block]).standard_normal((_BLOCK, 6))
        out: Floats = noise * ([_ACCEL_NOISE_MPS2] * 3 + [_GYRO_NOISE_RPS] * 3) + self._bias
        for segment, rows in self._trajectory.split(t_s):
            clean, speed = exact(segment, t_s[rows] - segment.start_s)
            tones = np.sin(2 * pi * self._tone_hz * t_s[None, rows, None] + self._tone_phase).sum(axis=0)
            out[rows] += clean + tones * speed[:, None] * ([_VIBRATION_MPS2] * 3 + [0.03] * 3)
        return out


def exact(segment: Segment, tau: Floats) -> tuple[Floats, Floats]:
    """Noise-free IMU rows [n, 6] and speed [n], by central differences of the segment's closed forms."""
    n, h = len(tau), _STEP_S
    state = attitude(segment, np.concatenate([tau - h, tau, tau + h]))
    velocity = np.stack([state.speed * np.cos(state.yaw), state.speed * np.sin(state.yaw)])
    acceleration = np.empty((3, n))
    acceleration[:2] = (velocity[:, 2 * n :] - velocity[:, :n]) / (2 * h)
    acceleration[2] = (state.lift[2 * n :] - 2 * state.lift[n : 2 * n] + state.lift[:n]) / h**2 + GRAVITY_MPS2
    angles = np.stack([state.roll, state.pitch, state.yaw])
    roll, pitch, yaw = angles[:, n : 2 * n]
    roll_rate, pitch_rate, yaw_rate = (angles[:, 2 * n :] - angles[:, :n]) / (2 * h)
    cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    ahead = cy * acceleration[0] + sy * acceleration[1]
    left = cy * acceleration[1] - sy * acceleration[0]
    up = acceleration[2]
    force_x, rest = cp * ahead - sp * up, sp * ahead + cp * up
    rows = [
        force_x,
        cr * left + sr * rest,
        cr * rest - sr * left,
        roll_rate - sp * yaw_rate,
        cr * pitch_rate + sr * cp * yaw_rate,
        cr * cp * yaw_rate - sr * pitch_rate,
    ]
    return np.stack(rows, axis=1), state.speed[n : 2 * n]
