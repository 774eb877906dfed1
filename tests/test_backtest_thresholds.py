"""The book that is run again over scores: hits, the curve against the threshold, and what follows from it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.backtest.hits import Hit, hits, peak_ns
from agent.backtest.thresholds import GRID, Mark, Point, curve, suggested
from agent.perceiving.alerts.book import AlertBook
from agent.perceiving.alerts.table import QueryTable
from agent.query import Query, StandingQuery
from agent.scores import Scores
from drivers.driver import MODALITIES

S = 1_000_000_000
HOP_NS = S // 2
Values = NDArray[np.float32]


def smooth_scores(seed: int, ticks: int, missing: float = 0.15) -> Values:
    """[T, M]: scores that rise and fall over some ticks, with windows missing here and there."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 3, (ticks + 5, len(MODALITIES)))
    smooth = np.stack([np.convolve(column, np.ones(6) / 2.5, "valid") for column in noise.T], axis=1)
    values = (1 / (1 + np.exp(-smooth))).astype(np.float32)
    values[rng.random(values.shape) < missing] = np.nan
    return values


def times(ticks: int, hole_at: int | None = None) -> NDArray[np.int64]:
    t_ns = 1000 * S + HOP_NS * np.arange(ticks, dtype=np.int64)
    if hole_at is not None:
        t_ns[hole_at:] += 100 * S
    return t_ns


def fired_by_brute_force(t_ns: NDArray[np.int64], values: Values, query: Query, hold_s: float) -> list[int]:
    """When alerts begin: one query in a book of its own that is given only what is present."""
    begins, book, before = [], AlertBook(QueryTable(), hold_s=hold_s), None
    book.add(StandingQuery(query))
    for now_ns, row in zip(t_ns.tolist(), values, strict=True):
        if before is not None and now_ns - before > 60 * S:
            book = AlertBook(QueryTable(), hold_s=hold_s)
            book.add(StandingQuery(query))
        present = [i for i in range(len(MODALITIES)) if not np.isnan(row[i])]
        scores = Scores((query.id,), tuple(MODALITIES[i] for i in present), row[None, present])
        begins += [t.begin_ns for t in book.step(now_ns, scores) if t.phase == "begin"]
        before = now_ns
    return begins


@pytest.mark.parametrize(
    "query",
    [
        Query("q", "a dog"),
        Query("q", "a dog", ("audio",), 0.61, 0.6, min_duration_s=0.0, cooldown_s=0.0),
        Query("q", "a dog", ("vision", "audio"), 0.734, 0.1, min_duration_s=1.2, cooldown_s=7.0),
    ],
    ids=["usual", "one modality", "slow"],
)
def test_the_curve_is_what_would_have_fired_at_every_threshold(query: Query) -> None:
    t_ns, values = times(300, hole_at=170), smooth_scores(1, 300)
    points = curve(query, t_ns, values, 1.0)
    assert [point.threshold for point in points] == sorted({*GRID, query.threshold_on})
    for point in points:
        ratio = query.threshold_off / query.threshold_on
        off = query.threshold_off if point.threshold == query.threshold_on else ratio * point.threshold
        tried = Query("x", "a dog", query.modalities, point.threshold, off, query.min_duration_s, query.cooldown_s)
        assert point.fired == len(fired_by_brute_force(t_ns, values, tried, 1.0)), point
    counts = [point.fired for point in points]
    assert max(counts) >= 5
    assert counts != sorted(counts, reverse=True), "a long alert falls apart as the threshold rises"


def test_hits_have_begin_end_carriers_and_peak() -> None:
    t_ns, values = times(20), np.full((20, 5), 0.01, np.float32)
    values[3:8, MODALITIES.index("vision")] = [0.7, 0.8, 0.95, 0.8, 0.4]
    values[6:10, MODALITIES.index("audio")] = 0.9
    values[18:, MODALITIES.index("imu")] = [0.9, 0.93]
    first, last = hits(t_ns, values[:, None], [Query("q", "a dog", threshold_on=0.6)], hold_s=1.0)[0]
    assert (first.begin_ns, first.end_ns, first.cut) == (t_ns[4], t_ns[10], False)
    assert first.modalities == ("vision", "audio")
    assert first.peak == (pytest.approx(0.95), "vision")
    assert first.duration_s == 3.0
    assert peak_ns(first, t_ns, values) == t_ns[5]
    assert (last.begin_ns, last.end_ns, last.cut, last.modalities) == (t_ns[19], t_ns[19], True, ("imu",))
    assert peak_ns(last, t_ns, values) == t_ns[19]


def test_an_alert_does_not_last_over_a_hole() -> None:
    values = np.full((10, 5), 0.9, np.float32)
    whole = hits(times(10), values[:, None], [Query("q", "a dog", threshold_on=0.6)], 1.0)[0]
    parted = hits(times(10, hole_at=5), values[:, None], [Query("q", "a dog", threshold_on=0.6)], 1.0)[0]
    assert [hit.cut for hit in whole] == [True]
    assert [(hit.begin_ns - 1000 * S) / S for hit in parted] == [0.5, 103.0]
    assert [hit.duration_s for hit in parted] == [1.5, 1.5]


def test_marked_alarms_are_not_false() -> None:
    t_ns, values = times(30), np.full((30, 5), 0.01, np.float32)
    values[3:8, 0], values[20:25, 0] = 0.9, 0.8
    marks = [Mark(1000 * S + 11 * S, 1000 * S + 13 * S), Mark(1000 * S + 14 * S, 1000 * S + 15 * S)]
    points = {point.threshold: point for point in curve(Query("q", "a dog"), t_ns, values, 1.0, marks)}
    assert points[0.6] == Point(0.6, fired=2, false=1, false_s=2.0, found=1)
    assert points[0.85] == Point(0.85, fired=1, false=1, false_s=2.0, found=0)
    assert points[0.6] + points[0.6] == Point(0.6, 4, 2, 4.0, 2)


def points_of(*false: int, false_s: float = 0.0) -> list[Point]:
    return [Point((i + 1) / 10, 9, count, false_s, 0) for i, count in enumerate(false)]


def test_the_suggested_threshold_is_the_lowest_above_which_the_rate_is_kept() -> None:
    points = points_of(1, 1, 4, 2, 2, 1, 0)
    assert suggested(points, hours=2.0, per_hour=1.0) == points[3]
    assert suggested(points, hours=2.0, per_hour=2.0) == points[0]
    assert suggested(points, hours=2.0, per_hour=0.0) == points[6]
    assert suggested(points_of(3, 3), hours=2.0, per_hour=1.0) is None


def test_a_threshold_at_which_the_alert_is_always_on_is_not_suggested() -> None:
    """It fires once, which is rare enough, and never ends."""
    points = [*points_of(1, 1, false_s=3600.0), Point(0.5, 1, 1, 10.0, 0), Point(0.9, 0, 0, 0.0, 0)]
    assert suggested(points, hours=1.0, per_hour=1.0) == points[2]


def test_hits_of_many_queries_are_those_of_each_alone() -> None:
    t_ns = times(200)
    values = np.stack([smooth_scores(seed, 200) for seed in (1, 2, 3)], axis=1)
    queries = [Query(f"q{i}", "a dog", threshold_on=x) for i, x in enumerate((0.5, 0.7, 0.9))]
    together = hits(t_ns, values, queries, 1.0)
    alone: list[list[Hit]] = [hits(t_ns, values[:, [i]], [query], 1.0)[0] for i, query in enumerate(queries)]
    assert together == alone
    assert all(alone)
