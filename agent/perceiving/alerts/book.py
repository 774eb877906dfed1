"""When a query's alert begins, by which modalities it is carried, and when it ends. Pure: ticks in, transitions out.

Each (query, modality) switches on at `threshold_on` and off below `threshold_off`. An alert begins when a modality has
been on for `min_duration_s`, is updated when the set of modalities that carry it changes, and ends when none is on any
more. A modality whose window is missing keeps its state for `hold_s`, then counts as off. The time in which windows are
left out on purpose does not count: nobody looked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, MutableSequence, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.perceiving.alerts.scoring import Scores
from agent.query import Query, QueryError
from drivers.driver import MODALITIES, Modality

Phase = Literal["begin", "update", "end"]

_STATE = np.dtype(
    [
        ("allowed", np.bool_, len(MODALITIES)),
        ("threshold_on", np.float32, 1),
        ("threshold_off", np.float32, 1),
        ("min_duration_ns", np.int64, 1),
        ("on", np.bool_, len(MODALITIES)),
        ("since_ns", np.int64, len(MODALITIES)),  # when it went on
        ("seen_ns", np.int64, len(MODALITIES)),  # its last score while on
        ("missed_ns", np.int64, len(MODALITIES)),  # time since then in which it was looked for
        ("best", np.float32, len(MODALITIES)),  # since the first modality went on; below 0: no score
        ("alerting", np.bool_),
        ("ready_ns", np.int64),  # end of the cool-down
    ]
)
_COLUMN: dict[Modality, int] = {modality: i for i, modality in enumerate(MODALITIES)}
_NEVER = np.iinfo(np.int64).min // 2


def hold_s_of(hop_ns: int) -> float:
    """For how long an alert outlives missing windows: one or two must not end it, however far apart windows are."""
    return max(1.0, 2 * hop_ns / 1e9)


@dataclass(frozen=True, slots=True)
class Transition:
    """An alert begins, is carried by other modalities than before, or ends."""

    query_id: str
    text: str
    phase: Phase
    alert_id: int
    modalities: tuple[Modality, ...]
    """Begin and update: those that carry it now. End: all that carried it at some time."""
    scores: dict[Modality, float]
    """Best score of each modality since the first of them went on."""
    begin_ns: int
    t_ns: int


@dataclass(slots=True)
class _Alert:
    """One that has begun and not ended."""

    alert_id: int
    begin_ns: int
    carriers: frozenset[Modality]
    carried: frozenset[Modality]


class AlertBook:
    """The queries and the state of their alerts. Not thread-safe: use it on one thread.

    State lies in one array with a row a query, so that a tick costs the same few array operations for ten queries and
    for ten thousand: one comparison for all, and the rest for those on which something is on.
    """

    def __init__(self, *, hold_s: float = 1.0, max_queries: int = 10_000) -> None:
        self._hold_ns = round(hold_s * 1e9)
        self._max_queries = max_queries
        self._queries: MutableSequence[Query] = []
        self._state = np.zeros(0, dtype=_STATE)
        self._row: dict[str, int] = {}
        self._alerts: dict[str, _Alert] = {}
        self._last_alert_id = 0
        self._t_ns = _NEVER
        self._scored_ids: tuple[str, ...] | None = None
        self._scored_rows = np.zeros(0, dtype=np.intp)

    def list(self) -> Sequence[Query]:
        """All queries, oldest first."""
        return tuple(self._queries)

    def add(self, query: Query) -> None:
        """Watch for a query from the next tick on. Raises QueryError for an id in use, or one query too many."""
        if query.id in self._row:
            raise QueryError("id", f"{query.id!r} is in use; remove that query first, or take another id")
        if len(self._queries) >= self._max_queries:
            raise QueryError("id", f"there are {self._max_queries} queries already; remove one first")
        row = np.zeros(1, dtype=_STATE)
        row["allowed"] = [not query.modalities or m in query.modalities for m in MODALITIES]
        row["threshold_on"], row["threshold_off"] = query.threshold_on, query.threshold_off
        row["min_duration_ns"] = round(query.min_duration_s * 1e9)
        row["seen_ns"] = row["ready_ns"] = _NEVER
        row["best"] = -1
        self._row[query.id] = len(self._queries)
        self._queries.append(query)
        self._state = np.concatenate([self._state, row])
        self._scored_ids = None

    def remove(self, query_id: str) -> Sequence[Transition]:
        """Watch for it no more; the end of its alert when one is on. Raises KeyError when it is unknown."""
        row = self._row[query_id]
        ended = [self._end(row, self._t_ns)] if query_id in self._alerts else []
        del self._queries[row]
        self._state = np.delete(self._state, row)
        self._row = {query.id: i for i, query in enumerate(self._queries)}
        self._scored_ids = None
        return ended

    def step(
        self,
        t_ns: int,
        scores: Scores,
        *,
        left_out: Collection[Modality] = (),
        on_fault: Callable[[str, Exception], None] | None = None,
    ) -> Sequence[Transition]:
        """Take the scores of the tick at `t_ns`, which never steps back, and tell what changed.

        A query that `scores` lacks counts as missing in every modality; the windows of `left_out` are missing because
        nobody looked. Raises ValueError for scores of a query that was never added, or for a tick before the last one.
        What following one query raises is given to `on_fault` with its id, and costs the others nothing.
        """
        if t_ns < self._t_ns:
            raise ValueError(f"tick at {t_ns} ns comes after the one at {self._t_ns} ns")
        since_ns = t_ns - self._t_ns if self._t_ns > _NEVER else 0
        self._t_ns = t_ns
        looked_ns = np.array([0 if m in left_out else since_ns for m in MODALITIES], dtype=np.int64)
        values = self._in_rows(scores)
        on = (self._state["on"] | (values >= self._state["threshold_on"])).any(axis=1)
        rows = np.flatnonzero(on | self._state["alerting"])
        state = _switched(self._state[rows], values[rows], t_ns, looked_ns, self._hold_ns)
        self._state[rows] = state
        # Evidence counts, not held state: from the first score over the threshold to the last one that came.
        carrying = state["on"] & (state["seen_ns"] - state["since_ns"] >= state["min_duration_ns"])  # [rows, M]
        concerned = state["alerting"] | (carrying.any(axis=1) & (t_ns >= state["ready_ns"]))
        followed = []
        for i in np.flatnonzero(concerned):
            row = int(rows[i])
            try:
                transition = self._follow(row, _names(carrying[i]), t_ns)
            except Exception as error:
                if on_fault is None:
                    raise
                on_fault(self._queries[row].id, error)
                continue
            if transition:
                followed.append(transition)
        return followed

    def _in_rows(self, scores: Scores) -> NDArray[np.float32]:
        """Scores in the book's rows, with a column for each of MODALITIES."""
        if self._scored_ids is not scores.query_ids:
            if unknown := [q for q in scores.query_ids if q not in self._row]:
                raise ValueError(f"scores of query {unknown[0]!r}, which was never added")
            self._scored_ids = scores.query_ids
            self._scored_rows = np.array([self._row[q] for q in scores.query_ids], dtype=np.intp)
        values = np.full(self._state["on"].shape, np.nan, dtype=np.float32)
        columns = np.array([_COLUMN[m] for m in scores.modalities], dtype=np.intp)
        values[self._scored_rows[:, None], columns] = scores.values
        return values

    def _follow(self, row: int, carrying: frozenset[Modality], t_ns: int) -> Transition | None:
        """Begin, update or end the alert of one query."""
        query = self._queries[row]
        alert = self._alerts.get(query.id)
        if alert is None:
            self._last_alert_id += 1
            self._alerts[query.id] = _Alert(self._last_alert_id, t_ns, carrying, carrying)
            self._state["alerting"][row] = True
            return self._transition(row, "begin", carrying, t_ns)
        if not self._state["on"][row].any():
            return self._end(row, t_ns)
        # While what carried it is gone and what joins it has not lasted yet, it stays with what carried it last.
        if not carrying or carrying == alert.carriers:
            return None
        alert.carriers, alert.carried = carrying, alert.carried | carrying
        return self._transition(row, "update", carrying, t_ns)

    def _end(self, row: int, t_ns: int) -> Transition:
        query = self._queries[row]
        ended = self._transition(row, "end", self._alerts[query.id].carried, t_ns)
        del self._alerts[query.id]
        self._state["alerting"][row] = False
        self._state["best"][row] = -1
        self._state["ready_ns"][row] = t_ns + round(query.cooldown_s * 1e9)
        return ended

    def _transition(self, row: int, phase: Phase, modalities: frozenset[Modality], t_ns: int) -> Transition:
        query = self._queries[row]
        alert = self._alerts[query.id]
        best = {m: score for m, score in zip(MODALITIES, self._state["best"][row].tolist(), strict=True) if score >= 0}
        ordered = tuple(m for m in MODALITIES if m in modalities)
        return Transition(query.id, query.text, phase, alert.alert_id, ordered, best, alert.begin_ns, t_ns)


def _switched(
    state: NDArray[np.void], values: NDArray[np.float32], t_ns: int, looked_ns: NDArray[np.int64], hold_ns: int
) -> NDArray[np.void]:
    """Hysteresis of every (query, modality); `values` [Q, M] is nan where there is no score.

    `looked_ns` [M] is the time since the last tick, 0 where nobody looked.
    """
    present = ~np.isnan(values) & state["allowed"]
    was_on = state["on"].copy()
    over = values >= np.where(was_on, state["threshold_off"], state["threshold_on"])  # nan is never over
    state["missed_ns"] = np.where(present, 0, state["missed_ns"] + looked_ns)
    held = was_on & (state["missed_ns"] <= hold_ns)
    state["on"] = np.where(present, over, held)
    state["since_ns"][state["on"] & ~was_on] = t_ns
    state["seen_ns"][present] = t_ns
    rising = state["on"].any(axis=1) | state["alerting"]
    best = np.fmax(state["best"], np.where(present, values, np.float32(-1)))
    state["best"] = np.where(rising[:, None], best, np.float32(-1))
    return state


def _names(flags: NDArray[np.bool_]) -> frozenset[Modality]:
    return frozenset(m for m, flag in zip(MODALITIES, flags.tolist(), strict=True) if flag)
