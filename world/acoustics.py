"""Propagation of sound from a moving source to a moving array: delay, 1/r, first reflections; and background noise.

Everything here is a function of ABSOLUTE sample indices, so that a scene gives the same bytes however its audio is
cut into chunks:

- geometry is told at key points, which stand at every multiple of `KEY_STEP` samples (`key_points` lists them);
  delay and gain are linear between them;
- an output sample is a fixed sum of `TAPS` products, added in a fixed order, of source samples found by index;
- noise is made in blocks, block k from a generator of its own, and neighbouring blocks are cross-faded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from common.physics import SPEED_OF_SOUND_MPS

KEY_STEP = 320  # samples between key points: 20 ms at 16 kHz
NEAREST_M = 0.3  # 1/r stops growing here
TAPS = 16
PHASES = 4096
NOISE_HOP = 8192


def _fractional_delays() -> NDArray[np.float32]:
    """Windowed-sinc interpolators [TAPS, PHASES + 1]: column p gives the value p / PHASES of a sample after tap
    TAPS / 2 - 1. Kaiser window with beta 5.9: flat within 0.1 % and images 60 dB down up to 3/8 of the rate.
    """
    fraction = np.arange(PHASES + 1) / PHASES
    x = np.arange(TAPS)[:, None] - (TAPS // 2 - 1) - fraction[None, :]
    window = np.i0(5.9 * np.sqrt(np.maximum(0.0, 1.0 - (x / (TAPS / 2)) ** 2))) / np.i0(5.9)
    return np.ascontiguousarray(np.sinc(x) * window, dtype=np.float32)


_INTERPOLATORS = _fractional_delays()


@dataclass(frozen=True, slots=True)
class Walls:
    """Axis-parallel reflecting planes of the world: the ground and four walls. Source and array are inside."""

    x_m: tuple[float, float]
    y_m: tuple[float, float]
    ground_z_m: float = 0.0
    wall_reflection: float = 0.5  # amplitude that a wall gives back
    ground_reflection: float = 0.6

    def images(self, position_m: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], float]]:
        """The first-order image sources of positions [k, 3]: mirrored positions and their amplitude."""
        planes = [(0, x, self.wall_reflection) for x in self.x_m]
        planes += [(1, y, self.wall_reflection) for y in self.y_m]
        planes.append((2, self.ground_z_m, self.ground_reflection))
        found = []
        for axis, plane_m, reflection in planes:
            mirrored = position_m.copy()
            mirrored[:, axis] = 2.0 * plane_m - mirrored[:, axis]
            found.append((mirrored, reflection))
        return found


def key_points(first: int, n: int) -> NDArray[np.int64]:
    """The absolute sample indices at which `propagate` wants the geometry for output samples first .. first + n - 1."""
    return np.arange(first // KEY_STEP, (first + n - 1) // KEY_STEP + 2, dtype=np.int64) * KEY_STEP


def propagate(
    source: NDArray[np.float32],
    source_first: int,
    source_position_m: NDArray[np.float64],
    mic_positions_m: NDArray[np.float64],
    first: int,
    n: int,
    *,
    rate_hz: float = 16000.0,
    walls: Walls | None = None,
) -> NDArray[np.float32]:
    """Return the sound of one source at the microphones: float32 [n, mics], samples first .. first + n - 1 of the
    timeline.

    `source` [m] is its sound one metre away, of which element 0 leaves at sample `source_first` of the same timeline;
    before and after it the source is silent. `source_position_m` [k, 3] and `mic_positions_m` [k, mics, 3] hold the
    world positions at the k `key_points(first, n)`. The source's own motion while the sound is on its way is left out:
    a delay is the distance at the time of hearing / 343 m/s. Raises ValueError where the numbers of points differ.
    """
    keys = key_points(first, n)
    mics = mic_positions_m.shape[1]
    if source_position_m.shape != (len(keys), 3) or mic_positions_m.shape != (len(keys), mics, 3):
        raise ValueError(
            f"positions of shape {source_position_m.shape} and {mic_positions_m.shape} were given for {len(keys)} key "
            f"points; wanted ({len(keys)}, 3) and ({len(keys)}, mics, 3)"
        )
    position_m = np.asarray(source_position_m, dtype=np.float64)
    out = np.zeros((mics, n), dtype=np.float32)
    paths = [(position_m, 1.0)]
    if walls is not None:
        paths += walls.images(position_m)
    for path_m, reflection in paths:
        _add_path(out, source, source_first, path_m, mic_positions_m, reflection, first, rate_hz)
    return np.ascontiguousarray(out.T)


def _add_path(
    out: NDArray[np.float32],
    source: NDArray[np.float32],
    source_first: int,
    position_m: NDArray[np.float64],
    mic_positions_m: NDArray[np.float64],
    reflection: float,
    first: int,
    rate_hz: float,
) -> None:
    """Add one straight path to out [mics, n]."""
    offset_m = mic_positions_m - position_m[:, None, :]
    distance_m = np.sqrt(offset_m[..., 0] ** 2 + offset_m[..., 1] ** 2 + offset_m[..., 2] ** 2)
    delays = distance_m * (rate_hz / SPEED_OF_SOUND_MPS)
    gains = reflection / np.maximum(distance_m, NEAREST_M)

    index = np.arange(first, first + out.shape[1], dtype=np.int64)
    heard_from, heard_to = int(delays.min()) - TAPS, int(delays.max()) + TAPS
    heard = (index >= source_first + heard_from) & (index < source_first + len(source) + heard_to)
    if not heard.any():
        return
    index = index[heard]
    segment = index // KEY_STEP - first // KEY_STEP
    weight = (index % KEY_STEP) / KEY_STEP
    # Only the stretch of the source that is heard is padded with the silence around it.
    low = int(index[0]) - heard_to - source_first
    high = int(index[-1]) - heard_from - source_first + 1
    stretch = np.zeros(high - low, dtype=np.float32)
    from_, to = max(low, 0), min(high, len(source))
    if from_ < to:
        stretch[from_ - low : to - low] = source[from_:to]

    for mic in range(out.shape[0]):
        delay = delays[segment, mic] * (1.0 - weight) + delays[segment + 1, mic] * weight
        gain = gains[segment, mic] * (1.0 - weight) + gains[segment + 1, mic] * weight
        whole = np.ceil(delay)
        phase = np.rint((whole - delay) * PHASES).astype(np.int64)
        at = index - whole.astype(np.int64) - (TAPS // 2 - 1) - source_first - low
        total = np.zeros(len(index), dtype=np.float32)
        for tap in range(TAPS):
            total += stretch[at + tap] * _INTERPOLATORS[tap][phase]
        out[mic, heard] += total * gain.astype(np.float32)


class BackgroundNoise:
    """Stationary noise at an array: a diffuse field (sound from all sides, so near microphones hear nearly the same
    at low frequencies) and each microphone's own noise.

    The diffuse part has the coherence sin(kd)/(kd) of a spherically isotropic field, made by mixing independent
    noises with a root of the coherence matrix at each frequency (Habets, Cohen, Gannot, 2008). Its spectrum falls by
    3 dB per octave above 200 Hz.
    """

    def __init__(
        self,
        seed: int,
        mic_positions_m: NDArray[np.float64],
        level: float,
        *,
        rate_hz: float = 16000.0,
        own_share: float = 0.2,
    ) -> None:
        """`level` is the RMS at each microphone [mics, 3]; `own_share` is the part of the power that is its own."""
        self._seed = seed
        self._mics = len(mic_positions_m)
        f_hz = np.fft.rfftfreq(2 * NOISE_HOP, 1.0 / rate_hz)
        apart_m = np.linalg.norm(mic_positions_m[:, None] - mic_positions_m[None, :], axis=-1)
        coherence = (1.0 - own_share) * np.sinc(2.0 * f_hz[:, None, None] * apart_m / SPEED_OF_SOUND_MPS)
        coherence += (own_share + 1e-9) * np.eye(self._mics)
        spectrum = np.where(f_hz < 40.0, 0.0, (np.maximum(f_hz, 200.0) / 200.0) ** -0.5)
        # irfft of complex normals of unit parts has the power sum(2 * 2 |spectrum|^2) / N^2 at every sample.
        spectrum *= level * NOISE_HOP / np.sqrt((spectrum**2).sum())
        self._mix = np.linalg.cholesky(coherence) * spectrum[:, None, None]  # [F, mics, mics]
        self._fade = np.sin(0.5 * np.pi * (np.arange(NOISE_HOP) + 0.5) / NOISE_HOP)[:, None]  # power-complementary
        self._block = lru_cache(maxsize=4)(self._make_block)

    def read(self, first: int, n: int) -> NDArray[np.float32]:
        """Noise of samples first .. first + n - 1 (first >= 0): float32 [n, mics]."""
        if first < 0:
            raise ValueError(f"noise begins at sample 0; {first} was asked")
        parts = []
        at = first
        while at < first + n:
            k, start = divmod(at, NOISE_HOP)
            stop = min(NOISE_HOP, first + n - k * NOISE_HOP)
            parts.append(self._hop(k, start, stop))
            at = k * NOISE_HOP + stop
        return np.concatenate(parts) if parts else np.zeros((0, self._mics), dtype=np.float32)

    def _hop(self, k: int, start: int, stop: int) -> NDArray[np.float32]:
        rising = self._block(k + 1)[start:stop] * self._fade[start:stop]
        falling = self._block(k)[NOISE_HOP + start : NOISE_HOP + stop] * self._fade[::-1][start:stop]
        return (rising + falling).astype(np.float32)

    def _make_block(self, k: int) -> NDArray[np.float64]:
        """Block k [2 NOISE_HOP, mics]: the second half is heard fading out under the first half of block k + 1."""
        rng = np.random.default_rng([self._seed, k])
        parts = rng.standard_normal((2, NOISE_HOP + 1, self._mics, 1))
        spectrum = (self._mix @ (parts[0] + 1j * parts[1]))[..., 0]
        return np.fft.irfft(spectrum, 2 * NOISE_HOP, axis=0)
