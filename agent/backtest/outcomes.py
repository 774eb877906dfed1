"""Marked times, and what became of each: found, or missed, and by how much. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.backtest.hits import Hit
from agent.backtest.thresholds import Mark
from agent.query import Query
from drivers.driver import MODALITIES, Modality


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a marked time at the query's threshold."""

    mark: Mark
    found: bool
    """True if an alert was on at some time of it."""
    best: tuple[float, Modality] | None
    """The best score of a tick in it, and whose it is; None if the query was not scored then."""


def outcome(
    mark: Mark, query: Query, hits: Sequence[Hit], recordings: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]]
) -> Outcome:
    """Look up a marked time; `recordings` are times [T] of ticks and the query's scores [T, M] of each."""
    best: tuple[float, Modality] | None = None
    for times_ns, values in recordings:
        within = slice(np.searchsorted(times_ns, mark.from_ns), np.searchsorted(times_ns, mark.to_ns, side="right"))
        for modality in query.modalities or MODALITIES:
            scores = values[within, MODALITIES.index(modality)]
            scores = scores[~np.isnan(scores)]
            if len(scores) and (best is None or scores.max() > best[0]):
                best = (float(scores.max()), modality)
    return Outcome(mark, any(mark.meets(hit) for hit in hits), best)
