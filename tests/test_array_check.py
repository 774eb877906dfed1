"""Faults of a microphone array, told from sound with a known fault; and health, which says so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.capture.source import CaptureReport
from agent.health.array_check import ArrayCheck
from agent.health.health import Health
from agent.perceiving.localization.doa import DirectionFinder
from agent.streams import Stream
from drivers.driver import Sample
from world.acoustics import BackgroundNoise, Walls, key_points, propagate
from world.sounds import VOICES, synthesise

RATE_HZ = 16000
S = 1_000_000_000
SQUARE_M = 0.0323 * np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
PAIR_M = np.array([[0.0, 0.04, 0.0], [0.0, -0.04, 0.0]])
LINE_M = np.array([[0.0, 0.035 * k, 0.0] for k in (1.5, 0.5, -0.5, -1.5)])
WALLS = Walls((-3.0, 4.0), (-2.5, 3.5), ground_z_m=-0.8)

Audio = NDArray[np.float32]


def sound(seed: int, mics_m: NDArray[np.float64] = SQUARE_M, seconds: int = 9) -> Audio:
    """Sounds from another side every 3 s, with echoes and diffuse noise: [n, channels]."""
    rng = np.random.default_rng(seed)
    n = 3 * RATE_HZ
    parts = []
    for _ in range(seconds // 3):
        azimuth = rng.uniform(-np.pi, np.pi)
        place_m = np.array([1.8 * np.cos(azimuth), 1.8 * np.sin(azimuth), rng.uniform(-0.3, 0.5)])
        keys = len(key_points(2000, n))
        dry = synthesise(list(VOICES)[rng.integers(len(VOICES))], rng, 3.5)
        dry = dry if rng.random() < 0.5 else rng.standard_normal(n + 4000).astype(np.float32)
        places = np.tile(place_m, (keys, 1)), np.tile(mics_m, (keys, 1, 1))
        heard = propagate(dry, 0, *places, 2000, n, walls=WALLS)
        parts.append(0.05 * heard / max(float(heard.std()), 1e-6))
    whole = np.concatenate(parts)
    return (whole + BackgroundNoise(seed, mics_m, 0.01).read(0, len(whole))).astype(np.float32)


def told(audio: Audio, mics_m: NDArray[np.float64] | None = SQUARE_M, check: ArrayCheck | None = None) -> str:
    check = check or ArrayCheck(audio.shape[1], RATE_HZ, mics_m)
    for at in range(0, len(audio), 800):
        check.add(audio[at : at + 800])
    return check.problem()


def swapped(audio: Audio) -> Audio:
    return audio[:, [1, 0, 2, 3]]


def inverted(audio: Audio) -> Audio:
    return audio * np.array([1, 1, -1, 1], np.float32)


def dead(audio: Audio) -> Audio:
    return audio * np.array([1, 1e-4, 1, 1], np.float32)


def wired(audio: Audio) -> Audio:
    """One signal on all channels, with a little of each one's own noise."""
    own = 1e-4 * audio.std() * np.random.default_rng(0).standard_normal(audio.shape)
    return (audio[:, :1] + own).astype(np.float32)


def copied(audio: Audio) -> Audio:
    """Two channels of a stereo device on four."""
    return audio[:, [0, 1, 0, 1]]


FAULTS = [
    (swapped, "channels 0 and 1, or 2 and 3 are swapped"),
    (inverted, "channel 2 is inverted"),
    (dead, "channel 1 is silent"),
    (wired, "its channels carry one signal"),
    (copied, "channels 0 and 2 carry one signal"),
]


@pytest.mark.parametrize(("alter", "line"), FAULTS)
def test_a_fault_of_the_array_is_told(alter: Callable[[Audio], Audio], line: str) -> None:
    for seed in (1, 2):
        assert told(alter(sound(seed, seconds=18 if alter is swapped else 6))).startswith(line)


@pytest.mark.parametrize("mics_m", [SQUARE_M, LINE_M, PAIR_M])
def test_an_array_as_it_should_be_is_not_accused(mics_m: NDArray[np.float64]) -> None:
    for seed in range(4):
        assert told(sound(seed, mics_m), mics_m) == ""


def test_noise_and_silence_are_no_evidence() -> None:
    own = np.random.default_rng(3).normal(0, 0.02, (9 * RATE_HZ, 4)).astype(np.float32)
    assert told(own) == ""
    assert told(swapped(own)) == ""
    assert told(np.zeros((9 * RATE_HZ, 4), np.float32)) == ""
    assert told(np.float32(1e-5) * dead(own)) == ""


def test_a_fault_is_told_after_four_seconds_of_it_and_withdrawn_after_as_many_without() -> None:
    check = ArrayCheck(4, RATE_HZ, SQUARE_M)
    audio = sound(5, seconds=12)
    assert told(dead(audio[: 3 * RATE_HZ]), check=check) == ""
    assert told(audio[3 * RATE_HZ : 6 * RATE_HZ], check=check) == ""
    assert told(dead(audio[: 5 * RATE_HZ]), check=check).startswith("channel 1 is silent")
    assert told(audio[: 3 * RATE_HZ], check=check).startswith("channel 1 is silent")
    assert told(audio[: 2 * RATE_HZ], check=check) == ""


def test_a_swap_that_mirrors_the_array_cannot_be_told() -> None:
    assert told(sound(1)[:, [2, 1, 0, 3]]) == ""  # opposite corners of a square
    assert told(sound(1, PAIR_M)[:, ::-1], PAIR_M) == ""


def test_one_of_two_channels_is_inverted() -> None:
    assert told(sound(1, PAIR_M) * np.array([1, -1], np.float32), PAIR_M).startswith("one of its two channels is inver")


def test_without_positions_levels_are_judged_all_the_same() -> None:
    assert told(dead(sound(4)), None).startswith("channel 1 is silent")
    assert told(sound(4), None) == ""
    assert told(np.repeat(sound(4)[:, :1], 2, axis=1), None) == ""  # a mono recording as stereo


@pytest.mark.parametrize("alter", [inverted, wired])
def test_channels_that_hear_no_field_of_sound_have_no_direction(alter: Callable[[Audio], Audio]) -> None:
    finder = DirectionFinder(SQUARE_M, RATE_HZ)
    audio = alter(sound(6))
    assert [finder.find(audio[at : at + 8000]) for at in range(0, len(audio), 8000)] == [None] * 18


def test_swapped_channels_lose_confidence_at_once() -> None:
    finder = DirectionFinder(SQUARE_M, RATE_HZ)

    def sure(audio: Audio) -> float:
        found = [finder.find(audio[at : at + 8000]) for at in range(0, len(audio), 8000)]
        return float(np.mean([0.0 if d is None else d.confidence for d in found]))

    for seed in (1, 2):
        audio = sound(seed)
        assert sure(swapped(audio)) < 0.5 * sure(audio)


def test_health_says_what_is_wrong_with_the_array() -> None:
    stream = Stream("array", "audio", 16000.0, 20.0, 10**6, 2.0, "all", 64, 0.2)
    for alter, line in (*FAULTS[:2], (lambda audio: audio, "")):
        health = Health({"array": stream}, mic_positions_m={"array": SQUARE_M})
        audio = alter(sound(7))
        for at in range(0, len(audio), 800):
            now_ns = S + round((at + 800) * S / RATE_HZ)
            health.observe("array", Sample(S + round(at * S / RATE_HZ), audio[at : at + 800], 16000.0), now_ns)
        state = health.report(now_ns, {"array": CaptureReport("running", "", 0, {})})["array"]
        assert state.reason.startswith(line)
        assert state.state == ("degraded" if line else "ok")
