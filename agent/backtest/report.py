"""Results of a backtest, and the same as plain values for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.backtest.hits import Hit
from agent.backtest.outcomes import Outcome
from agent.backtest.rates import interval
from agent.backtest.scoring import Scored
from agent.backtest.thresholds import Point
from agent.query import Query
from drivers.driver import MODALITIES, Modality
from drivers.forms import FORMS

BINS = 50
"""Number of bins of the histogram, from 0 to 1."""
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A hit, and where it is."""

    recording: Scored
    hit: Hit
    peak_ns: int
    marked: bool
    """True if it was on during a time that the user marked as true."""

    def since_start_s(self, t_ns: int) -> float:
        """Seconds from the start of its recording."""
        return (t_ns - self.recording.timeline.start_ns) / 1e9


@dataclass(frozen=True, slots=True, eq=False)
class QueryReport:
    """Result of one query."""

    query: Query
    warnings: Sequence[str]
    found: Sequence[Found]
    """Hits in order of time."""
    points: Sequence[Point]
    """Counts at the thresholds that were tried, rising."""
    histogram: dict[Modality, NDArray[np.int64]]
    """Scores of ticks [BINS], of each modality that there were any of."""
    keeps: Point | None
    """The lowest threshold from which on all keep to the wanted rate; None if none does, or no rate is wanted."""
    scores: Sequence[NDArray[np.float32]]
    """Of each recording [T, M], at its ticks; columns as MODALITIES, nan where there was no window."""
    outcomes: Sequence[Outcome] = ()
    """Times at which it is known to be true, and what became of each."""
    unscored: int = 0
    """Ticks at which none of its modalities had a window."""

    @property
    def marks(self) -> int:
        """Number of times at which it is known to be true."""
        return len(self.outcomes)

    @property
    def modalities(self) -> list[Modality]:
        """Modalities that the query asks of and that have scores, in the order of MODALITIES."""
        return [
            modality
            for modality in MODALITIES
            if modality in self.histogram and modality in (self.query.modalities or MODALITIES)
        ]

    @property
    def suggestion(self) -> Point | None:
        """The threshold to take; None if none keeps to the wanted rate, or what keeps to it finds no marked time."""
        return None if self.keeps is None or (self.marks and not self.keeps.found) else self.keeps

    @property
    def first_found(self) -> Point | None:
        """The highest threshold that finds a marked time."""
        return max((point for point in self.points if point.found), key=lambda point: point.threshold, default=None)

    @property
    def best(self) -> list[Found]:
        """The hits, those with the highest scores first."""
        return sorted(self.found, key=lambda found: (-found.hit.peak[0], found.hit.begin_ns))


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Results of all queries over all recordings."""

    model: str
    recordings: Sequence[Scored]
    queries: Sequence[QueryReport]
    reused: bool
    """The log's own vectors were scored."""
    marks: int
    wanted_per_hour: float | None
    hours: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hours", sum(recording.hours for recording in self.recordings))

    def document(self) -> dict[str, Any]:
        """Plain values, for JSON. The same logs, queries, configuration and weights give the same ones."""
        return {
            "model": self.model,
            "hours": self.hours,
            "reused_embeddings": self.reused,
            "marks": self.marks,
            "false_alarms_per_hour_wanted": self.wanted_per_hour,
            "recordings": [_recording(recording) for recording in self.recordings],
            "queries": [self._query(query) for query in self.queries],
        }

    def _query(self, report: QueryReport) -> dict[str, Any]:
        return {
            **report.query.tree(),
            "warnings": list(report.warnings),
            "alarms": len(report.found),
            "alarms_per_hour": len(report.found) / self.hours,
            "alarms_per_hour_95": list(interval(len(report.found), self.hours)),
            "marks": report.marks,
            "ticks_unscored": report.unscored,
            "hits": [self._found(found) for found in report.found],
            "marked_times": [_outcome(outcome) for outcome in report.outcomes],
            "histogram": {modality: counts.tolist() for modality, counts in report.histogram.items()},
            "curve": [self.point(point) for point in report.points],
            "suggested": self.point(report.suggestion) if report.suggestion else None,
        }

    def point(self, point: Point) -> dict[str, Any]:
        """Return the counts at one threshold."""
        return {
            "threshold": point.threshold,
            "alarms": point.fired,
            "alarms_per_hour": point.fired / self.hours,
            "false_alarms": point.false,
            "false_alarms_per_hour": point.false / self.hours,
            "false_s": point.false_s,
            "marks_found": point.found,
        }

    def _found(self, found: Found) -> dict[str, Any]:
        hit, (score, modality) = found.hit, found.hit.peak
        return {
            "recording": self.recordings.index(found.recording),
            "begin_s": found.since_start_s(hit.begin_ns),
            "begin_ns": hit.begin_ns,
            "begin_utc": utc(hit.begin_ns),
            "end_s": found.since_start_s(hit.end_ns),
            "end_ns": hit.end_ns,
            "duration_s": hit.duration_s,
            "on_at_end": hit.cut,
            "modalities": list(hit.modalities),
            "scores": {modality: hit.scores[modality] for modality in hit.modalities},
            "peak_score": score,
            "peak_modality": modality,
            "peak_s": found.since_start_s(found.peak_ns),
            "peak_ns": found.peak_ns,
            "marked": found.marked,
        }


def histogram(values: NDArray[np.float32]) -> dict[Modality, NDArray[np.int64]]:
    """Return the number of ticks in each bin of scores, by modality; `values` [T, M] are one query's."""
    counted = {}
    for column, modality in enumerate(MODALITIES):
        scores = values[:, column]
        scores = scores[~np.isnan(scores)]
        if len(scores):
            counted[modality] = np.histogram(scores, BINS, (0.0, 1.0))[0].astype(np.int64)
    return counted


def senses(hit: Hit) -> str:
    """Return the senses that carried a hit: `seen, heard`."""
    return ", ".join(FORMS[modality].sense for modality in hit.modalities)


def utc(t_ns: int) -> str:
    """A capture time to the millisecond: `2026-05-04T10:00:00.500Z`."""
    at = _EPOCH + timedelta(microseconds=t_ns // 1000)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _outcome(outcome: Outcome) -> dict[str, Any]:
    score, modality = outcome.best or (None, None)
    return {
        "from_ns": outcome.mark.from_ns,
        "to_ns": outcome.mark.to_ns,
        "found": outcome.found,
        "best_score": score,
        "best_modality": modality,
    }


def _recording(recording: Scored) -> dict[str, Any]:
    timeline = recording.timeline
    return {
        "files": [str(file.path) for file in timeline.files],
        "run_id": timeline.facts.run_id,
        "start_ns": timeline.start_ns,
        "start_utc": utc(timeline.start_ns),
        "ticks": len(recording.times_ns),
        "hours": recording.hours,
        "ticks_without_scores": dict(recording.lacking),
    }
