"""A camera whose stamps are off against the inertial sensor's is noticed by the turning that both show."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.capture.source import CaptureReport
from agent.health.health import Health
from agent.health.motion_lag import LEAST_LAG_S, MotionLag, motion_lags
from agent.run.sampler import SampleStretch
from agent.streams import Stream, Streams
from agent.windows.windower import Windower
from drivers.driver import Sample
from world.scene import Scene, SceneOptions

S = 1_000_000_000
BEGIN_NS = 1_700_000_000 * S
FPS, IMU_HZ, BLOCK = 10, 100, 5
RUNNING = CaptureReport("running", "", 0, {})

Picture = Callable[[int], NDArray[np.uint8]]
Turning = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Yaw rate at times."""


def streams() -> Streams:
    eye = Stream("eye", "vision", FPS, FPS, 10**6, 0.2, "latest", 4, 0.2)
    body = Stream("body", "imu", IMU_HZ, IMU_HZ / BLOCK, 10**4, 5.0, "all", 64, 0.2)
    return {"eye": eye, "body": body}


def found(picture: Picture, rate_rps: Turning, seconds: int, lag_s: float) -> tuple[float, str]:
    """The lag at the end, and the camera's health, of pictures that are stamped late by `lag_s`."""
    windower, health = Windower(streams(), S // 2, BEGIN_NS), Health(streams())
    (lag,) = motion_lags(streams())
    stretch = SampleStretch(windower, health, lambda: dict.fromkeys(streams(), RUNNING), None, lags=[lag])
    rng = np.random.default_rng(1)
    arrivals = [(n / FPS + lag_s, "eye", n) for n in range(seconds * FPS)]
    arrivals += [((n + 1) * BLOCK / IMU_HZ, "body", n) for n in range(seconds * IMU_HZ // BLOCK)]
    for at_s, sensor, n in sorted(arrivals):
        if sensor == "eye":
            sample = Sample(BEGIN_NS + round(at_s * S), picture(n))
        else:
            times_s = (n * BLOCK + np.arange(BLOCK)) / IMU_HZ
            rows = rng.normal(0, 0.02, (BLOCK, 6))
            rows[:, 2] += 9.81
            rows[:, 5] += rate_rps(times_s)
            sample = Sample(BEGIN_NS + round(times_s[0] * S), rows.astype(np.float32), IMU_HZ)
        stretch.push((sensor, sample))
        stretch.advance()
        stretch.changes()
    return lag.lag_s, stretch.states()["eye"].reason


def panorama(seed: int, *, turns: bool = True) -> tuple[Picture, Turning]:
    """A camera of 60 degrees that turns to and fro in front of a wall of noise, on which one thing moves."""
    rng = np.random.default_rng(seed)
    wall = np.kron(rng.integers(40, 200, (12, 180)), np.ones((4, 8)))  # 4 columns a degree
    at_s = np.arange(0, 200, 0.01)
    begins = np.cumsum(rng.uniform(1.5, 5.0, 100))
    speeds = rng.choice([-0.5, 0.0, 0.4, 0.7, -0.7], 101) * turns
    rates = np.convolve(speeds[np.searchsorted(begins, at_s)], np.hanning(60) / np.hanning(60).sum(), "same")
    yaw = np.cumsum(rates) * 0.01

    def picture(n: int) -> NDArray[np.uint8]:
        first = (
            round(-np.degrees(np.interp(n / FPS, at_s, yaw)) * 4) % wall.shape[1]
        )  # turning left moves all to the right
        view = np.roll(wall, -first, axis=1)[:, :240].copy()
        view[10:22, (3 * n) % 240 :][:, :24] = 190
        return np.repeat((view + rng.normal(0, 3, view.shape)).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)

    return picture, lambda times_s: np.interp(times_s, at_s, rates)


@pytest.mark.parametrize("lag_s", [-0.3, 0.3])
def test_pictures_that_are_stamped_wrong_are_told(lag_s: float) -> None:
    lag, reason = found(*panorama(3), 60, lag_s)
    assert lag == pytest.approx(lag_s, abs=0.051)
    how = "lag body" if lag_s > 0 else "are ahead of body"
    assert f"by their turning, its pictures {how} by about 0.3 s; set latency_ms" in reason


@pytest.mark.parametrize("seed", range(4))
def test_pictures_that_are_stamped_right_are_not_accused(seed: int) -> None:
    assert found(*panorama(seed), 40, 0.0) == (0.0, "")


def test_a_robot_that_does_not_turn_tells_nothing() -> None:
    assert found(*panorama(5, turns=False), 40, 0.3) == (0.0, "")


@pytest.mark.parametrize("lag_s", [0.0, 0.3])
def test_in_the_synthetic_world_a_lag_is_told_and_none_is_not(lag_s: float) -> None:
    scene = Scene(SceneOptions(seed=40, fps=FPS, imu_rate_hz=IMU_HZ))
    blank = np.zeros((2, 2, 3), np.uint8)

    def picture(n: int) -> NDArray[np.uint8]:
        # Of five pictures two are in windows.
        return scene.image(n) if round(n + lag_s * FPS) % 5 in (0, 3) else blank

    lag, reason = found(picture, lambda times_s: scene.imu(round(times_s[0] * IMU_HZ), BLOCK)[:, 5], 45, lag_s)
    assert lag == pytest.approx(lag_s, abs=0.051)
    assert ("its pictures lag body by about 0.3 s" in reason) == bool(lag_s)


def test_a_lag_that_is_set_right_is_told_no_more() -> None:
    picture, rate_rps = panorama(3)
    watch = MotionLag("eye", "body")
    windower = Windower(streams(), S // 2, BEGIN_NS)
    told = []
    for n in range(150 * FPS):
        lag_s = 0.3 if n < 40 * FPS else 0.0
        windower.push("eye", Sample(BEGIN_NS + round((n / FPS + lag_s) * S), picture(n)))
        for block in (2 * n, 2 * n + 1):
            times_s = (block * BLOCK + np.arange(BLOCK)) / IMU_HZ
            rows = np.zeros((BLOCK, 6))
            rows[:, 5] = rate_rps(times_s)
            rows[:, 2] = 9.81 + 0.01 * np.sin(times_s)
            windower.push("body", Sample(BEGIN_NS + round(times_s[0] * S), rows.astype(np.float32), IMU_HZ))
        for tick in windower.advance(windower.newest_ns):
            watch.observe(tick)
            told.append(watch.lag_s)
    assert max(told) == pytest.approx(0.3, abs=0.051)
    assert told[-1] == 0.0
    assert LEAST_LAG_S < 0.3
