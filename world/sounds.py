"""The sounds of the ten sounding kinds, synthesised from how each is made.

Every call draws an individual (its pitch, its body's resonances, its habits) and then its performance. Sounds that
are events, such as barks, repeat so that any 2 s of them hold some.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from world.waveforms import (
    Signal,
    active_rms,
    add_at,
    band,
    contour,
    falling,
    filtered,
    formants,
    impulse,
    noise,
    scatter,
    swell,
    tilted,
    tone,
    wander,
)

LEVEL = 0.1  # RMS while it sounds, one metre away
FADE_S = 0.02  # at both ends, so that no sound starts or stops with a click

Rng = np.random.Generator


def synthesise(kind: str, rng: Rng, duration_s: float, rate_hz: int = 16000) -> NDArray[np.float32]:
    """One individual of `kind` sounding for `duration_s`: float32 [n], peak < 1, RMS while it sounds 0.1, or less
    where the peak would pass 1.

    The same generator state gives the same sound. Raises ValueError for a silent or unknown kind.
    """
    voice = VOICES.get(kind)
    if voice is None:
        raise ValueError(f"no sound of {kind!r}; sounding kinds: {', '.join(VOICES)}")
    n = round(duration_s * rate_hz)
    if n < 1:
        raise ValueError(f"duration_s must give at least one sample at {rate_hz} Hz, not {duration_s}")
    signal = voice(rng, n, float(rate_hz))
    fade = np.minimum(1.0, np.arange(1, n + 1) / (FADE_S * rate_hz))
    signal *= fade * fade[::-1]
    signal *= LEVEL / (active_rms(signal, rate_hz) + 1e-12)
    peak = float(np.abs(signal).max())
    if peak > 0.99:
        signal *= 0.99 / peak
    return signal.astype(np.float32)


def _dog(rng: Rng, n: int, rate: float) -> Signal:
    """Barks of 0.12-0.26 s, by one to three: a pitch that jumps up and falls, a muzzle's formants, breath."""
    out = np.zeros(n)
    pitch_hz = rng.uniform(280.0, 650.0)
    body = formants(
        (rng.uniform(650.0, 950.0), 250.0, 1.0), (rng.uniform(1400.0, 2000.0), 350.0, 0.6), (3200.0, 500.0, 0.15)
    )
    length_s, pause_s, hoarse = rng.uniform(0.12, 0.26), rng.uniform(0.1, 0.3), rng.uniform(0.25, 0.6)
    at_s = rng.uniform(0.0, 0.4)
    while at_s * rate < n:
        for _ in range(rng.integers(1, 4)):
            m = int(rate * length_s * rng.uniform(0.85, 1.15))
            top_hz = pitch_hz * rng.uniform(0.9, 1.15)
            f0_hz = top_hz * contour(m, (0.0, 0.75), (0.15, 1.1), (0.5, 0.85), (1.0, 0.5))
            breath = hoarse * noise(rng, m, rate, band(400.0, 4000.0))
            bark = filtered(tone(f0_hz, rate, falling(10, 0.6)) + breath, rate, body) * swell(m, 0.12, 0.6)
            add_at(out, bark * rng.uniform(0.8, 1.1), int(at_s * rate))
            at_s += m / rate + pause_s * rng.uniform(0.8, 1.2)
        at_s += rng.uniform(0.1, 0.7)
    return out


def _rain(rng: Rng, n: int, rate: float) -> Signal:
    """The hiss of countless drops, and hundreds of nearer ones a second, each a short ring of 2-7 kHz."""
    out = noise(rng, n, rate, band(rng.uniform(900.0, 1800.0), rng.uniform(6500.0, 9000.0), order=1))
    out *= 1.0 + 0.15 * wander(rng, n, rate, 1.5)
    drops = int(rng.uniform(250.0, 700.0) * n / rate / 6)
    for _ in range(6):
        m = int(0.02 * rate)
        ring = tone(np.full(m, rng.uniform(2000.0, 7000.0)), rate, [1.0]) * impulse(m, rate, rng.uniform(0.001, 0.004))
        scatter(out, rng.integers(0, n, drops), rng.lognormal(0.3, 0.5, drops), ring)
    return out


