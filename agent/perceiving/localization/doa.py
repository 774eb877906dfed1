"""Direction of arrival of the loudest sound from a small microphone array: SRP-PHAT.

Steered response power with phase transform (DiBiase, 2000): each microphone's spectrum is reduced to its phase, the
phase differences of all pairs are averaged over time, and the direction whose plane wave would give those differences
is looked up on a grid. Three things are added. Averages over time are weighted by energy, per frequency, so that a
bark in a quiet window decides and the silence around it does not. The part of the phase differences that a diffuse
field explains is fitted and taken out (`plane_waves`), so that room noise is not mistaken for a source overhead, and
what is left is the share that arrives as ONE plane wave: the confidence. And a second plane wave is fitted beside the
first: two sources are not taken for one between them, nor the echo off a ceiling for the elevation of the source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.microphone_array import ELEVATION_STEP_DEG, band_of, checked_positions, unambiguous_half
from agent.phase_differences import FieldLimits, Pairs, PhaseDifferences, phase_differences
from agent.plane_waves import PlaneWaves, TwoWaves, breadth, unit_vectors

# Noise alone is refused by two limits on the share of sound that arrives as one plane wave, whichever is higher;
# benchmarks/doa.py prints the shares of noise and of sources on which they stand.
MIN_SHARE = 0.03
MIN_SIGMAS = 5.0  # of the share's standard deviation when phases are random, which grows when few frames carry energy
LINE_SIGMAS = 8.0  # on a line of more than two, where pairs of one distance hear much the same of a diffuse field

AZIMUTH_STEP_DEG = 5.0
"""Of the grid; a parabola finds the place between its points."""

# Two plane waves are two sources, rather than a source and its echo or one low sound, by these limits.
TWO_APART_DEG = 20.0
"""Closer, an array of a hand's size hears one."""
TWO_RATIO = 0.6
"""Least share of the weaker, against the stronger."""
TWO_GAIN = 0.1
"""Least part of what both explain that one alone does not."""
TWO_GAIN_COHERENT = 0.03
"""The same of waves that are as coherent as the sound."""
CLOSE_DEG = 45.0
CLOSE_GAIN = 0.07
"""In place of the last two, for sources so close that one wave between them explains much of both."""
CLOSE_BREADTH = 0.8
"""Least breadth of their spectrum: a sound with all frequencies is not a low one."""
DOUBT = 2.0
"""Factor on the part that only a second wave explains, which comes off the confidence."""
UNRESOLVED = 0.5
"""Factor on the confidence of one direction where there may be two sources."""
ONE_WAVE_DEG = 10.0
"""Distance in azimuth at which the stronger of two waves is the one that was found alone."""
BARRED = np.float32(-1e3)
"""In place of what is measured, for directions that are reported as their mirror image: no wave has it."""
ECHO_APART_DEG = 30.0
"""Least angle between a source and an echo that pulls its elevation."""


@dataclass(frozen=True, slots=True)
class Direction:
    """Direction of the sound in the body frame (ROS REP-103: x forward, y left, z up)."""

    azimuth_deg: float  # 0 ahead, positive to the left, -180..180
    elevation_deg: float  # positive up
    confidence: float  # 0..1: share of the sound that is one plane wave from there, less twice what a second one adds
    spread_deg: float  # width in azimuth of the peak, at half its height over the mean
    ambiguous: bool  # the array cannot tell this azimuth from its mirror image


