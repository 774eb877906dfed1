"""Noise, hum and tones are told from whatever sounds because something happens."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.lab.limits import STEADY_SOUNDS, steady_sound
from agent.perceiving.steadiness import SILENCE, STEADY, meaningless, rms_dbfs
from world.kinds import SOUNDING
from world.sounds import synthesise

RATE_HZ = 16_000


def background(seconds: float, level: float, seed: int, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, level, (round(seconds * rate_hz), 1)).astype(np.float32)


def tone(f_hz: float, seconds: float, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.1 * np.sin(2 * np.pi * f_hz * t)).astype(np.float32)[:, None]


@pytest.mark.parametrize("kind", STEADY_SOUNDS)
def test_noise_hum_and_tones_are_steady(kind: str) -> None:
    found = [meaningless(steady_sound(kind, np.random.default_rng(seed))[:, None], RATE_HZ) for seed in range(40)]
    assert found.count(STEADY) >= 39


@pytest.mark.parametrize("kind", SOUNDING)
def test_what_sounds_because_something_happens_is_not_steady(kind: str) -> None:
    found = []
    for seed in range(8):
        sound = synthesise(kind, np.random.default_rng(seed), 6.0)[:, None] + background(6.0, 0.003, seed)
        found += [meaningless(sound[first : first + 32_000], RATE_HZ) for first in range(8000, 64_000, 16_000)]
    assert found.count("") >= 31, found


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_steadiness_does_not_depend_on_the_rate(rate_hz: int) -> None:
    noise = background(2.0, 0.05, 3, rate_hz)
    assert meaningless(noise, rate_hz) == STEADY
    swelling = noise * (1 + 0.5 * np.sin(np.arange(len(noise)) / rate_hz * 12))[:, None].astype(np.float32)
    assert meaningless(swelling, rate_hz) == ""


@pytest.mark.parametrize("began_s", [0.6, 1.0, 1.5])
def test_a_tone_that_is_switched_on_or_off_is_steady(began_s: float) -> None:
    sound = background(2.0, 1e-4, 1)
    sound[round(began_s * RATE_HZ) :] += tone(1000.0, 2.0 - began_s)
    assert meaningless(sound, RATE_HZ) == STEADY
    assert meaningless(sound[::-1], RATE_HZ) == STEADY


def test_a_swell_of_noise_is_not_a_switch() -> None:
    level = np.where(np.arange(32_000) < 16_000, 1.0, 1.5).astype(np.float32)
    assert meaningless(background(2.0, 0.05, 5) * level[:, None], RATE_HZ) == ""
    assert meaningless(background(2.0, 0.05, 5) * level[:, None] ** 2, RATE_HZ) == STEADY


@pytest.mark.parametrize("kind", ["dog", "clock", "baby"])
def test_a_sound_over_a_hum_is_heard(kind: str) -> None:
    hum = steady_sound("hum", np.random.default_rng(2))[:, None]
    hum *= np.float32(0.03 / np.sqrt(np.mean(hum**2)))
    sound = synthesise(kind, np.random.default_rng(2), 2.0)[:, None]
    assert meaningless(hum, RATE_HZ) == STEADY
    assert meaningless(hum + sound, RATE_HZ) == ""


def test_silence_is_said_to_be_silence() -> None:
    assert meaningless(np.zeros((32_000, 2), np.float32), RATE_HZ) == SILENCE
    assert meaningless(background(2.0, 10 ** (-83 / 20), 0), RATE_HZ) == SILENCE
    assert meaningless(background(2.0, 10 ** (-77 / 20), 0), RATE_HZ) == STEADY


def test_all_channels_count() -> None:
    noise = background(2.0, 0.05, 7)
    bark = synthesise("dog", np.random.default_rng(0), 2.0)[:, None]
    assert meaningless(np.hstack([noise, noise, noise, bark]), RATE_HZ) == ""


@pytest.mark.parametrize("seconds", [0.01, 0.2])
def test_too_short_a_sound_is_not_called_steady(seconds: float) -> None:
    assert meaningless(background(seconds, 0.05, 0), RATE_HZ) == ""


def test_a_sound_of_no_rows_is_silence() -> None:
    assert rms_dbfs(np.zeros((0, 1), np.float32)) == -200.0
    assert meaningless(np.zeros((0, 1), np.float32), RATE_HZ) == SILENCE