def _sea_waves(rng: Rng, n: int, rate: float) -> Signal:
    """Swells of 3-6 s: a constant low rumble, and foam that grows brighter as each wave breaks and runs out."""
    rumble = noise(rng, n, rate, tilted(60.0, rng.uniform(700.0, 1200.0), 0.5))
    foam = noise(rng, n, rate, tilted(200.0, rng.uniform(2500.0, 4000.0), 0.6))
    period_s = rng.uniform(3.0, 6.0)
    t = np.arange(n) / rate
    turns = t / period_s + 0.15 * wander(rng, n, rate, 0.5) + rng.uniform()
    position = turns % 1.0  # a wave rises over 35 % of its period and runs out over the rest
    height = np.where(position < 0.35, position / 0.35, (1.0 - position) / 0.65)
    wave: Signal = rumble * (0.35 + 0.4 * height) + foam * (0.1 + 1.1 * height**2)
    return wave


def _baby(rng: Rng, n: int, rate: float) -> Signal:
    """Wails of 0.6-1 s at 380-560 Hz that rise, hold with vibrato and fall, with a gasp between them."""
    out = np.zeros(n)
    pitch_hz = rng.uniform(380.0, 560.0)
    mouth = formants(
        (rng.uniform(950.0, 1300.0), 250.0, 1.0), (rng.uniform(2700.0, 3500.0), 400.0, 0.8), (5200.0, 600.0, 0.2)
    )
    vibrato_hz, depth = rng.uniform(5.0, 8.0), rng.uniform(0.02, 0.04)
    at_s = rng.uniform(-0.3, 0.1)
    while at_s * rate < n:
        m = int(rate * rng.uniform(0.6, 1.0))
        shape = contour(m, (0.0, 0.8), (0.2, 1.0), (0.7, rng.uniform(1.0, 1.12)), (1.0, 0.75))
        trill = 1.0 + depth * np.sin(2.0 * np.pi * vibrato_hz * np.arange(m) / rate)
        cry = tone(pitch_hz * rng.uniform(0.93, 1.07) * shape * trill, rate, falling(14, 0.5))
        cry += rng.uniform(0.05, 0.2) * noise(rng, m, rate, band(1000.0, 6000.0))
        add_at(out, filtered(cry, rate, mouth) * swell(m, 0.15, 0.25), int(at_s * rate))
        at_s += m / rate
        gasp = int(rate * rng.uniform(0.15, 0.35))
        add_at(out, 0.04 * noise(rng, gasp, rate, band(800.0, 4000.0)) * swell(gasp, 0.5, 0.4), int(at_s * rate))
        at_s += gasp / rate
    return out


def _clock(rng: Rng, n: int, rate: float) -> Signal:
    """Tick and tock every 0.4-1 s, exactly even: each two clicks of the escapement that ring in the case."""
    out = np.zeros(n)
    period_s, apart_s = rng.uniform(0.4, 1.0), rng.uniform(0.008, 0.02)
    m = int(0.08 * rate)
    strokes = []
    for _ in range(2):
        click = np.zeros(m)
        for delay_s, strength in ((0.0, rng.uniform(0.3, 0.6)), (apart_s, 1.0)):
            ring = np.zeros(m)
            for f_hz in rng.uniform(1800.0, 5500.0, 4):
                ring += rng.uniform(0.4, 1.0) * tone(np.full(m, f_hz), rate, [1.0], rng.uniform(0.0, 6.0))
            ring *= impulse(m, rate, rng.uniform(0.004, 0.008))
            add_at(click, strength * ring, int(delay_s * rate))
        strokes.append(click * np.minimum(1.0, (m - np.arange(m)) / (0.01 * rate)))
    start_s = rng.uniform(0.0, period_s)
    for k, at_s in enumerate(np.arange(start_s, n / rate, period_s)):
        add_at(out, strokes[k % 2] * rng.uniform(0.95, 1.05), int(at_s * rate))
    return out + 0.002 * noise(rng, n, rate, band(200.0, 4000.0))


