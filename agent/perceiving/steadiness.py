"""Sound in which nothing happens: silence, steady noise, hum and tones. It says nothing about any thing.

The power of stationary Gaussian noise in a band varies from frame to frame by an amount that follows from its spectrum
alone, and that of a steady tone does not vary. Whatever sounds because something moves varies more: real rain at least
half as much again, a bark a hundred times. So sound is steady when the variance of its band powers is not above what
chance explains, before and after at most one change: a hum may be switched on within a window.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Power = NDArray[np.float32]

SILENT_DBFS = -80.0
"""Below this nothing is heard, whatever else says so: an open 16-bit microphone's own noise lies above it."""
SILENCE = "silence"
STEADY = "steady noise"

FRAME_S = 0.064
"""Long enough to tell the harmonics of 50 Hz apart, whose beats would look like events."""
LOWEST_HZ, HIGHEST_HZ = 100.0, 7600.0
"""The range that the model hears, without what wind and a camera's handling do below it."""
ENOUGH_HZ = 16_000
"""Rate that has that range."""
BANDS_AN_OCTAVE = 2
LEAST_SHARE = 1e-7
"""Of the power, in a band that counts: what lies 70 dB down is the rounding of the samples, or nothing."""
MOST_EXCESS = 0.2
"""Variance over that of noise, as a mean over the bands, for a window of 2 s: four deviations of chance."""
MOST_EXCESS_OF_THREE = 0.9
"""The same for the three bands that vary most: what sounds in one band only, such as a bird over a hum."""
LEAST_CHANGE_DB = 6.0
"""Of a sound that is switched on: less is the swell of rain or of an engine."""
_FRAMES = 61
"""Of a window of 2 s, for which the limits hold; fewer are more by chance."""
_LEAST_FRAMES = 8
"""About 0.25 s: in less even a bark may look steady."""


def rms_dbfs(sound: NDArray[np.float32]) -> float:
    """Root mean square over all channels, in decibels below full scale; -200 for digital silence."""
    flat = np.ascontiguousarray(sound).ravel()
    mean_square = float(flat @ flat) / max(1, flat.size)
    return 10.0 * float(np.log10(max(mean_square, 1e-20)))


def silent(sound: NDArray[np.float32], rate_hz: float) -> str:  # noqa: ARG001  as `meaningless`
    """Return SILENCE for a window [n, channels] below SILENT_DBFS, else an empty string."""
    return SILENCE if rms_dbfs(sound) < SILENT_DBFS else ""


def meaningless(sound: NDArray[np.float32], rate_hz: float) -> str:
    """Return SILENCE or STEADY for a window [n, channels] in which nothing happens, else an empty string.

    The mean over the channels counts, as for the model. Less than half a second is never called steady.
    """
    if silence := silent(sound, rate_hz):
        return silence
    # Neighbouring samples are added up at high rates: what folds back is as steady as it was. As one product, since
    # numpy's mean over so short an axis takes ten times as long.
    joined = max(1, int(rate_hz // ENOUGH_HZ))
    rows = sound[: len(sound) // joined * joined].reshape(-1, joined * sound.shape[1])
    mono = rows @ np.full(rows.shape[1], 1 / rows.shape[1], np.float32)
    powers, bands = _powers(mono, rate_hz / joined)
    if len(powers) < _LEAST_FRAMES or not bands.size:
        return ""
    if _varies_by_chance(powers, bands):
        return STEADY
    before, after = _parts(powers, bands)
    parts = min(len(before), len(after)) >= _LEAST_FRAMES
    return STEADY if parts and _varies_by_chance(before, bands) and _varies_by_chance(after, bands) else ""


def _powers(signal: NDArray[np.float32], rate_hz: float) -> tuple[Power, NDArray[np.intp]]:
    """Return the power spectra of the frames, [frames, bins], and the first bin of each band."""
    n, window, bins, bands = _layout(rate_hz)
    if len(signal) < n:
        return np.zeros((0, 0), np.float32), bands
    frames = np.lib.stride_tricks.sliding_window_view(signal - signal.mean(), n)[:: n // 2]
    spectra = np.fft.rfft(frames * window, axis=1)[:, bins]
    powers: Power = (spectra.real**2 + spectra.imag**2).astype(np.float32, copy=False)
    return powers, bands


@lru_cache(maxsize=8)
def _layout(rate_hz: float) -> tuple[int, NDArray[np.float32], slice, NDArray[np.intp]]:
    """Return the samples of a frame, its window, the range of bins, and the first bin of each band in that range."""
    n = 2 * round(FRAME_S * rate_hz / 2)
    f_hz = np.arange(n // 2 + 1) * rate_hz / n
    first, last = np.searchsorted(f_hz, [LOWEST_HZ, min(HIGHEST_HZ, 0.475 * rate_hz)])
    edges_hz = LOWEST_HZ * 2.0 ** (np.arange(64) / BANDS_AN_OCTAVE)
    bands = np.searchsorted(f_hz[first:last], edges_hz[edges_hz < f_hz[last - 1]] if last > first else [])
    return n, np.hanning(n + 1)[:-1].astype(np.float32), slice(first, last), np.unique(bands).astype(np.intp)


def _varies_by_chance(powers: Power, bands: NDArray[np.intp]) -> bool:
    """Return whether band powers vary no more from frame to frame than stationary noise of that spectrum does."""
    of_bands = np.add.reduceat(powers, bands, axis=1)  # [frames, bands]
    spectrum = powers.mean(axis=0, dtype=np.float64)
    # A bin of noise has a variance of its squared mean power; a Hann window correlates a bin with the next two.
    padded = np.append(spectrum, [0.0, 0.0])
    chance = spectrum * (spectrum + 2 * (2 / 3) ** 2 * padded[1:-1] + 2 * (1 / 6) ** 2 * padded[2:])
    expected = np.add.reduceat(chance, bands)
    mean = of_bands.mean(axis=0, dtype=np.float64)
    counted = mean > LEAST_SHARE * mean.sum()
    if not counted.any():
        return True  # digital silence
    excess = np.sort(of_bands.var(axis=0, ddof=1)[counted] / expected[counted]) - 1.0
    looser = np.sqrt(_FRAMES / len(powers))
    return bool(excess.mean() <= MOST_EXCESS * looser and excess[-3:].mean() <= MOST_EXCESS_OF_THREE * looser)


def _parts(powers: Power, bands: NDArray[np.intp]) -> tuple[Power, Power]:
    """Return the frames before and after the change that explains most of the variance of the levels of the bands.

    Both are empty where no band changes by LEAST_CHANGE_DB.
    """
    of_bands = np.add.reduceat(powers, bands, axis=1)
    levels = np.log(of_bands + LEAST_SHARE * of_bands.sum(axis=1).max())
    levels -= levels.mean(axis=0)
    count = np.arange(1, len(levels))[:, None]
    sums = np.cumsum(levels, axis=0)[:-1]  # [frames - 1, bands]
    steps = sums * (len(levels) / (count * (len(levels) - count)))  # mean before less mean after
    change = int((steps * sums).sum(axis=1).argmax())
    if np.abs(steps[change]).max() < LEAST_CHANGE_DB / 10 * np.log(10):
        return powers[:0], powers[:0]
    # The frames that hold the change itself belong to neither.
    return powers[: max(change - 1, 0)], powers[change + 3 :]
