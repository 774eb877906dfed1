"""Phase differences between the channels of a microphone array, which tell its directions and its faults. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from common.physics import SPEED_OF_SOUND_MPS

LOW_KD_RAD = 0.9
"""Up to this distance in wavelengths / 2 pi, every sound field keeps a pair's phases alike: the cosine is above 0.6."""
OPPOSITE = -0.3
"""Mean cosine at such frequencies, or less, of a pair of which one channel is inverted."""
HIGH_KD_RAD = 0.5
"""From this distance on, sound has a delay between the two, or echoes, or comes exactly from the side."""
COPIED = 0.9995
"""Mean cosine at such frequencies of channels that carry one signal: noise is 30 dB below it, and there is no echo."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """All pairs of microphones, by the channels that they have."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]

    @classmethod
    def of(cls, channels: int) -> Pairs:
        """Those of so many channels, P = channels (channels - 1) / 2."""
        return cls(*np.triu_indices(channels, 1))


@dataclass(frozen=True)
class PhaseDifferences:
    """Of one stretch of sound."""

    phasors: NDArray[np.complex64]
    """[P, F], mean over time of exp(i phase difference), each moment weighted by its energy at that frequency."""
    energy: NDArray[np.float32]
    """[F], sums to 1; all 0 in silence."""
    scatter: float
    """Expected mean of |phasor|^2 where phases are random: one over the number of moments that carry energy."""

    @cached_property
    def stacked(self) -> NDArray[np.float32]:
        """[2 P F], all real parts and then all imaginary ones."""
        flat = self.phasors.ravel()
        return np.concatenate([flat.real, flat.imag])


def phase_differences(signal: NDArray[np.float32], frame: int, bins: slice, pairs: Pairs) -> PhaseDifferences:
    """Return the phase differences of a signal [n, m], n >= `frame`, at some bins of spectra of `frame` samples.

    Channels are taken less their mean; the level of the whole does not matter.
    """
    channels = np.array(signal.T, order="C")  # a copy: the caller's array stays as it is
    channels -= channels.mean(axis=1, dtype=np.float64)[:, None].astype(np.float32)
    channels /= max(float(np.abs(channels).max()), 1e-30)
    frames = np.lib.stride_tricks.sliding_window_view(channels, frame, axis=1)[:, :: frame // 2]
    # In float64 NumPy's transform takes a third of the time that it takes in float32.
    spectra = np.fft.rfft(frames * _window(frame), axis=2)[:, :, bins].astype(np.complex64)  # [M, T, F]
    magnitude = np.abs(spectra)
    phasors = spectra * (1.0 / np.maximum(magnitude, 1e-12))
    weight = (magnitude**2).sum(axis=0)  # [T, F]
    energy = weight.sum(axis=0)
    weight /= np.maximum(energy, 1e-20)
    weighted, opposite = phasors * weight, phasors.conj()
    mean = np.stack([(weighted[i] * opposite[j]).sum(axis=0) for i, j in zip(pairs.first, pairs.second, strict=True)])
    scatter = float((weight**2).sum(axis=0).mean())
    return PhaseDifferences(mean, energy / max(float(energy.sum()), 1e-20), scatter)


@lru_cache(maxsize=8)
def _window(frame: int) -> NDArray[np.float64]:
    return np.hanning(frame + 1)[:-1]


class FieldLimits:
    """What no field of sound does to a pair of microphones, whatever sounds from wherever."""

    def __init__(self, mics_m: NDArray[np.float64], pairs: Pairs, f_hz: NDArray[np.floating]) -> None:
        """`mics_m` [M, 3], `f_hz` [F]."""
        distance_m = np.linalg.norm(mics_m[pairs.first] - mics_m[pairs.second], axis=1)
        kd_rad = 2.0 * np.pi * f_hz * distance_m[:, None] / SPEED_OF_SOUND_MPS  # [P, F]
        self._low, self._high = (np.asarray(of, np.float32) for of in (kd_rad <= LOW_KD_RAD, kd_rad >= HIGH_KD_RAD))

    def low_cosine(self, measured: PhaseDifferences) -> NDArray[np.floating]:
        """Return the mean cosine of each pair at low frequencies, NaN for microphones too far apart for the band."""
        return _mean_cosine(measured, self._low)

    def copied(self, measured: PhaseDifferences) -> NDArray[np.bool_]:
        """Return which pairs carry one signal without a delay."""
        copied: NDArray[np.bool_] = _mean_cosine(measured, self._high) >= COPIED
        return copied

    def broken(self, measured: PhaseDifferences) -> bool:
        """Return whether this is not a field of sound: all channels are one signal, or some are inverted."""
        return bool(self.copied(measured).all() or (self.low_cosine(measured) <= OPPOSITE).any())


def _mean_cosine(measured: PhaseDifferences, where: NDArray[np.float32]) -> NDArray[np.floating]:
    """Of each pair, over those bins [P, F] that are 1, by their energy; NaN for a pair without any."""
    total = where @ measured.energy
    sums = np.einsum("pf,pf,f->p", measured.phasors.real, where, measured.energy)
    cosine: NDArray[np.floating] = np.divide(sums, total, where=total > 0.0, out=np.full_like(sums, np.nan))
    return cosine
