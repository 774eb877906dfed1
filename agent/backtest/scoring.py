"""A recording through the agent with new queries: the scores of every tick, as a live run would have had them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agent.config.parse import Config
from agent.log.format import LogError
from agent.log.stored_config import stored_config
from agent.log.timeline import Timeline
from agent.perceiving.alerts.book import hold_s_of
from agent.query import Query
from agent.scores import scores_of
from drivers.driver import MODALITIES
from protos import perception_pb2 as pb

MOST_WAITING = 1_000_000
"""Ticks that may wait to be counted; none comes close, since scoring one takes longer than counting it."""


class BacktestError(LogError):
    """A backtest cannot be made of these logs and options; the message is one line."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores of one recording: Q queries at T ticks."""

    timeline: Timeline
    config: Config
    """Configuration of its replay."""
    model: str
    times_ns: NDArray[np.int64]
    """[T]"""
    values: NDArray[np.float32]
    """[T, Q, M], columns as MODALITIES; nan where there was no window."""
    warnings: Mapping[str, Sequence[str]]
    """Warnings for the user, by the id of the query."""
    lacking: Mapping[str, int]
    """Ticks that have no scores, by reason."""

    @property
    def hours(self) -> float:
        """Evaluated time in hours, without the holes of the log."""
        return len(self.times_ns) * self.config.hop_ns / 3.6e12

    @property
    def hold_s(self) -> float:
        """Time for which a missing window keeps an alert on."""
        return hold_s_of(self.config.hop_ns)


def config_for(timeline: Timeline, config: Config | None) -> Config:
    """The given configuration, or the recording's own. Raises ConfigError."""
    return config or stored_config(timeline)


def score(
    timeline: Timeline,
    queries: Sequence[Query],
    config: Config,
    *,
    reuse_embeddings: bool = False,
    told_ns: Callable[[int], None] = lambda _: None,
) -> Scored:
    """Replay a recording as fast as the model goes, with these queries in place of the configured ones.

    `told_ns` is told the time of every tick. Raises what `agent.run.build.replay` and `load_model` do, and
    BacktestError when the recording has nothing that a query could be seen, heard or felt in.
    """
    _check_modalities(timeline, queries, config)

    from agent.run import build  # here: faults of the options need none of it
    from agent.run.to_the_end import events_of

    # The audio source is not asked for, and no alert depends on it.
    config = replace(config, queries=tuple(queries), camera=None, microphone=None)
    files = [file.path for file in timeline.files]
    pipeline = build.replay(files, config, reuse_embeddings=reuse_embeddings)
    only_scores = pb.SubscribeRequest(kinds=[pb.EVENT_KIND_EMBEDDING])
    rows = _Rows(queries)
    try:
        model = pipeline.load_model()
        for event in events_of(pipeline, only_scores, max_waiting=MOST_WAITING):
            rows.add(event)
            told_ns(event.capture_ns)
        status = pipeline.status()
    finally:
        pipeline.stop()
    lacking = dict(status.ticks_shed)
    if refused := pipeline.bus.refused.total():
        lacking["a value that is not finite"] = refused
    if not rows.times_ns:
        why = ", ".join(f"{count} {reason}" for reason, count in lacking.items()) or "it is too short"
        raise BacktestError(f"{timeline}: gives no tick to score: {why}")
    return Scored(
        timeline,
        config,
        model.name,
        np.array(rows.times_ns, np.int64),
        np.stack(rows.values),
        {standing.query.id: standing.warnings for standing in model.perceiving.queries()},
        lacking,
    )


class _Rows:
    """The scores of events, as they come."""

    def __init__(self, queries: Sequence[Query]) -> None:
        self.times_ns: list[int] = []
        self.values: list[NDArray[np.float32]] = []
        self._row = {query.id: row for row, query in enumerate(queries)}

    def add(self, event: pb.Event) -> None:
        values = np.full((len(self._row), len(MODALITIES)), np.nan, np.float32)
        scores = scores_of(event.embedding)
        rows = [self._row[query_id] for query_id in scores.query_ids]
        for modality, column in zip(scores.modalities, scores.values.T, strict=True):
            values[rows, MODALITIES.index(modality)] = column
        self.times_ns.append(event.capture_ns)
        self.values.append(values)


def _check_modalities(timeline: Timeline, queries: Sequence[Query], config: Config) -> None:
    present = {sensor.modality for name, sensor in timeline.sensors.items() if name in config.sensors}
    for query in queries:
        if not present.intersection(query.modalities or MODALITIES):
            wanted = " or ".join(query.modalities) or "any sensor that is configured"
            has = ", ".join(m for m in MODALITIES if m in present) or "nothing"
            raise BacktestError(f"{timeline}: query {query.text!r} needs {wanted}, and the log has {has}")
