"""A query's scores over a recording, by modality, with the threshold, the marked times and the alarms. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agent.backtest.outcomes import Outcome
from agent.backtest.page.axes import clock, time_ticks
from agent.backtest.page.lanes import Bar, Lanes, Points
from agent.backtest.page.markup import Markup
from agent.backtest.page.reduction import merged, outline
from agent.backtest.report import Found, QueryReport, senses
from agent.backtest.scoring import Scored
from drivers.driver import MODALITIES, Modality
from drivers.forms import FORMS

COLUMNS = 600
"""The chart shows as much of a recording as this many columns can: finer than a screen."""


class ScoreChart:
    """The time axis of a recording, and what a query's chart shows on it."""

    def __init__(self, query: QueryReport, recording: Scored, row: int, columns: int = COLUMNS) -> None:
        """`row` is the place of the recording among those of the report."""
        self._query, self._recording = query, recording
        self._scores = query.scores[row]
        self._columns = columns
        self._from_ns = int(recording.times_ns[0])
        self._to_ns = max(int(recording.times_ns[-1]), self._from_ns + recording.config.hop_ns)
        self._least_ns = (self._to_ns - self._from_ns) / columns
        self._found = [found for found in query.found if found.recording is recording]
        self._outcomes = [
            outcome
            for outcome in query.outcomes
            if outcome.mark.from_ns <= self._to_ns and outcome.mark.to_ns >= self._from_ns
        ]

    def svg(self, id_: str, links: Mapping[Found, str]) -> Markup:
        """Draw it; `links` are the ids of the moments that the page shows."""
        lanes = Lanes()
        if self._query.marks:
            lanes.strip("marked", self._marks(self._outcomes), "mark")
            lanes.strip("missed", self._marks([o for o in self._outcomes if not o.found]), "missed")
            lanes.strip("hits", self._alarms([f for f in self._found if f.marked], "hit", links), "hit")
            lanes.strip("false", self._alarms([f for f in self._found if not f.marked], "false alarm", links), "false")
        else:
            lanes.strip("alarms", self._alarms(self._found, "alarm", links), "alarm")
        lanes.shade(self._alarms(self._found, "alarm", {}))
        for modality in self._query.modalities:
            lanes.lane(FORMS[modality].sense, self._curves(modality), level=self._query.query.threshold_on)
        lanes.axis(
            time_ticks(self._seconds(self._from_ns), self._seconds(self._to_ns)), "time from the start of the recording"
        )
        return lanes.svg(id_, "Scores over time", self._says())

    def _says(self) -> str:
        """The chart in words: the best score of each modality and its time."""
        told = []
        for modality in self._query.modalities:
            scores = self._scores[:, MODALITIES.index(modality)]
            if not np.isnan(scores).all():
                at = int(np.nanargmax(scores))
                told.append(f"{FORMS[modality].sense} {scores[at]:.3f} at {self._clock(self._recording.times_ns[at])}")
        counts = f"alarms: {len(self._found)}"
        if self._query.marks:
            missed = sum(not outcome.found for outcome in self._outcomes)
            counts += f", of which false: {sum(not f.marked for f in self._found)}; marked times: "
            counts += f"{len(self._outcomes)}, of which missed: {missed}"
        return f"{counts}; best scores: {', '.join(told) or 'none'}"

    def _curves(self, modality: Modality) -> list[Points]:
        hold_ns = round(self._recording.hold_s * 1e9)
        scores = self._scores[:, MODALITIES.index(modality)]
        return [
            [(self._at(t_ns), score) for t_ns, score in zip(times_ns.tolist(), values.tolist(), strict=True)]
            for times_ns, values in outline(self._recording.times_ns, scores, self._columns, hold_ns)
        ]

    def _alarms(self, found: Sequence[Found], name: str, links: Mapping[Found, str]) -> list[Bar]:
        bars = []
        for group in merged(found, lambda f: f.hit.begin_ns, lambda f: f.hit.end_ns, self._least_ns):
            best = max(group, key=lambda f: f.hit.peak[0])
            hit = best.hit
            told = f"{name} at {self._clock(hit.begin_ns)} for {hit.duration_s:.1f} s: {hit.peak[0]:.3f}, {senses(hit)}"
            if len(group) > 1:
                told = f"{len(group)} times; the best: {told}"
            ends = (group[0].hit.begin_ns, max(f.hit.end_ns for f in group))
            bars.append(Bar(self._at(ends[0]), self._at(ends[1]), told, links.get(best)))
        return bars

    def _marks(self, outcomes: Sequence[Outcome]) -> list[Bar]:
        bars = []
        for group in merged(outcomes, lambda o: o.mark.from_ns, lambda o: o.mark.to_ns, self._least_ns):
            begin, end = group[0].mark.from_ns, max(o.mark.to_ns for o in group)
            state = "found" if all(o.found for o in group) else "missed" if len(group) == 1 else "some missed"
            told = f"marked time{'' if len(group) == 1 else 's'} {self._clock(begin)} to {self._clock(end)}: {state}"
            bars.append(Bar(self._at(begin), self._at(end), told))
        return bars

    def _at(self, t_ns: int) -> float:
        return min(max((t_ns - self._from_ns) / (self._to_ns - self._from_ns), 0.0), 1.0)

    def _seconds(self, t_ns: int) -> float:
        return (t_ns - self._recording.timeline.start_ns) / 1e9

    def _clock(self, t_ns: int) -> str:
        return clock(self._seconds(t_ns), 1)
