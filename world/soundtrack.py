"""Sound at the microphone array: the episodes of the schedule, propagated, and background noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from common.physics import SPEED_OF_SOUND_MPS
from world.acoustics import NEAREST_M, BackgroundNoise, Walls, key_points, propagate
from world.motion import Trajectory, rotations
from world.schedule import Episode, Schedule
from world.sounds import synthesise
from world.things import Thing

NOISE_RMS = 0.003
"""14 dB below a thing that sounds 6 m away."""
LOUDNESS_S = 0.5
_BLOCK = 3200
_LONGEST_DELAY_S = 0.2
_SIDE_M = 0.0646

MIC_POSITIONS_M: NDArray[np.float64] = 0.5 * _SIDE_M * np.array([[1.0, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0]])
"""Front left, front right, rear left, rear right, in the body frame."""


class Soundtrack:
    """The audio of one scene, as absolute samples since it began."""

    def __init__(
        self,
        seed: int,
        things: tuple[Thing, ...],
        trajectory: Trajectory,
        schedule: Schedule,
        rate_hz: int,
        walls: Walls | None,
    ) -> None:
        self._seed = seed
        self._things = things
        self._trajectory = trajectory
        self._schedule = schedule
        self._rate_hz = rate_hz
        self._walls = walls
        self._noise = BackgroundNoise(seed, MIC_POSITIONS_M, NOISE_RMS, rate_hz=float(rate_hz))
        self._waveform = lru_cache(maxsize=4)(self._synthesise)
        self._block = lru_cache(maxsize=4)(self._render)

    def samples(self, first: int, n: int) -> NDArray[np.float32]:
        """Samples `first` to `first + n`, [n, mics]."""
        # Whole blocks are rendered and cut, so that rounding does not depend on how samples are asked for.
        low, high = first // _BLOCK, -(-(first + n) // _BLOCK)
        blocks = [self._block(block) for block in range(low, high)]
        rows = np.concatenate(blocks) if blocks else np.empty((0, len(MIC_POSITIONS_M)), np.float32)
        return rows[first - low * _BLOCK : first - low * _BLOCK + n].copy()

    def loudness(self, thing: Thing, t_s: float, distance_m: float) -> float:
        """RMS at the array of a thing's sound over the LOUDNESS_S seconds before `t_s`, reflections left out."""
        heard_s = t_s - distance_m / SPEED_OF_SOUND_MPS
        power = 0.0
        for episode in self._schedule.between(heard_s - LOUDNESS_S, heard_s):
            if episode.thing == thing.index:
                last = round((heard_s - episode.start_s) * self._rate_hz)
                heard = self._waveform(episode)[max(0, last - round(LOUDNESS_S * self._rate_hz)) : max(0, last)]
                power += float(np.square(heard, dtype=np.float64).sum()) / (LOUDNESS_S * self._rate_hz)
        return float(np.sqrt(power)) / max(distance_m, NEAREST_M)

    def _render(self, block: int) -> NDArray[np.float32]:
        first = block * _BLOCK
        start_s, stop_s = first / self._rate_hz, (first + _BLOCK) / self._rate_hz
        out = self._noise.read(first, _BLOCK)
        episodes = self._schedule.between(start_s - _LONGEST_DELAY_S, stop_s)
        if not episodes:
            return out
        t_s = key_points(first, _BLOCK) / self._rate_hz
        poses = self._trajectory.pose(t_s)
        mics = poses[:, None, :3] + np.einsum("nij,mj->nmi", rotations(poses[:, 3:]), MIC_POSITIONS_M)
        for episode in episodes:
            source = self._things[episode.thing].emitter_m(t_s)
            begin = round(episode.start_s * self._rate_hz)
            out += propagate(
                self._waveform(episode), begin, source, mics, first, _BLOCK, rate_hz=self._rate_hz, walls=self._walls
            )
        return out

    def _synthesise(self, episode: Episode) -> NDArray[np.float32]:
        random = np.random.default_rng([self._seed, 113, episode.index])
        kind = self._things[episode.thing].kind.name
        return synthesise(kind, random, episode.stop_s - episode.start_s, self._rate_hz)
