"""The things of a scene: which there are, where they stand, and how those that move do so."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

from world.kinds import KINDS, SILENT, SOUNDING, Kind

Floats = NDArray[np.float64]
_EMITTER_HEIGHT = 0.6
"""Height at which sound leaves a thing, as a fraction of its height."""


@dataclass(frozen=True)
class Thing:
    """One thing. `home_m` is the place (x, y, height of its foot above the ground) about which it moves."""

    index: int
    kind: Kind
    home_m: tuple[float, float, float]
    height_m: float
    surface_c: float
    """Surface temperature of its warmest part."""
    reach_m: tuple[float, float, float]
    rate_hz: tuple[float, float, float]
    phase: tuple[float, float, float]
    mirrored: bool

    def feet_m(self, t_s: Floats) -> Floats:
        """World positions of the middle of its foot at n times, [n, 3]."""
        angle = 2 * pi * np.multiply.outer(t_s, self.rate_hz) + self.phase
        positions: Floats = np.asarray(self.home_m) + np.asarray(self.reach_m) * np.sin(angle)
        return positions

    def emitter_m(self, t_s: Floats) -> Floats:
        """World positions from which its sound comes at n times, [n, 3]."""
        positions = self.feet_m(t_s)
        positions[:, 2] += _EMITTER_HEIGHT * self.height_m
        return positions


def place_things(seed: int, air_c: float) -> tuple[Thing, ...]:
    """Choose six to nine things of different kinds and spread them in angle about the middle of the arena."""
    random = np.random.default_rng([seed, 104])
    count = int(random.integers(6, 10))
    silent = int(random.integers(1, 3))
    names = [*random.permutation(SOUNDING)[: count - silent], *random.permutation(SILENT)[:silent]]
    slots = random.permutation(count) + random.uniform(-0.22, 0.22, count) + random.random()
    return tuple(
        _place(random, index, KINDS[str(name)], 2 * pi * float(slot) / count, air_c)
        for index, (name, slot) in enumerate(zip(names, slots, strict=True))
    )


def _place(random: np.random.Generator, index: int, kind: Kind, angle: float, air_c: float) -> Thing:
    radius = float(random.uniform(3.0, 4.3))
    height = float(random.uniform(*kind.height_m))
    surface = float(random.uniform(*kind.surface_c)) + (0.0 if kind.heated else air_c)
    foot, reach = 0.0, (0.0, 0.0, 0.0)
    if kind.moves == "wanders":
        reach = (float(random.uniform(0.2, 0.4)), float(random.uniform(0.2, 0.4)), 0.0)
    elif kind.moves == "flies":
        foot = float(random.uniform(0.7, 1.2))
        reach = (float(random.uniform(0.2, 0.5)), float(random.uniform(0.2, 0.5)), 0.2)
    rates = random.uniform(0.04, 0.11, 3)
    phases = random.uniform(0.0, 2 * pi, 3)
    return Thing(
        index,
        kind,
        (radius * cos(angle), radius * sin(angle), foot),
        height,
        surface,
        reach,
        (float(rates[0]), float(rates[1]), float(rates[2])),
        (float(phases[0]), float(phases[1]), float(phases[2])),
        bool(random.random() < 0.5),
    )
