"""Alarms of a query at other thresholds, and the one that keeps to a wanted rate. Pure.

Every threshold is tried: the book runs over all scores once with a row for each, so that a count is what would have
fired and no estimate. It need not fall as the threshold grows: what is one long alert at a low threshold can be three
short ones at a higher one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agent.backtest.hits import Hit, hits
from agent.query import Query

GRID: tuple[float, ...] = (*(step / 100 for step in range(1, 100)), *(step / 1000 for step in range(991, 1001)))
"""Thresholds that are tried. Scores crowd at 1, where hundredths are too coarse."""

MOST_ON = 0.1
"""Fraction of the time: an alert that is falsely on for longer is useless, however seldom it begins."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Capture times between which the user knows that something was there."""

    from_ns: int
    to_ns: int

    query: str | None = None
    """Id of the query that it is of; None: of any."""

    def is_of(self, query: Query) -> bool:
        """Return whether a query is to find it."""
        return self.query in (None, query.id)

    def meets(self, hit: Hit) -> bool:
        """Return whether a hit was on at some time of it."""
        return hit.begin_ns <= self.to_ns and self.from_ns <= hit.end_ns


@dataclass(frozen=True, slots=True)
class Point:
    """Counts at one threshold."""

    threshold: float
    fired: int
    false: int
    """Alarms outside of every mark; all of them if nothing is marked."""
    false_s: float
    """Time that false alarms were on."""
    found: int
    """Marks during which it fired."""

    def __add__(self, other: Point) -> Point:
        """The same threshold in another recording."""
        return Point(
            self.threshold,
            self.fired + other.fired,
            self.false + other.false,
            self.false_s + other.false_s,
            self.found + other.found,
        )


def curve(
    query: Query, times_ns: NDArray[np.int64], values: NDArray[np.float32], hold_s: float, marks: Sequence[Mark] = ()
) -> list[Point]:
    """Return the counts at each threshold of GRID and at the query's own, rising; `values` [T, M] are the query's
    scores.

    The threshold at which an alert ends keeps its ratio to the one at which it begins.
    """
    ratio = query.threshold_off / query.threshold_on
    thresholds = sorted({*GRID, query.threshold_on})
    tried = [
        query if x == query.threshold_on else replace(query, id=f"at{i}", threshold_on=x, threshold_off=ratio * x)
        for i, x in enumerate(thresholds)
    ]
    same = np.broadcast_to(values[:, None, :], (len(values), len(tried), values.shape[1]))
    return [
        point(threshold, fired, marks)
        for threshold, fired in zip(thresholds, hits(times_ns, same, tried, hold_s), strict=True)
    ]


def point(threshold: float, fired: Sequence[Hit], marks: Sequence[Mark]) -> Point:
    """Count what fired at a threshold."""
    false = [hit for hit in fired if not any(mark.meets(hit) for mark in marks)]
    found = sum(any(mark.meets(hit) for hit in fired) for mark in marks)
    return Point(threshold, len(fired), len(false), sum(hit.duration_s for hit in false), found)


def suggested(points: Sequence[Point], hours: float, per_hour: float) -> Point | None:
    """The lowest threshold from which on no higher one that was tried fires falsely more often than `per_hour`.

    None may be on falsely for more than MOST_ON of the time either: an alert that never ends is a single one.
    """
    best = None
    for tried in reversed(points):
        if tried.false > per_hour * hours or tried.false_s > MOST_ON * hours * 3600:
            break
        best = tried
    return best