class DirectionFinder:
    """Finds one direction per window, for one array.

    What an array cannot tell apart is reported on one side:
    - microphones in a horizontal plane: elevation is >= 0 (up and down look the same);
    - microphones in a vertical plane: the front half (x >= 0), `ambiguous` is set;
    - microphones on a line, so also any two: azimuth only (elevation 0), on the half that holds straight ahead, or the
      left one when the line itself points ahead; `ambiguous` is set.

    The confidence of a source in the open is 0.6-1 at 20 dB and 0.1-0.8 at 5 dB signal-to-noise ratio, least for low
    sounds; with 0.3 s of reverberation 0.3-0.4 at 20 dB and 0.1-0.3 at 5 dB; with 0.6 s 0.1-0.2 and 0.02-0.15.
    Of two equal sources that are 60 degrees apart or more one is given, with hardly any confidence; from 30 degrees on,
    with half of it, if both have a broad spectrum. Of two low or tonal sounds that close, the answer may be the middle,
    and two microphones never tell two sources.
    None is the answer where one plane wave has less than 0.03 of the sound, or less than 5 times what random phases
    give where a short sound leaves few frames to average (0.1 for a burst of 10 ms): for noise, diffuse or independent
    at each microphone, in all but a few windows of a hundred.

    On a robot that turns, the answer belongs to the moment when the sound was loudest.

    Plane waves are computed once, here; they take 8 MB for 4 microphones and grow with their number squared.
    """

    def __init__(
        self,
        mic_positions_m: NDArray[np.floating],
        rate_hz: float,
        *,
        band_hz: tuple[float, float] = (300.0, 5000.0),
    ) -> None:
        """`mic_positions_m` [m, 3], m >= 2, in the body frame. Raises ValueError for an array or band that gives no
        direction.
        """
        mics_m = checked_positions(mic_positions_m)
        self._pairs = Pairs.of(len(mics_m))
        self._mics = len(mics_m)
        self._frame, self._bins = band_of(rate_hz, band_hz)
        f_hz = np.fft.rfftfreq(self._frame, 1.0 / rate_hz)[self._bins]

        self._azimuth_deg = np.arange(-180.0, 180.0, AZIMUTH_STEP_DEG)
        self._elevation_deg, half, self._ambiguous = unambiguous_half(mics_m)
        self._min_sigmas = LINE_SIGMAS if len(self._elevation_deg) == 1 and self._mics > 2 else MIN_SIGMAS
        towards = unit_vectors(self._azimuth_deg, self._elevation_deg)
        self._shape = towards.shape[:2]
        self._outside = (towards @ half < -1e-6).ravel()  # directions that are reported as their mirror image
        self._limits = FieldLimits(mics_m, self._pairs, f_hz)
        self._towards = towards.reshape(-1, 3)
        self._waves = PlaneWaves(mics_m, self._pairs, f_hz, self._towards)

    def find(self, audio: NDArray[np.floating]) -> Direction | None:
        """The direction of the dominant source in `audio` [n, m], or None: silence, noise without a direction, or
        channels that do not hear a field of sound, since they carry one signal or one of them is inverted.

        A window of 1-2 s is meant; the least is two frames of 32 ms. Raises ValueError for NaN or infinity, another
        number of channels, or fewer samples.
        """
        measured = phase_differences(self._checked(audio), self._frame, self._bins, self._pairs)
        if self._limits.broken(measured):
            return None
        projected = np.where(self._outside, BARRED, self._waves.project(measured.stacked))
        fit = np.where(self._outside, -np.inf, self._waves.fit(projected))
        best = int(fit.argmax())
        share = self._waves.share(projected, best)
        if share < max(MIN_SHARE, self._min_sigmas * self._waves.sigma(measured.scatter)):
            return None
        level = best % self._shape[1]
        row = slice(level, len(projected), self._shape[1])
        along = fit[row]
        alone = np.where(self._outside[row], -np.inf, self._waves.alone(measured, row))
        in_the_open = bool(alone.max() >= 1.0)
        if in_the_open:  # low waves are like the diffuse field, which is better left out there
            along, best = alone, level + self._shape[1] * int(alone.argmax())
        elevation_deg, doubt = self._elevation(fit, best), 0.0
        two = self._waves.two(projected, row)
        if two is not None:
            # The part of what is explained that only a second wave explains: no direction is sure while it is large.
            gain = max(0.0, 1.0 - self._waves.explained(projected, best) / two.explained)
            stronger = self._waves.fit(self._waves.less(projected, two.points[1], two.shares[1]))
            stronger[self._outside] = -np.inf
            doubt = DOUBT * gain
            unresolved = self._may_be_sources(two, gain)
            if unresolved and not in_the_open and self._are_sources(measured, best, two, gain):
                best, share, unresolved = two.points[0], two.shares[0], False
                along = stronger[best % self._shape[1] :: self._shape[1]]
            if self._apart_deg(two.points[0], best) <= ONE_WAVE_DEG and self._is_echo(two):
                elevation_deg = self._elevation(stronger, two.points[0])
            share *= UNRESOLVED if unresolved else 1.0
        return self._refined(along, best, elevation_deg, min(share, 1.0) * max(0.0, 1.0 - doubt))

    def _checked(self, audio: NDArray[np.floating]) -> NDArray[np.float32]:
        signal = np.asarray(audio, dtype=np.float32)
        if signal.ndim != 2 or signal.shape[1] != self._mics:
            raise ValueError(f"audio of shape {signal.shape} came where [n, {self._mics}] was wanted")
        if len(signal) < 2 * self._frame:
            raise ValueError(f"audio of {len(signal)} samples is too short; at least {2 * self._frame} are needed")
        if not np.isfinite(signal).all():
            raise ValueError("audio holds NaN or infinity")
        return signal

    def _may_be_sources(self, two: TwoWaves, gain: float) -> bool:
        """Return whether two waves may be two sources; they may be one low sound, too, or a source and its echo."""
        alike = two.shares[1] >= TWO_RATIO * two.shares[0]
        return self._apart_deg(*two.points) >= TWO_APART_DEG and alike and gain >= CLOSE_GAIN

    def _are_sources(self, measured: PhaseDifferences, one: int, two: TwoWaves, gain: float) -> bool:
        """Return whether two waves that may be two sources are."""
        if gain >= TWO_GAIN and self._waves.gain(measured, one, two.points) >= TWO_GAIN_COHERENT:
            return True
        apart_deg = self._apart_deg(*two.points)
        between = max(self._apart_deg(one, point) for point in two.points) < apart_deg <= CLOSE_DEG
        return between and self._mics > 2 and breadth(measured) >= CLOSE_BREADTH

    def _is_echo(self, two: TwoWaves) -> bool:
        """Return whether the weaker wave comes from so far beside the stronger that it pulls the elevation of one."""
        cosine = float(self._towards[two.points[0]] @ self._towards[two.points[1]])
        return cosine <= math.cos(math.radians(ECHO_APART_DEG))

    def _apart_deg(self, one: int, other: int) -> float:
        """Distance of two points of the grid in azimuth."""
        apart = self._azimuth_deg[one // self._shape[1]] - self._azimuth_deg[other // self._shape[1]]
        return float(abs((apart + 180.0) % 360.0 - 180.0))

    def _elevation(self, fit: NDArray[np.floating], point: int) -> float:
        """Between the points of the grid: the top of a parabola."""
        a, e = divmod(point, self._shape[1])
        elevation_deg = float(self._elevation_deg[e])
        if 0 < e < len(self._elevation_deg) - 1:
            elevation_deg += ELEVATION_STEP_DEG * _parabola_top(*fit.reshape(self._shape)[a, e - 1 : e + 2])
        return elevation_deg

    def _refined(self, along: NDArray[np.floating], point: int, elevation_deg: float, confidence: float) -> Direction:
        """Azimuth between the points of the grid, from how well those at its elevation fit: the top of a parabola."""
        a = point // self._shape[1]
        top = _parabola_top(along[a - 1], along[a], along[(a + 1) % len(along)])
        azimuth_deg = float(self._azimuth_deg[a]) + AZIMUTH_STEP_DEG * top
        finite = along[np.isfinite(along)]
        spread_deg = AZIMUTH_STEP_DEG * int((finite >= 0.5 * (finite.mean() + along[a])).sum())
        wrapped_deg = (azimuth_deg + 180.0) % 360.0 - 180.0
        return Direction(wrapped_deg, elevation_deg, confidence, spread_deg, self._ambiguous)


def _parabola_top(before: float, top: float, after: float) -> float:
    """Return the top of the parabola through three neighbours, -0.5..0.5; 0 beside the end of the grid."""
    bend = before - 2.0 * top + after
    if not np.isfinite(bend) or bend >= 0.0:
        return 0.0
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))
