"""The time base of blocks: jitter, drift, late blocks, gaps."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.driver import FormatMismatch
from drivers.row_clock import RateCheck, RowClock

RATE_HZ = 16_000
ROWS = 800
BLOCK_NS = 50_000_000


@pytest.mark.parametrize("late_ms", ["uniform", "exponential", "bursts"])
def test_blocks_that_arrive_late_are_stamped_when_they_were_measured(late_ms: str) -> None:
    """Blocks come up to 20 ms late, some of them 120 ms: once settled, stamps are within 3.5 ms of the truth."""
    rng = np.random.default_rng(3)
    draw = {
        "uniform": lambda: rng.uniform(0, 20),
        "exponential": lambda: rng.exponential(10),
        "bursts": lambda: 120 if rng.random() < 0.03 else rng.exponential(3),
    }[late_ms]
    clock = RowClock(RATE_HZ, ROWS)
    errors_ms = []
    arrived_ms = 0.0
    for k in range(2000):
        arrived_ms = max(arrived_ms, k * 50 + draw())
        arrived_ns = round(arrived_ms * 1e6)
        t_ns, lost = clock.stamp(ROWS, arrived_ns)
        assert lost == 0
        assert t_ns <= arrived_ns, "no row is measured after it came"
        errors_ms.append(t_ns / 1e6 - k * 50)
    assert np.abs(errors_ms[100:]).max() < 3.5
    assert abs(np.mean(errors_ms[100:])) < 0.7
    assert np.std(np.diff(errors_ms[100:])) < 0.2, "evenly"


@pytest.mark.parametrize("ppm", [-20_000, -300, 300, 20_000])
def test_drift_is_followed_without_gaps(ppm: float) -> None:
    """A device whose crystal is off by up to 2 % stays on time."""
    clock = RowClock(RATE_HZ, ROWS)
    for k in range(2000):
        true_ns = round(k * BLOCK_NS * (1 - ppm / 1e6))
        t_ns, lost = clock.stamp(ROWS, true_ns)
        assert lost == 0
        assert abs(t_ns - true_ns) < BLOCK_NS
    assert abs(t_ns - true_ns) < 0.2e6


def test_lost_rows_are_counted_and_time_jumps() -> None:
    clock = RowClock(RATE_HZ, ROWS)
    came = [*range(100), *range(110, 200)]
    stamps = [(k * BLOCK_NS, *clock.stamp(ROWS, k * BLOCK_NS)) for k in came]
    assert sum(lost for _, _, lost in stamps) == pytest.approx(10 * ROWS, abs=2)
    late = [t_ns - true_ns for true_ns, t_ns, _ in stamps]
    assert max(map(abs, late[:100] + late[103:])) < 1e6


def test_blocks_that_come_late_and_then_all_at_once_are_not_lost() -> None:
    clock = RowClock(RATE_HZ, ROWS)
    for k in range(100):
        assert clock.stamp(ROWS, k * BLOCK_NS)[1] == 0
    for k in (100, 101):
        t_ns, lost = clock.stamp(ROWS, 110 * BLOCK_NS)
        assert lost == 0
        assert t_ns == pytest.approx(k * BLOCK_NS, abs=1e6)
    for k in range(102, 150):
        t_ns, lost = clock.stamp(ROWS, k * BLOCK_NS)
        assert lost == 0
        assert t_ns == pytest.approx(k * BLOCK_NS, abs=1e6)


def test_rows_known_to_be_lost_are_not_counted_twice() -> None:
    clock = RowClock(RATE_HZ, ROWS)
    for k in range(100):
        clock.stamp(ROWS, k * BLOCK_NS)
    losts = [clock.stamp(ROWS, 110 * BLOCK_NS, lost=10 * ROWS)]
    losts += [clock.stamp(ROWS, k * BLOCK_NS) for k in range(111, 130)]
    assert [lost for _, lost in losts] == [10 * ROWS] + [0] * 19
    assert losts[0][0] == pytest.approx(110 * BLOCK_NS, abs=1e6)


def test_more_rows_than_the_rate_allows_do_not_lead_into_the_future() -> None:
    """A 100 Hz device that sends 1000 rows a second for 20 s, in blocks of 5."""
    clock = RowClock(100.0, 5)
    for k in range(4000):
        t_ns, _ = clock.stamp(5, k * 5_000_000)
        assert t_ns <= k * 5_000_000


def test_time_never_goes_back() -> None:
    rng = np.random.default_rng(4)
    clock = RowClock(100.0, 5)
    stamps = [clock.stamp(int(rng.integers(1, 9)), int(rng.integers(0, 10**10)))[0] for _ in range(3000)]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize(
    ("real_hz", "fits"), [(100, True), (105, True), (80, True), (10, False), (50, False), (200, False)]
)
def test_the_stated_rate_is_compared_with_the_real_one(real_hz: int, fits: bool) -> None:
    check = RateCheck("imu", 100.0)
    arrivals = range(0, 5_000_000_000, 10**9 // real_hz)
    if fits:
        for now_ns in arrivals:
            check.count(1, now_ns)
        return

    def count_all() -> None:
        for now_ns in arrivals:
            check.count(1, now_ns)

    with pytest.raises(FormatMismatch, match=f"rate_hz was asked as 100 but the device gives {real_hz}"):
        count_all()


@pytest.mark.parametrize(("rows", "damaged"), [(0, 0.0), (0, 3.0), (2, 0.5), (1, 1.0)])
def test_damage_is_no_wrong_rate(rows: int, damaged: float) -> None:
    check = RateCheck("imu", 100.0)
    for k in range(2000):
        check.count(rows if k % 4 == 0 else 0, k * 10_000_000, damaged)


def test_damage_does_not_excuse_what_it_cannot_explain() -> None:
    check = RateCheck("imu", 100.0)

    def count_all() -> None:
        for k in range(1000):
            check.count(int(k % 4 == 0), k * 10_000_000, damaged=0.1)

    with pytest.raises(FormatMismatch, match="gives 25"):
        count_all()


def test_a_break_on_the_line_is_no_wrong_rate() -> None:
    check = RateCheck("imu", 100.0)
    for second in range(0, 40, 2):
        for k in range(100):
            check.count(1, second * 10**9 + k * 10**7)
