"""The skew of clocks of known truth, through arrivals that are late as on a busy machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.health.skew import SkewMeter

S = 1_000_000_000
LIMIT_PPM = 1000.0
Times = NDArray[np.float64]
Delays = Callable[[np.random.Generator, Times], Times]


def heavy(rng: np.random.Generator, t_s: Times) -> Times:
    """One-sided, 10 ms on average, and every 5 s a stall of up to 0.4 s from which samples come in a burst."""
    late_s = rng.exponential(0.01, len(t_s))
    for begin_s in rng.uniform(0, t_s[-1], round(t_s[-1] / 5)):
        end_s = begin_s + rng.uniform(0.1, 0.4)
        late_s = np.maximum(late_s, np.where((t_s > begin_s) & (t_s < end_s), end_s - t_s, 0.0))
    return late_s


def rising(rng: np.random.Generator, t_s: Times) -> Times:
    """Load that comes up over the whole time: in the end every sample is 10 to 90 ms late."""
    late_s: Times = t_s / t_s[-1] * (0.01 + rng.exponential(0.03, len(t_s)).clip(0, 0.08))
    return late_s


def beginning(rng: np.random.Generator, t_s: Times) -> Times:
    """Load that sets in at some time and delays every sample from then on."""
    return rng.exponential(0.004, len(t_s)) + np.where(t_s > rng.uniform(1, t_s[-1]), rng.uniform(0.01, 0.1), 0.0)


def measured(
    ppm: float, delays: Delays, seed: int, *, hz: float, seconds: float, rows: bool
) -> tuple[SkewMeter, float]:
    """A meter that was fed, and when it first told of skew (infinity: never)."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(round(seconds * hz))
    truth_s = numbers / hz / (1 + ppm / 1e6)
    arrived_s = np.maximum.accumulate(truth_s + delays(rng, truth_s))
    meter = SkewMeter()
    told_s = float("inf")
    for number, at_s in zip(numbers, arrived_s, strict=True):
        stamp_ns = round(number / hz * S)
        meter.add(round(at_s * S), 1 / hz if rows else None, stamp_ns)
        if number % max(1, round(hz / 2)) == 0 and told_s == float("inf"):
            skew_ppm, off_ppm = meter.ppm()
            if abs(skew_ppm) > LIMIT_PPM + off_ppm:
                told_s = at_s
    return meter, told_s


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("ppm", [-10_000, 10_000])
def test_a_rate_that_is_off_by_a_hundredth_is_told_within_10_s(ppm: float, rows: bool) -> None:
    for seed in range(10):
        meter, told_s = measured(ppm, heavy, seed, hz=50, seconds=10.5, rows=rows)
        assert told_s <= 10.0
        assert meter.ppm()[0] == pytest.approx(ppm, abs=350)


@pytest.mark.parametrize("ppm", [-10_000, -500, 0, 500, 10_000])
def test_skew_is_right_within_100_ppm(ppm: float) -> None:
    for seed in range(10):
        meter, _ = measured(ppm, heavy, seed, hz=50, seconds=30, rows=True)
        assert meter.ppm()[0] == pytest.approx(ppm, abs=100)


@pytest.mark.parametrize("delays", [heavy, rising, beginning])
@pytest.mark.parametrize(("hz", "rows"), [(50, True), (20, True), (30, False), (2, False)])
def test_load_is_no_skew(delays: Delays, hz: float, rows: bool) -> None:
    for seed in range(10):
        for seconds in (9, 14, 40):
            assert measured(0.0, delays, seed, hz=hz, seconds=seconds, rows=rows)[1] == float("inf"), (seed, seconds)


@pytest.mark.parametrize("ppm", [0.0, 10_000.0])
@pytest.mark.parametrize("real", [True, False])
def test_gaps_neither_hide_skew_nor_look_like_it(ppm: float, real: bool) -> None:
    """Every five seconds stamps jump by 0.1 s: because rows were lost, or because they are off."""
    rng = np.random.default_rng(3)
    meter = SkewMeter()
    at_s = 0.0
    for number in range(50 * 30):
        at_s += 0.02 / (1 + ppm / 1e6)
        if number % 250 == 249:
            meter.jump(0.1)
            at_s += 0.1 if real else 0.0
        meter.add(round((at_s + rng.exponential(0.002)) * S), 0.02, 0)
    skew_ppm, off_ppm = meter.ppm()
    assert (abs(skew_ppm) > LIMIT_PPM + off_ppm) == (ppm != 0)
    assert skew_ppm == pytest.approx(ppm, abs=0.35 * ppm + 200)