def _person(rng: Rng, n: int, rate: float) -> Signal:
    """Sneezes, one every 1.2-1.9 s: a drawn breath, then a voiced burst that turns into a spray of noise."""
    out = np.zeros(n)
    pitch_hz = rng.uniform(180.0, 380.0)
    throat = formants((rng.uniform(550.0, 800.0), 200.0, 1.0), (rng.uniform(1500.0, 1900.0), 400.0, 0.5), floor=0.2)
    bright = rng.uniform(1500.0, 2500.0)
    at_s = rng.uniform(-0.6, 0.0)
    while at_s * rate < n:
        breath = int(rate * rng.uniform(0.25, 0.45))
        draw = noise(rng, breath, rate, band(700.0, 3500.0, order=1)) * np.linspace(0.0, 1.0, breath) ** 2
        burst = int(rate * rng.uniform(0.2, 0.35))
        voice = tone(pitch_hz * contour(burst, (0.0, 1.3), (1.0, 0.7)), rate, falling(12, 0.6))
        voice = filtered(voice, rate, throat) * contour(burst, (0.0, 0.0), (0.05, 1.0), (0.35, 0.3), (1.0, 0.0))
        spray = noise(rng, burst, rate, band(bright, 8000.0, order=1))
        spray *= contour(burst, (0.0, 0.0), (0.08, 0.6), (0.25, 1.0), (0.5, 0.5), (1.0, 0.0))
        add_at(out, 0.15 * draw, int(at_s * rate))
        add_at(out, (0.6 * voice + spray) * rng.uniform(0.85, 1.1), int(at_s * rate) + breath)
        at_s += rng.uniform(1.2, 1.9)
    return out


def _helicopter(rng: Rng, n: int, rate: float) -> Signal:
    """A low slap at each blade's pass (10-20 a second), rotor noise that swells with it, and a thin turbine whine."""
    passes_hz = rng.uniform(10.0, 20.0) * (1.0 + 0.03 * wander(rng, n, rate, 1.0))
    phase = (np.cumsum(passes_hz) / rate + rng.uniform()) % 1.0
    slap = np.exp(-phase / rng.uniform(0.12, 0.25))
    thump = noise(rng, n, rate, tilted(45.0, rng.uniform(220.0, 400.0), 0.4)) * slap
    knock = tone(passes_hz * rng.integers(5, 8), rate, [1.0, 0.5]) * slap
    wash = noise(rng, n, rate, tilted(250.0, rng.uniform(1500.0, 2500.0), 0.7)) * (0.25 + slap)
    whine = tone(rng.uniform(1000.0, 2600.0) * (1.0 + 0.01 * wander(rng, n, rate, 1.0)), rate, [1.0])
    mix: Signal = thump + rng.uniform(0.3, 0.6) * knock + rng.uniform(0.25, 0.45) * wash + 0.04 * whine
    return mix


