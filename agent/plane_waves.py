"""Least-squares fit of plane waves to phase differences, for every direction of a grid at once. Pure.

What is measured is taken for a sum: a diffuse field, sound from all sides with coherence sin(kd)/(kd), and one or two
plane waves, each with its share. The share of the diffuse field is fitted and taken out beforehand ("projected"), so
that what remains for a direction is a product with its wave, and for two a system of two equations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.phase_differences import Pairs, PhaseDifferences
from common.physics import SPEED_OF_SOUND_MPS

LEAST_APART = 0.05
"""Least of two waves, or of a wave and the diffuse field, that can be told apart: 1 less their squared cosine."""
ROUNDS = 2
"""Of moving either of two waves over the whole grid."""


def unit_vectors(azimuth_deg: NDArray[np.float64], elevation_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the directions of a grid, [A, E, 3], x forward, y left, z up."""
    azimuth, elevation = np.meshgrid(np.radians(azimuth_deg), np.radians(elevation_deg), indexing="ij")
    flat = np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=-1)


@dataclass(frozen=True, slots=True)
class TwoWaves:
    """The two plane waves that together explain most: points of the grid, the stronger first."""

    points: tuple[int, int]
    shares: tuple[float, float]
    explained: float
    """Squared length of their sum, as `PlaneWaves.explained` gives it of one."""


