"""Long recordings in few points, and labels of their axes."""

from __future__ import annotations

import numpy as np
import pytest

from agent.backtest.page.axes import clock, time_ticks
from agent.backtest.page.reduction import merged, outline

S = 1_000_000_000
HOP_NS = S // 2
HOLD_NS = S


def times(ticks: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return 1000 * S + HOP_NS * np.arange(ticks, dtype=np.int64)


@pytest.mark.parametrize("ticks", [1, 2, 150, 199, 3000, 57_601])
@pytest.mark.parametrize("missing", [0.0, 0.3, 0.98])
def test_no_peak_is_lost_and_no_point_is_made_up(ticks: int, missing: float) -> None:
    columns = 100
    rng = np.random.default_rng(ticks)
    values = rng.beta(0.3, 2.0, ticks).astype(np.float32)
    values[rng.random(ticks) < missing] = np.nan
    if np.isnan(values).all():
        values[ticks // 2] = 0.5
    lines = outline(times(ticks), values, columns, HOLD_NS)
    t_ns, scores = (np.concatenate([line[part] for line in lines]) for part in (0, 1))
    assert len(scores) <= max(2 * columns, 1)
    assert np.all(np.diff(t_ns) > 0)
    at = (t_ns - times(ticks)[0]) // HOP_NS
    assert np.array_equal(values[at], scores)
    width = (ticks - 1) * HOP_NS // columns + 1
    column = (times(ticks) - times(ticks)[0]) // width
    for number in np.unique(column[~np.isnan(values)]):
        own, drawn = values[column == number], scores[(t_ns - times(ticks)[0]) // width == number]
        assert (drawn.min(), drawn.max()) == (np.nanmin(own), np.nanmax(own))


def test_a_short_recording_is_drawn_as_it_is() -> None:
    values = np.linspace(0.1, 0.9, 120, dtype=np.float32)
    ((t_ns, scores),) = outline(times(120), values, 60, HOLD_NS)
    assert np.array_equal(t_ns, times(120))
    assert np.array_equal(scores, values)


def test_a_line_ends_where_an_alert_would() -> None:
    """One missing score does not end one; nothing for longer than the hold does, whether there were ticks or not."""
    values = np.full(40, 0.4, np.float32)
    t_ns = times(40)
    values[5] = np.nan
    values[12:15] = np.nan
    t_ns[30:] += 100 * S
    lines = outline(t_ns, values, 60, HOLD_NS)
    assert [(len(line), line[0]) for line, _ in lines] == [(11, t_ns[0]), (15, t_ns[15]), (10, t_ns[30])]


def test_a_hole_of_a_long_recording_is_not_bridged() -> None:
    t_ns = times(4000)
    t_ns[1500:] += 3600 * S
    lines = outline(t_ns, np.full(4000, 0.4, np.float32), 80, HOLD_NS)
    assert len(lines) == 2
    assert lines[0][0][-1] == t_ns[1499]
    assert lines[1][0][0] == t_ns[1500]


def test_scores_that_come_seldom_by_plan_are_one_line() -> None:
    values = np.full(90, np.nan, np.float32)
    values[::6] = 0.3
    assert len(outline(times(90), values, 60, HOLD_NS)) == 1


def test_a_query_without_scores_has_no_line() -> None:
    assert outline(times(9), np.full(9, np.nan, np.float32), 60, HOLD_NS) == []


def test_spans_closer_than_can_be_seen_are_one_and_none_is_lost() -> None:
    spans = [(5.0, 6.0), (0.0, 3.0), (3.2, 3.3), (1.0, 9.0), (9.6, 9.7)]
    groups = merged(spans, lambda s: s[0], lambda s: s[1], 0.5)
    assert groups == [[(0.0, 3.0), (1.0, 9.0), (3.2, 3.3), (5.0, 6.0)], [(9.6, 9.7)]]


@pytest.mark.parametrize(
    ("seconds", "places", "told"),
    [(0.0, 0, "0:00"), (59.96, 1, "1:00.0"), (83.25, 1, "1:23.2"), (3723.0, 0, "1:02:03"), (-1.5, 1, "-0:01.5")],
)
def test_times_are_told_as_on_a_clock(seconds: float, places: int, told: str) -> None:
    assert clock(seconds, places) == told


@pytest.mark.parametrize(
    ("from_s", "to_s", "labels"),
    [
        (0.2, 1.9, ["0:00.5", "0:01.0", "0:01.5"]),
        (5.0, 89.0, ["0:15", "0:30", "0:45", "1:00", "1:15"]),
        (0.0, 28_800.0, ["0:00", "2:00:00", "4:00:00", "6:00:00", "8:00:00"]),
        (0.0, 864_000.0, ["0:00", "96:00:00", "192:00:00"]),
    ],
)
def test_labels_of_time_are_round(from_s: float, to_s: float, labels: list[str]) -> None:
    ticks = time_ticks(from_s, to_s)
    assert [label for _, label in ticks] == labels
    assert all(0 <= at <= 1 for at, _ in ticks)
    if labels[-1] == "8:00:00":
        assert [at for at, _ in ticks] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
