"""A whole backtest: queries over recordings, from scores to a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np

from agent.backtest.hits import hits, peak_ns
from agent.backtest.outcomes import outcome
from agent.backtest.report import Found, QueryReport, Report, histogram
from agent.backtest.scoring import BacktestError, Scored, config_for, score
from agent.backtest.thresholds import Mark, Point, curve, suggested
from agent.config.parse import Config
from agent.log.timeline import Timeline
from agent.query import Query
from common.progress import Progress, untold
from drivers.driver import MODALITIES


def backtest(
    recordings: Sequence[Timeline],
    queries: Sequence[Query],
    config: Config | None = None,
    *,
    reuse_embeddings: bool = False,
    wanted_per_hour: float | None = None,
    marks: Sequence[Mark] = (),
    progress: Progress = untold,
) -> Report:
    """Run queries over recordings, each by its own configuration unless one is given. Raises LogError, ConfigError ...

    `wanted_per_hour` is the rate of false alarms that a threshold is suggested for; a hit is false unless it meets one
    of `marks`. `progress` is told seconds of the recordings. Memory grows by 20 bytes a tick and query, not by what a
    log holds.
    """
    if wanted_per_hour is not None and not (math.isfinite(wanted_per_hour) and wanted_per_hour >= 0):
        raise BacktestError(f"--false-alarms-per-hour {wanted_per_hour:g}: not a rate; give 0 or more")
    scored: list[Scored] = []
    lengths_s = [(timeline.end_ns - timeline.start_ns) / 1e9 for timeline in recordings]
    progress("seconds of the recordings", 0.0, sum(lengths_s))
    for number, (timeline, length_s) in enumerate(zip(recordings, lengths_s, strict=True)):
        before_s, own = sum(lengths_s[:number]), config_for(timeline, config)

        def told_ns(
            t_ns: int, begin_ns: int = timeline.start_ns, length_s: float = length_s, before_s: float = before_s
        ) -> None:
            done_s = min((t_ns - begin_ns) / 1e9, length_s)
            progress("seconds of the recordings", before_s + done_s, sum(lengths_s))

        scored.append(score(timeline, queries, own, reuse_embeddings=reuse_embeddings, told_ns=told_ns))
    if others := [s for s in scored if s.model != scored[0].model]:
        raise BacktestError(
            f"{others[0].timeline}: its configuration names the model {others[0].model}, that of "
            f"{scored[0].timeline} {scored[0].model}; scores of two models do not compare: give one --config"
        )
    hours = sum(s.hours for s in scored)
    reports = [query_report(scored, i, query, marks, hours, wanted_per_hour) for i, query in enumerate(queries)]
    return Report(scored[0].model, scored, reports, reuse_embeddings, len(marks), wanted_per_hour)


def query_report(
    scored: Sequence[Scored],
    row: int,
    query: Query,
    marks: Sequence[Mark],
    hours: float,
    wanted_per_hour: float | None,
) -> QueryReport:
    """Run the book over the scores of a query, which is row `row` of them."""
    own = [mark for mark in marks if mark.is_of(query)]
    found: list[Found] = []
    curves: list[list[Point]] = []
    for recording in scored:
        times_ns, values = recording.times_ns, recording.values[:, row]
        for hit in hits(times_ns, values[:, None], [query], recording.hold_s)[0]:
            marked = any(mark.meets(hit) for mark in own)
            found.append(Found(recording, hit, peak_ns(hit, times_ns, values), marked))
        curves.append(curve(query, times_ns, values, recording.hold_s, own))
    points = [reduce(add, same) for same in zip(*curves, strict=True)]
    values = np.concatenate([recording.values[:, row] for recording in scored])
    scorable = [MODALITIES.index(modality) for modality in query.modalities or MODALITIES]
    fired = [one.hit for one in found]
    by_recording = [(recording.times_ns, recording.values[:, row]) for recording in scored]
    return QueryReport(
        query,
        scored[0].warnings[query.id],
        found,
        points,
        histogram(values),
        None if wanted_per_hour is None else suggested(points, hours, wanted_per_hour),
        [scores for _, scores in by_recording],
        [outcome(mark, query, fired, by_recording) for mark in own],
        int(np.isnan(values[:, scorable]).all(axis=1).sum()),
    )
