"""Direction of arrival of the loudest sound from a small microphone array: SRP-PHAT.

Steered response power with phase transform (DiBiase, 2000): each microphone's spectrum is reduced to its phase, the
phase differences of all pairs are averaged over time, and the direction whose plane wave would give those differences
is looked up on a grid. Two things are added. Averages over time are weighted by energy, per frequency, so that a
bark in a quiet window decides and the silence around it does not. And the part of the phase differences that a
diffuse field explains, sound from all sides with coherence sin(kd)/(kd), is fitted and taken out, so that room noise
is not mistaken for a source overhead, and what is left is the share that arrives as ONE plane wave: the confidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.microphone_array import ELEVATION_STEP_DEG, band_of, checked_positions, unambiguous_half
from common.physics import SPEED_OF_SOUND_MPS

# Noise alone is refused by two limits on the share of sound that arrives as one plane wave, whichever is higher;
# benchmarks/doa.py prints the shares of noise and of sources on which they stand.
MIN_SHARE = 0.03
MIN_SIGMAS = 8.0  # of the share's standard deviation when phases are random, which grows when few frames carry energy

AZIMUTH_STEP_DEG = 5.0
"""Of the grid; a parabola finds the place between its points."""


@dataclass(frozen=True, slots=True)
class Direction:
    """Direction of the sound in the body frame (ROS REP-103: x forward, y left, z up)."""

    azimuth_deg: float  # 0 ahead, positive to the left, -180..180
    elevation_deg: float  # positive up
    confidence: float  # 0..1: share of the sound that arrives as one plane wave from there
    spread_deg: float  # width in azimuth of the peak, at half its height over the mean
    ambiguous: bool  # the array cannot tell this azimuth from its mirror image
    t_ns: int = 0  # capture time of the sound that it was estimated from: the mean, weighted by energy


class DirectionFinder:
    """Finds one direction per window, for one array.

    What an array cannot tell apart is reported on one side:
    - microphones in a horizontal plane: elevation is >= 0 (up and down look the same);
    - microphones in a vertical plane: the front half (x >= 0), `ambiguous` is set;
    - microphones on a line, so also any two: azimuth only (elevation 0), on the half that holds straight ahead, or the
      left one when the line itself points ahead; `ambiguous` is set.

    The confidence of a source in the open is 0.8-1 at 20 dB and 0.2-0.9 at 5 dB signal-to-noise ratio, least for low
    sounds; with 0.3 s of reverberation 0.3-0.6 at 20 dB and 0.1-0.5 at 5 dB; with 0.6 s 0.2-0.3 and 0.06-0.3. Noise
    without a source, diffuse or independent at each microphone, stays below 0.02 in 2 s. None is the answer below
    0.03, or below 8 times what random phases give where a short sound leaves few frames to average (0.17 for a burst
    of 10 ms).

    In rooms, echoes off floor and ceiling pull the elevation by 10-25 degrees; the azimuth is little touched. On a
    robot that turns, the answer belongs to the moment when the sound was loudest.

    Steering vectors are computed once, here; they take 5 MB for 4 microphones and grow with their number squared.
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
        self._mics = len(mics_m)
        self._frame, self._bins = band_of(rate_hz, band_hz)
        self._window = np.hanning(self._frame + 1)[:-1].astype(np.float32)
        f_hz = np.fft.rfftfreq(self._frame, 1.0 / rate_hz)[self._bins]

        self._azimuth_deg = np.arange(-180.0, 180.0, AZIMUTH_STEP_DEG)
        self._elevation_deg, half, self._ambiguous = unambiguous_half(mics_m)
        azimuth, elevation = np.meshgrid(np.radians(self._azimuth_deg), np.radians(self._elevation_deg), indexing="ij")
        towards = np.stack(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=-1
        )  # [A, E, 3]
        self._outside = towards @ half < -1e-6  # [A, E] directions that are reported as their mirror image

        self._first, self._second = np.triu_indices(self._mics, 1)
        apart_m = mics_m[self._first] - mics_m[self._second]  # [P, 3]
        lead_s = towards.reshape(-1, 3) @ apart_m.T / SPEED_OF_SOUND_MPS  # [A * E, P] first hears it before second
        phase = 2.0 * np.pi * lead_s[:, :, None] * f_hz  # [A * E, P, F]
        self._size = phase[0].size
        self._steering = np.concatenate(
            [np.cos(phase).reshape(len(phase), -1), np.sin(phase).reshape(len(phase), -1)], axis=1, dtype=np.float32
        )  # [A * E, 2 P F], real and imaginary parts
        diffuse = np.sinc(2.0 * f_hz * np.linalg.norm(apart_m, axis=1)[:, None] / SPEED_OF_SOUND_MPS)  # [P, F]
        self._diffuse = np.concatenate([diffuse.ravel(), np.zeros(self._size)]).astype(np.float32)
        self._diffuse_power = float(np.mean(diffuse**2))
        self._overlap = (self._steering @ self._diffuse) / self._size  # [A * E] of a plane wave with the diffuse field

    def find(self, audio: NDArray[np.floating]) -> Direction | None:
        """The direction of the dominant source in `audio` [n, m], or None: silence, noise without a direction, or
        channels that are copies of each other.

        A window of 1-2 s is meant; the least is two frames of 32 ms. Raises ValueError for NaN or infinity, another
        number of channels, or fewer samples.
        """
        measured = self._phase_differences(self._checked(audio))
        if measured is None:
            return None
        differences, sigma = measured
        # Least-squares fit of a * diffuse field + share * plane wave to the phase differences, for every direction.
        power = (self._steering @ differences) / self._size
        diffuse = float(differences @ self._diffuse) / self._size
        unexplained = np.maximum(1.0 - self._overlap**2 / self._diffuse_power, 0.05)
        residual = power - self._overlap * (diffuse / self._diffuse_power)
        shape = (len(self._azimuth_deg), len(self._elevation_deg))
        fit = np.where(self._outside, -np.inf, (residual / np.sqrt(unexplained)).reshape(shape))
        a, e = (int(i) for i in np.unravel_index(int(fit.argmax()), shape))
        share = float((residual / unexplained).reshape(shape)[a, e])
        if share < max(MIN_SHARE, MIN_SIGMAS * sigma):
            return None
        return self._refined(fit, a, e, min(share, 1.0))

    def _checked(self, audio: NDArray[np.floating]) -> NDArray[np.float32]:
        signal = np.asarray(audio, dtype=np.float32)
        if signal.ndim != 2 or signal.shape[1] != self._mics:
            raise ValueError(f"audio of shape {signal.shape} came where [n, {self._mics}] was wanted")
        if len(signal) < 2 * self._frame:
            raise ValueError(f"audio of {len(signal)} samples is too short; at least {2 * self._frame} are needed")
        if not np.isfinite(signal).all():
            raise ValueError("audio holds NaN or infinity")
        return signal

    def _phase_differences(self, signal: NDArray[np.float32]) -> tuple[NDArray[np.float32], float] | None:
        """Energy-weighted mean over time of exp(i phase difference), [2 P F] as real and imaginary parts, and the
        standard deviation that noise with random phases gives to its product with a steering vector.
        """
        offsets = signal.mean(axis=0, dtype=np.float64).astype(np.float32)
        channels = np.subtract(signal.T, offsets[:, None], order="C")  # a copy: the caller's array stays as it is
        if (channels == channels[0]).all():  # silence, or one microphone copied to all channels
            return None
        channels /= np.abs(channels).max()
        frames = np.lib.stride_tricks.sliding_window_view(channels, self._frame, axis=1)[:, :: self._frame // 2]
        spectra = np.fft.rfft(frames * self._window, axis=2)[:, :, self._bins]  # [M, T, F]
        magnitude = np.abs(spectra)
        phasors = spectra / np.maximum(magnitude, 1e-12)
        weight = (magnitude**2).sum(axis=0)  # [T, F]
        weight /= np.maximum(weight.sum(axis=0), 1e-20)
        by_bin = phasors.transpose(2, 0, 1)  # [F, M, T]
        mean = (by_bin * weight.T[:, None, :]) @ by_bin.conj().transpose(0, 2, 1)  # [F, M, M]
        pairs = mean[:, self._first, self._second].T.ravel()  # [P F]
        sigma = float(np.sqrt((weight**2).sum(axis=0).mean() / (2.0 * self._size)))
        return np.concatenate([pairs.real, pairs.imag]).astype(np.float32), sigma

    def _refined(self, fit: NDArray[np.float64], a: int, e: int, share: float) -> Direction:
        """Between the grid points: the top of a parabola in azimuth and in elevation."""
        row = fit[:, e]
        azimuth = self._azimuth_deg[a] + AZIMUTH_STEP_DEG * _parabola_top(row[a - 1], row[a], row[(a + 1) % len(row)])
        elevation = self._elevation_deg[e]
        if 0 < e < len(self._elevation_deg) - 1:
            elevation += ELEVATION_STEP_DEG * _parabola_top(fit[a, e - 1], fit[a, e], fit[a, e + 1])
        finite = row[np.isfinite(row)]
        spread = AZIMUTH_STEP_DEG * int((finite >= 0.5 * (finite.mean() + row[a])).sum())
        wrapped = (azimuth + 180.0) % 360.0 - 180.0
        return Direction(float(wrapped), float(elevation), share, float(spread), self._ambiguous)


def _parabola_top(before: float, top: float, after: float) -> float:
    """Return the top of the parabola through three neighbours, -0.5..0.5; 0 beside the end of the grid."""
    bend = before - 2.0 * top + after
    if not np.isfinite(bend) or bend >= 0.0:
        return 0.0
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))
