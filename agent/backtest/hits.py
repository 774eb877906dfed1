"""Alerts that follow from scores: the agent's own book, run again. Pure.

A hit is one alert from its begin to its end. The book that decides is the one that decides live, so that the same
scores give the same alerts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from agent.perceiving.alerts.book import AlertBook, Transition
from agent.perceiving.alerts.table import QueryTable
from agent.query import Query, StandingQuery
from agent.scores import Scores
from agent.streams import LONGEST_HOLE_NS
from drivers.driver import MODALITIES, Modality


@dataclass(frozen=True, slots=True)
class Hit:
    """One alert. Times are capture times of ticks."""

    begin_ns: int
    end_ns: int
    cut: bool
    """True if it was still on at the end of the log, or at a hole in it."""
    modalities: tuple[Modality, ...]
    """All that carried it at some time."""
    scores: Mapping[Modality, float]
    """The best of each."""

    @property
    def duration_s(self) -> float:
        """Duration from begin to end."""
        return (self.end_ns - self.begin_ns) / 1e9

    @property
    def peak(self) -> tuple[float, Modality]:
        """The best score of what carried it, and whose it is."""
        return max((self.scores[modality], modality) for modality in self.modalities)


def hits(
    times_ns: NDArray[np.int64], values: NDArray[np.float32], queries: Sequence[Query], hold_s: float
) -> list[list[Hit]]:
    """Return the hits of each query, in order of their ends. `values` [T, Q, M] is nan where there is no score.

    Alerts end at a hole in the log and begin anew after it, as in a replay.
    """
    found: dict[str, list[Hit]] = {query.id: [] for query in queries}
    ids = tuple(found)
    for stretch in _stretches(times_ns):
        book = AlertBook(QueryTable(), hold_s=hold_s)
        for query in queries:
            book.add(StandingQuery(query))
        for t_ns, scores in zip(times_ns[stretch].tolist(), values[stretch], strict=True):
            for transition in book.step(t_ns, Scores(ids, MODALITIES, scores)):
                if transition.phase == "end":
                    found[transition.query_id].append(_hit(transition, cut=False))
        for query_id in ids:
            found[query_id] += [_hit(transition, cut=True) for transition in book.remove(query_id)[1]]
    return list(found.values())


def peak_ns(hit: Hit, times_ns: NDArray[np.int64], values: NDArray[np.float32]) -> int:
    """Return the time of a hit's best score; `values` [T, M] are those of its query."""
    best, modality = hit.peak
    until = int(np.searchsorted(times_ns, hit.end_ns, side="right"))
    equal = np.flatnonzero(values[:until, MODALITIES.index(modality)] == np.float32(best))
    return int(times_ns[equal[-1]])


def _stretches(times_ns: NDArray[np.int64]) -> Iterator[slice]:
    """Yield the stretches between holes over which a replay jumps."""
    holes = np.flatnonzero(np.diff(times_ns) > LONGEST_HOLE_NS) + 1
    edges = [0, *holes.tolist(), len(times_ns)]
    return (slice(begin, end) for begin, end in pairwise(edges))


def _hit(end: Transition, *, cut: bool) -> Hit:
    return Hit(end.begin_ns, end.t_ns, cut, end.modalities, end.scores)