def _chainsaw(rng: Rng, n: int, rate: float) -> Signal:
    """A two-stroke engine of 80-200 Hz, rich in harmonics, its throttle pulled again and again; the chain's rasp."""
    idle_hz = rng.uniform(80.0, 110.0)
    throttle = np.clip(0.5 + 0.9 * wander(rng, n, rate, rng.uniform(1.5, 3.0)), 0.0, 1.0)
    f0_hz = idle_hz * (1.0 + rng.uniform(0.5, 0.8) * throttle) * (1.0 + 0.01 * wander(rng, n, rate, 40.0))
    engine = tone(f0_hz, rate, falling(36, rng.uniform(0.35, 0.6)), rng.uniform(0.0, 6.0))
    muffler = formants((rng.uniform(500.0, 900.0), 400.0, 1.0), (rng.uniform(2000.0, 3200.0), 700.0, 0.9), floor=0.25)
    stroke = 0.5 + 0.5 * np.sin(2.0 * np.pi * np.cumsum(f0_hz) / rate)
    rasp = noise(rng, n, rate, band(1500.0, 7000.0, order=2)) * stroke**2 * (0.3 + throttle)
    engine /= np.sqrt(np.mean(engine**2)) + 1e-12
    loud: Signal = (filtered(engine, rate, muffler) + rng.uniform(0.2, 0.4) * rasp) * (0.6 + 0.4 * throttle)
    return loud


def _rooster(rng: Rng, n: int, rate: float) -> Signal:
    """Crows of 1.5-2 s: cock - a - doodle - doo, where the last climbs highest, holds and falls away."""
    out = np.zeros(n)
    pitch_hz = rng.uniform(650.0, 950.0)
    beak = formants(
        (rng.uniform(1300.0, 1700.0), 300.0, 1.0), (rng.uniform(2600.0, 3200.0), 400.0, 0.8), (4300.0, 500.0, 0.2)
    )
    syllables = (  # share of the crow, level, pitch at its start, middle and end
        (0.13, 0.8, 0.75, 0.95, 0.9),
        (0.09, 0.6, 0.85, 0.9, 0.85),
        (0.22, 0.9, 0.9, 1.1, 0.95),
        (0.50, 1.0, 1.0, 1.3, 0.7),
    )
    at_s = rng.uniform(-0.5, 0.2)
    while at_s * rate < n:
        crow_s = rng.uniform(1.5, 2.0)
        for share, level, start, middle, end in syllables:
            m = int(rate * crow_s * share)
            f0_hz = pitch_hz * rng.uniform(0.96, 1.04) * contour(m, (0.0, start), (0.35, middle), (1.0, end))
            call = tone(f0_hz * (1.0 + 0.008 * wander(rng, m, rate, 60.0)), rate, falling(9, 0.4))
            call += rng.uniform(0.05, 0.2) * noise(rng, m, rate, band(1500.0, 6000.0))
            add_at(out, level * filtered(call, rate, beak) * swell(m, 0.2, 0.3), int(at_s * rate))
            at_s += m / rate + 0.015 * crow_s
        at_s += rng.uniform(0.15, 0.5)
    return out


def _fire(rng: Rng, n: int, rate: float) -> Signal:
    """Crackles at random, few of them loud, each a 1-5 ms snap, over the soft flicker of the flames."""
    low = noise(rng, n, rate, tilted(50.0, rng.uniform(300.0, 600.0), 0.8))
    out: Signal = 0.1 * low * (1.0 + 0.5 * wander(rng, n, rate, 8.0))
    per_second = rng.uniform(20.0, 50.0)
    for _ in range(8):
        count = int(rng.poisson(per_second / 8 * n / rate)) + 1
        m = int(0.03 * rate)
        snap = noise(rng, m, rate, band(rng.uniform(700.0, 2500.0), rng.uniform(5000.0, 7500.0), order=1))
        snap *= impulse(m, rate, rng.uniform(0.001, 0.005))
        scatter(out, rng.integers(0, n, count), rng.lognormal(-1.0, 0.6, count), snap)
    return out


VOICES: dict[str, Callable[[Rng, int, float], Signal]] = {
    "dog": _dog,
    "rain": _rain,
    "sea_waves": _sea_waves,
    "baby": _baby,
    "clock": _clock,
    "person": _person,
    "helicopter": _helicopter,
    "chainsaw": _chainsaw,
    "rooster": _rooster,
    "fire": _fire,
}
