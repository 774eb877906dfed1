"""Devices whose rows do not come at the rate that they are said to have: rows stand at the time of their capture."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.streams import Stream
from agent.windows.windower import Tick, Windower
from drivers.driver import Modality, Sample
from drivers.row_spacing import LEAST_EXCESS, SpacingMeter
from models import preprocess

S = 1_000_000_000
BEGIN_NS = 1_700_000_000 * S


def ticks_of(
    modality: Modality, nominal_hz: float, true_hz: float, block: int, *, jitter_s: float = 0.0, seed: int = 0
) -> list[Tick]:
    """30 s of rows that carry the time of their capture in seconds, in stamped blocks."""
    rng = np.random.default_rng(seed)
    stream = Stream("it", modality, nominal_hz, nominal_hz / block, 10**6, 2.0 if modality == "audio" else 5.0,
                    "all", 64, 0.2)  # fmt: skip
    windower, ticks = Windower({"it": stream}, S // 2, BEGIN_NS), []
    columns = 1 if modality == "audio" else 6
    for first in range(0, round(30 * true_hz), block):
        at_s = (first + np.arange(block)) / true_hz
        data = np.repeat((at_s[:, None] - 15) / 100, columns, axis=1).astype(np.float32)
        t_ns = BEGIN_NS + round((at_s[0] + rng.normal(0, jitter_s)) * 1e9)
        windower.push("it", Sample(t_ns, data, nominal_hz))
        ticks += windower.advance(windower.newest_ns)
    return ticks


def off_s(tick: Tick) -> NDArray[np.float64]:
    """By how much each row of a window is later than its place says."""
    window = tick.windows["it"]
    assert window.missing == ""
    assert window.data is not None
    assert window.filled == 0.0
    at_s = window.data[:, 0].astype(np.float64) * 100 + 15
    place_s = (tick.t_ns - BEGIN_NS) / 1e9 + (np.arange(len(at_s)) - len(at_s)) / window.rate_hz
    return at_s - place_s


RATES = [("audio", 16_000.0, 800), ("audio", 44_100.0, 2_205), ("imu", 100.0, 5), ("imu", 400.0, 1)]


@pytest.mark.parametrize("percent", [-5.0, -1.0, 1.0, 5.0])
@pytest.mark.parametrize(("modality", "nominal_hz", "block"), RATES)
def test_rows_of_a_wrong_rate_stand_where_they_were_captured(
    modality: Modality, nominal_hz: float, block: int, percent: float
) -> None:
    true_hz = nominal_hz * (1 + percent / 100)
    ticks = ticks_of(modality, nominal_hz, true_hz, block)
    for tick in ticks[-30:]:  # known for certain after a few seconds
        most_s = max(1.5 / true_hz, 0.003)  # windows take rates in steps, by which the oldest rows are off
        assert np.abs(off_s(tick)).max() <= most_s
        window = tick.windows["it"]
        assert window.rate_hz == pytest.approx(true_hz, rel=0.002)
        assert len(off_s(tick)) == pytest.approx((2.0 if modality == "audio" else 5.0) * true_hz, rel=0.002)
    window = ticks[-1].windows["it"]
    assert window.data is not None
    if modality == "audio":
        preprocess.audio(window.data[None], window.rate_hz, guess_units=False)
    else:
        preprocess.imu(window.data[None], window.rate_hz, guess_units=False)


@pytest.mark.parametrize("jitter_s", [0.0, 0.005])
@pytest.mark.parametrize(("modality", "nominal_hz", "block"), [RATES[0], RATES[2]])
def test_a_crystal_and_jitter_of_stamps_change_no_rate(
    modality: Modality, nominal_hz: float, block: int, jitter_s: float
) -> None:
    for seed, ppm in enumerate((-300, 300)):
        ticks = ticks_of(modality, nominal_hz, nominal_hz * (1 + ppm / 1e6), block, jitter_s=jitter_s, seed=seed)
        present = [tick for tick in ticks if tick.t_ns > BEGIN_NS + 6 * S]
        assert len(present) >= 47
        assert {tick.windows["it"].rate_hz for tick in present} == {nominal_hz}
        smooth = [np.ptp(np.diff(off_s(tick))) for tick in present]
        assert max(smooth) < 1e-4


def test_jitter_of_stamps_leaves_rows_of_a_wrong_rate_smooth() -> None:
    for tick in ticks_of("imu", 100.0, 105.0, 5, jitter_s=0.005)[-30:]:
        off = off_s(tick)
        assert np.abs(off).max() < 0.02
        assert np.ptp(np.diff(off)) < 1e-4


def test_rows_that_were_lost_are_no_rate() -> None:
    meter = SpacingMeter(1_000.0)
    for second in range(20):
        for tenth in range(10):
            if (second, tenth) == (9, 5):
                meter.count(50)
                continue
            meter.add(BEGIN_NS + (second * 10 + tenth) * S // 20)
            meter.count(50)
    assert meter.spacing == 1.0


@pytest.mark.parametrize(("excess", "known"), [(0.5 * LEAST_EXCESS, False), (2 * LEAST_EXCESS, True), (0.4, False)])
def test_only_an_excess_that_no_crystal_and_every_setting_could_have_is_taken(excess: float, known: bool) -> None:
    meter = SpacingMeter(200.0)
    for block in range(600):
        meter.add(BEGIN_NS + round(block * 10 / 200 * (1 + excess) * 1e9))
        meter.count(10)
    assert meter.spacing == (pytest.approx(1 + excess, abs=1e-6) if known else 1.0)


def test_a_hole_longer_than_the_memory_is_no_fault_and_no_rate() -> None:
    meter = SpacingMeter(100.0)
    for begin_s in (0, 3600, 3700):
        for block in range(100):
            meter.add(BEGIN_NS + begin_s * S + block * S // 10)
            meter.count(10)
        meter.count(100 * ({0: 3600, 3600: 3700}.get(begin_s, 0) - begin_s - 10))
    assert meter.spacing == 1.0


def test_a_new_beginning_keeps_the_spacing_until_it_is_measured_again() -> None:
    meter = SpacingMeter(100.0)

    def run(begin_ns: int, blocks: int, excess: float) -> None:
        for block in range(blocks):
            meter.add(begin_ns + round(block * 10 / 100 * (1 + excess) * 1e9))
            meter.count(10)

    run(BEGIN_NS, 100, 0.03)
    meter.restart()
    run(BEGIN_NS + 3600 * S, 10, 0.0)
    assert meter.spacing == pytest.approx(1.03)
    run(BEGIN_NS + 3601 * S, 100, 0.0)
    assert meter.spacing == 1.0