class PlaneWaves:
    """The plane waves of D directions at an array, and the diffuse field; takes 8 D P F + 8 D^2 bytes."""

    def __init__(
        self,
        mics_m: NDArray[np.float64],
        pairs: Pairs,
        f_hz: NDArray[np.floating],
        towards: NDArray[np.float64],
    ) -> None:
        """`mics_m` [M, 3], `f_hz` [F], unit vectors `towards` [D, 3]."""
        apart_m = mics_m[pairs.first] - mics_m[pairs.second]  # [P, 3]
        lead_s = towards @ apart_m.T / SPEED_OF_SOUND_MPS  # [D, P] first hears it before second
        phase = 2.0 * np.pi * lead_s[:, :, None] * f_hz  # [D, P, F]
        self._size = phase[0].size
        self._steering = np.concatenate(
            [np.cos(phase).reshape(len(phase), -1), np.sin(phase).reshape(len(phase), -1)], axis=1, dtype=np.float32
        )  # [D, 2 P F], real and imaginary parts
        diffuse = np.sinc(2.0 * f_hz * np.linalg.norm(apart_m, axis=1)[:, None] / SPEED_OF_SOUND_MPS)  # [P, F]
        self._diffuse = np.concatenate([diffuse.ravel(), np.zeros(self._size)]).astype(np.float32)
        self._diffuse_power = float(np.mean(diffuse**2))
        self._overlap = (self._steering @ self._diffuse) / self._size  # [D] of a plane wave with the diffuse field
        alike = self._steering @ self._steering.T / self._size
        alike -= np.outer(self._overlap, self._overlap / self._diffuse_power)
        self._power = np.maximum(alike.diagonal(), LEAST_APART)  # [D] of a plane wave less the diffuse field
        powers = np.outer(self._power, self._power)
        apart = powers - alike**2
        self._alike = alike
        self._per_apart = np.divide(1.0, apart, where=apart >= LEAST_APART * powers, out=np.zeros_like(apart))

    def project(self, stacked: NDArray[np.float32]) -> NDArray[np.floating]:
        """Return the product of phase differences, as `PhaseDifferences.stacked` or columns of such, with each wave,
        both less the diffuse field: [D] or [D, columns].
        """
        diffuse = self._diffuse @ stacked / (self._size * self._diffuse_power)
        products = self._steering @ stacked / self._size
        projected: NDArray[np.floating] = products - np.multiply.outer(self._overlap, diffuse)
        return projected

    def sigma(self, scatter: float) -> float:
        """Standard deviation that random phases give to `project`; `scatter` as `PhaseDifferences` holds it."""
        return math.sqrt(scatter / (2.0 * self._size))

    def fit(self, projected: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return how well one wave explains what is measured: the length of its projection, with its sign."""
        fit: NDArray[np.floating] = (projected.T / np.sqrt(self._power)).T
        return fit

    def alone(self, measured: PhaseDifferences, row: slice) -> NDArray[np.floating]:
        """Return how well each wave of a row of the grid explains what is measured without a diffuse field, if it is as
        coherent at each frequency as the sound is: 1 or more, by the noise, for a source in the open, whatever its
        spectrum.
        """
        coherence = _coherence(measured)
        power = len(measured.phasors) * max(float(np.square(coherence).sum()), 1e-12)
        fit: NDArray[np.floating] = (
            self._steering[row] @ (measured.stacked * np.tile(coherence, 2 * len(measured.phasors))) / power
        )
        return fit

    def share(self, projected: NDArray[np.floating], point: int) -> float:
        """Return the share of one wave, if it is the only one."""
        return float(projected[point] / self._power[point])

    def explained(self, projected: NDArray[np.floating], point: int) -> float:
        """Return the squared length of one wave, if it is the only one."""
        return float(projected[point] ** 2 / self._power[point])

    def two(self, projected: NDArray[np.floating], row: slice) -> TwoWaves | None:
        """Return the two waves that explain most: of all pairs on a row of the grid, moved over the whole grid one
        after the other. None where no two with positive shares do.
        """
        first, second, explained = self._best(projected, row, row)
        everywhere = slice(0, len(projected), 1)
        for _ in range(ROUNDS):
            _, second, _ = self._best(projected, slice(first, first + 1, 1), everywhere)
            first, _, explained = self._best(projected, everywhere, slice(second, second + 1, 1))
        if not explained > 0.0:
            return None
        alike, per_apart = float(self._alike[first, second]), float(self._per_apart[first, second])
        shares = [
            float(projected[i] * self._power[j] - projected[j] * alike) * per_apart
            for i, j in ((first, second), (second, first))
        ]
        found = sorted(zip(shares, (first, second), strict=True), reverse=True)
        return TwoWaves((found[0][1], found[1][1]), (found[0][0], found[1][0]), explained)

    def less(self, projected: NDArray[np.floating], point: int, share: float) -> NDArray[np.floating]:
        """Return `projected` without the wave of one direction, [D]."""
        rest: NDArray[np.floating] = projected - share * self._alike[point]
        return rest

    def gain(self, measured: PhaseDifferences, one: int, two: tuple[int, int]) -> float:
        """Return the part of what two waves explain that one does not, if waves are as coherent at each frequency as
        the sound is: one low sound in noise is like two to waves that are coherent at all of them.

        Of one pair of microphones it is about 0: there, two waves are one of less coherence.
        """
        coherence = np.tile(_coherence(measured), 2 * len(measured.phasors))
        waves = np.stack([self._diffuse, *self._steering[[one, *two]]]) * coherence
        alike = waves @ waves.T + 1e-6 * self._size * np.eye(4)
        products = waves @ measured.stacked

        def explained(*which: int) -> float:
            chosen = list(which)
            return float(products[chosen] @ np.linalg.solve(alike[np.ix_(chosen, chosen)], products[chosen]))

        diffuse = explained(0)
        return 1.0 - (explained(0, 1) - diffuse) / max(explained(0, 2, 3) - diffuse, 1e-12)

    def _best(self, projected: NDArray[np.floating], firsts: slice, seconds: slice) -> tuple[int, int, float]:
        """Two points of the grid that explain most, and how much; 0 where no two have positive shares."""
        first, second = projected[firsts, None], projected[None, seconds]
        alike = self._alike[firsts, seconds]
        share_1 = first * self._power[None, seconds] - second * alike  # both times what keeps the waves apart
        share_2 = second * self._power[firsts, None] - first * alike
        explained = (share_1 * first + share_2 * second) * self._per_apart[firsts, seconds]
        explained *= (share_1 > 0.0) & (share_2 > 0.0)
        i, j = divmod(int(explained.argmax()), explained.shape[1])
        return firsts.start + i * firsts.step, seconds.start + j * seconds.step, float(explained[i, j])


def breadth(measured: PhaseDifferences) -> float:
    """Return the part of the band in which the sound is coherent: 1 if it is so at all frequencies alike."""
    coherence = _coherence(measured)
    return float(coherence.mean() ** 2 / max(float(np.square(coherence).mean()), 1e-12))


def _coherence(measured: PhaseDifferences) -> NDArray[np.floating]:
    """Of the sound at each frequency, [F], over all pairs, less what random phases have."""
    power = np.square(np.abs(measured.phasors)).mean(axis=0) - measured.scatter
    coherence: NDArray[np.floating] = np.sqrt(np.maximum(power, np.float32(0.0)))
    return coherence
