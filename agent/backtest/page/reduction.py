"""Long recordings in few points, so that a page opens quickly: no peak is lost. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_USUAL_SPACINGS = 2.5
"""A line ends where the next score is further away than this many usual ones."""

T = TypeVar("T")


def outline(
    times_ns: NDArray[np.int64], values: NDArray[np.float32], columns: int, hold_ns: int
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Return the lines to draw: times and values of each; `values` [T] is nan where there is no score.

    Of each of `columns` equal stretches of time only the lowest and the highest score are kept, where they are, so
    that there are at most 2 * columns points in all. A line is interrupted where nothing came for longer than
    `hold_ns`, the time for which an alert outlives missing scores, unless scores are further apart as a rule.
    """
    present = ~np.isnan(values)
    t_ns, scores = times_ns[present], values[present]
    if not len(t_ns):
        return []
    column_ns = (int(times_ns[-1]) - int(times_ns[0])) // columns + 1
    usual_ns = float(np.median(np.diff(t_ns))) if len(t_ns) > 1 else 0.0
    longest_ns = max(hold_ns, _USUAL_SPACINGS * usual_ns)
    if len(t_ns) > 2 * columns:
        column = (t_ns - times_ns[0]) // column_ns
        by_score = np.lexsort((scores, column))
        edges = np.flatnonzero(np.diff(column[by_score])) + 1
        lowest, highest = by_score[np.r_[0, edges]], by_score[np.r_[edges - 1, len(by_score) - 1]]
        kept = np.unique(np.concatenate([lowest, highest]))
        t_ns, scores = t_ns[kept], scores[kept]
        # Two kept points of neighbouring columns are up to two columns apart although nothing is missing.
        longest_ns = max(longest_ns, 2 * column_ns)
    breaks = np.flatnonzero(np.diff(t_ns) > longest_ns) + 1
    return list(zip(np.split(t_ns, breaks), np.split(scores, breaks), strict=True))


def merged(spans: Iterable[T], begin: Callable[[T], float], end: Callable[[T], float], least: float) -> list[list[T]]:
    """Return spans in groups, in order of their begins; those less than `least` apart are in one group."""
    groups: list[list[T]] = []
    until = float("-inf")
    for span in sorted(spans, key=begin):
        if groups and begin(span) - until < least:
            groups[-1].append(span)
        else:
            groups.append([span])
        until = max(until, end(span))
    return groups
