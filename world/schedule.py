"""Schedule of sounds: episodes with quiet between them, mostly one at a time, about half of them by a thing in view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from world.motion import Trajectory, rotations
from world.things import Thing

EPISODE_S = (3.0, 8.0)
GAP_S = (3.0, 6.0)
_WANT_IN_VIEW = 0.7
_OVERLAP_CHANCE = 0.12
_OVERLAP_S = (1.5, 2.5)
_PROPOSALS = 12
_HALF_FIELD_DEG = 36.0
"""Half of the default camera's field of view, less a margin. Sound never depends on a camera's options."""
_SUITED = 0.9


@dataclass(frozen=True, slots=True)
class Episode:
    """A thing sounds from `start_s` to `stop_s`; `index` numbers the scene's episodes."""

    index: int
    thing: int
    start_s: float
    stop_s: float

    def overlap_s(self, start_s: float, stop_s: float) -> float:
        """Return the overlap with an interval in seconds."""
        return max(0.0, min(self.stop_s, stop_s) - max(self.start_s, start_s))


class Schedule:
    """The episodes of one scene, made in order and kept; unbounded in time."""

    def __init__(self, seed: int, things: tuple[Thing, ...], trajectory: Trajectory) -> None:
        self._random = np.random.default_rng([seed, 112])
        self._things = tuple(thing for thing in things if thing.kind.sound is not None)
        self._trajectory = trajectory
        self._uses = dict.fromkeys((thing.index for thing in self._things), 0)
        self._episodes: list[Episode] = []
        self._quiet_from_s = -float(self._random.uniform(0.0, 3.0))

    def between(self, start_s: float, stop_s: float) -> list[Episode]:
        """The episodes that sound within an interval, by start."""
        while self._quiet_from_s < stop_s:
            self._append()
        return [episode for episode in self._episodes if episode.start_s < stop_s and episode.stop_s > start_s]

    def _append(self) -> None:
        want_in_view = self._random.random() < _WANT_IN_VIEW
        thing, start, stop = self._propose(want_in_view)
        self._episodes.append(Episode(len(self._episodes), thing.index, start, stop))
        if self._random.random() < _OVERLAP_CHANCE:
            other = self._least_used([each for each in self._things if each.index != thing.index])
            begin = stop - float(self._random.uniform(*_OVERLAP_S))
            end = begin + float(self._random.uniform(*EPISODE_S))
            self._episodes.append(Episode(len(self._episodes), other.index, begin, end))
            stop = max(stop, end)
        self._quiet_from_s = stop

    def _propose(self, want_in_view: bool) -> tuple[Thing, float, float]:
        """Look ahead along the trajectory for a stretch of time that a thing spends in view, or out of it."""
        unsuited = []
        for _ in range(_PROPOSALS):
            start = self._quiet_from_s + float(self._random.uniform(*GAP_S))
            stop = start + float(self._random.uniform(*EPISODE_S))
            shares = self._shares_in_view(start, stop)
            scores = shares if want_in_view else 1.0 - shares
            suited = [thing for thing, score in zip(self._things, scores, strict=True) if score >= _SUITED]
            if suited:
                return self._least_used(suited), start, stop
            unsuited.append((float(scores.max()), self._things[int(scores.argmax())], start, stop))
        _, thing, start, stop = max(unsuited, key=lambda proposal: proposal[0])
        return self._least_used([thing]), start, stop

    def _least_used(self, things: list[Thing]) -> Thing:
        weights = np.array([1.0 / (1.0 + self._uses[thing.index]) ** 2 for thing in things])
        thing = things[int(self._random.choice(len(things), p=weights / weights.sum()))]
        self._uses[thing.index] += 1
        return thing

    def _shares_in_view(self, start_s: float, stop_s: float) -> NDArray[np.float64]:
        """Return the fraction of an interval that each sounding thing spends before the camera."""
        t_s = np.linspace(max(start_s, 0.0), stop_s, 13)
        poses = self._trajectory.pose(t_s)
        turned = rotations(poses[:, 3:])
        away = [off_axis_deg(thing.emitter_m(t_s) - poses[:, :3], turned) for thing in self._things]
        shares: NDArray[np.float64] = np.mean(np.array(away) < _HALF_FIELD_DEG, axis=1)
        return shares


def off_axis_deg(offsets_m: NDArray[np.float64], body_to_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """Absolute azimuth [n] of world offsets [n, 3] seen from bodies turned by [n, 3, 3]."""
    body = np.einsum("nji,nj->ni", body_to_world, offsets_m)
    away: NDArray[np.float64] = np.degrees(np.abs(np.arctan2(body[:, 1], body[:, 0])))
    return away
