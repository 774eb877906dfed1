"""Building blocks of synthetic sounds: filtered noise, harmonic tones, envelopes, trains of events.

Everything is float64 [n] at `rate_hz`; filters are zero-phase and work on the spectrum of the whole signal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]
Gain = Callable[[Signal], Signal]  # amplitude at frequencies in hertz


def band(low_hz: float, high_hz: float, order: int = 3) -> Gain:
    """Gain of a Butterworth-like band-pass from `low_hz` to `high_hz`."""

    def gain(f_hz: Signal) -> Signal:
        below = (low_hz / np.maximum(f_hz, 1e-3)) ** (2 * order)
        above = (f_hz / high_hz) ** (2 * order)
        shape: Signal = 1.0 / np.sqrt((1.0 + below) * (1.0 + above))
        return shape

    return gain


def tilted(low_hz: float, high_hz: float, slope: float) -> Gain:
    """Gain of a band whose amplitude falls as frequency ** -slope: 0.5 is pink, 1 is brown."""
    inside = band(low_hz, high_hz)

    def gain(f_hz: Signal) -> Signal:
        shape: Signal = inside(f_hz) * (np.maximum(f_hz, low_hz) / low_hz) ** -slope
        return shape

    return gain


def formants(*peaks: tuple[float, float, float], floor: float = 0.05) -> Gain:
    """Gain with resonances (centre in hertz, half-width in hertz, height) over a floor."""

    def gain(f_hz: Signal) -> Signal:
        shape: Signal = np.full_like(f_hz, floor)
        for centre_hz, width_hz, height in peaks:
            shape += height / (1.0 + ((f_hz - centre_hz) / width_hz) ** 2)
        return shape

    return gain


def _fast_length(n: int) -> int:
    """A length of at least n whose only prime factors are 2, 3 and 5 (one 3 or 5 at most): its transform is quick."""
    power = 1 << max(n - 1, 1).bit_length()
    return min(m for m in (power, power * 3 // 4, power * 5 // 8) if m >= n)


def _frequencies(m: int, rate_hz: float) -> Signal:
    return np.arange(m // 2 + 1, dtype=np.float64) * (rate_hz / m)


def filtered(signal: Signal, rate_hz: float, gain: Gain) -> Signal:
    """The signal with its spectrum multiplied by `gain`; the tail that wraps round is short for the gains used here."""
    n = len(signal)
    m = _fast_length(n)
    shaped: Signal = np.fft.irfft(np.fft.rfft(signal, m) * gain(_frequencies(m, rate_hz)), m)
    return shaped[:n]


def noise(rng: np.random.Generator, n: int, rate_hz: float, gain: Gain) -> Signal:
    """Gaussian noise [n] with the given spectrum and unit RMS."""
    m = _fast_length(n)
    shape = gain(_frequencies(m, rate_hz))
    parts = rng.standard_normal((2, len(shape)))
    coloured: Signal = np.fft.irfft((parts[0] + 1j * parts[1]) * shape, m)
    coloured /= np.sqrt(np.mean(coloured**2)) + 1e-12
    return coloured[:n]


def wander(rng: np.random.Generator, n: int, rate_hz: float, per_second: float) -> Signal:
    """A slow random curve [n], about -1..1, with `per_second` new values a second."""
    knots = max(2, int(n / rate_hz * per_second) + 2)
    values = rng.uniform(-1.0, 1.0, knots)
    return np.interp(np.linspace(0.0, knots - 1.0, n), np.arange(knots), values)


def contour(n: int, *points: tuple[float, float]) -> Signal:
    """A curve [n] through (fraction of the length, value) points."""
    at, values = zip(*points, strict=True)
    curve: Signal = np.interp(np.linspace(0.0, 1.0, n), at, values)
    return curve


def tone(f0_hz: Signal, rate_hz: float, amplitudes: Sequence[float], phase: float = 0.0) -> Signal:
    """Harmonics of a fundamental [n] that may glide; those above the Nyquist frequency are left out."""
    turns = phase + 2.0 * np.pi * np.cumsum(f0_hz) / rate_hz
    total = np.zeros_like(f0_hz)
    highest = float(f0_hz.max()) if len(f0_hz) else 0.0
    for k, amplitude in enumerate(amplitudes, start=1):
        if k * highest >= 0.48 * rate_hz:
            break
        total += amplitude * np.sin(k * turns)
    return total


def falling(count: int, slope: float) -> list[float]:
    """Amplitudes of `count` harmonics: 1 / k ** slope."""
    return [float(k) ** -slope for k in range(1, count + 1)]


def swell(n: int, attack: float, release: float) -> Signal:
    """An envelope [n]: raised-cosine rise over the fraction `attack`, level, and fall over the fraction `release`."""
    x = np.linspace(0.0, 1.0, n)
    rise = np.clip(x / attack, 0.0, 1.0)
    fall = np.clip((1.0 - x) / release, 0.0, 1.0)
    shape: Signal = 0.25 * (1.0 - np.cos(np.pi * rise)) * (1.0 - np.cos(np.pi * fall))
    return shape


def impulse(n: int, rate_hz: float, decay_s: float) -> Signal:
    """An exponential decay [n] that is down to 1/e after `decay_s`."""
    shape: Signal = np.exp(-np.arange(n) / (rate_hz * decay_s))
    return shape


def add_at(out: Signal, event: Signal, start: int) -> None:
    """Add an event to `out` from sample `start`; what reaches past either end is cut off."""
    first, last = max(start, 0), min(start + len(event), len(out))
    if first < last:
        out[first:last] += event[first - start : last - start]


def scatter(out: Signal, starts: NDArray[np.int64], gains: Signal, event: Signal) -> None:
    """Add one short event at many starting samples, each with its own gain, by one convolution."""
    hits = np.zeros(len(out))
    np.add.at(hits, starts, gains)
    m = _fast_length(len(out) + len(event))
    out += np.fft.irfft(np.fft.rfft(hits, m) * np.fft.rfft(event, m), m)[: len(out)]


def active_rms(signal: Signal, rate_hz: float) -> float:
    """RMS of the 20 ms frames whose power is within 20 dB of the loudest: the level while it sounds."""
    frame = max(1, int(0.02 * rate_hz))
    whole = len(signal) // frame
    if whole == 0:
        return float(np.sqrt(np.mean(signal**2)))
    power = np.mean(signal[: whole * frame].reshape(whole, frame) ** 2, axis=1)
    return float(np.sqrt(power[power >= 0.01 * power.max()].mean()))
