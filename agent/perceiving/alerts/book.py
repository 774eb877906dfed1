"""Begin and end of a query's alerts, and the modalities that carry them. Pure: ticks in, transitions out.

Each (query, modality) switches on at `threshold_on` and off below `threshold_off`. An alert begins when a modality has
been on for `min_duration_s`, is updated when the set of modalities that carry it changes, and ends when none is on any
more. A modality whose window is missing keeps its state for `hold_s`, then counts as off. The time in which windows are
left out on purpose does not count: nobody looked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.perceiving.alerts.table import Column, QueryTable
from agent.query import StandingQuery
from agent.scores import Scores
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
    """The state of the queries' alerts. Not thread-safe: use it on the table's thread.

    State lies in one column of the table, so that a tick costs the same few array operations for ten queries and for
    ten thousand: one comparison for all, and the rest for those on which something is on.
    """

    def __init__(self, table: QueryTable, *, hold_s: float = 1.0) -> None:
        self._table = table
        self._hold_ns = round(hold_s * 1e9)
        self._state: Column[np.void] = table.column(_STATE)
        self._alerts: dict[str, _Alert] = {}
        self._alert_ids = count(1)
        self._t_ns = _NEVER

    def add(self, standing: StandingQuery) -> int:
        """Watch for a query from the next tick on; its row. Raises QueryError as `QueryTable.add` does."""
        row = self._table.add(standing)
        self._begin(row)
        return row

    def remove(self, query_id: str) -> tuple[StandingQuery, Sequence[Transition]]:
        """Watch for it no more; with the end of its alert when one is on. Raises KeyError when it is unknown."""
        row = self._table.row_of(query_id)
        ended = [self._end(row, self._t_ns)] if query_id in self._alerts else []
        return self._table.remove(query_id), ended

    def start_anew(self) -> Sequence[Transition]:
        """Forget all that was, but the numbers of alerts; the ends of those that are on. Then time may step back."""
        alerting = [query_id for s in self._table.standing() if (query_id := s.query.id) in self._alerts]
        ended = [self._end(self._table.row_of(query_id), self._t_ns) for query_id in alerting]
        for row in range(len(self._table)):
            self._begin(row)
        self._t_ns = _NEVER
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

        `scores` are in the rows of the table, or say in which. A query that they lack counts as missing in every
        modality; the windows of `left_out` are missing because nobody looked. Raises ValueError for a tick before the
        last one. What following one query raises is given to `on_fault` with its id, and costs the others nothing.
        """
        if t_ns < self._t_ns:
            raise ValueError(f"tick at {t_ns} ns comes after the one at {self._t_ns} ns")
        since_ns = t_ns - self._t_ns if self._t_ns > _NEVER else 0
        self._t_ns = t_ns
        looked_ns = np.array([0 if m in left_out else since_ns for m in MODALITIES], dtype=np.int64)
        values = self._in_rows(scores)
        all_rows = self._state.rows
        on = (all_rows["on"] | (values >= all_rows["threshold_on"])).any(axis=1)
        rows = np.flatnonzero(on | all_rows["alerting"])
        state = _switched(all_rows[rows], values[rows], t_ns, looked_ns, self._hold_ns)
        all_rows[rows] = state
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
                on_fault(self._table.ids[row], error)
                continue
            if transition:
                followed.append(transition)
        return followed

    def _begin(self, row: int) -> None:
        """Set a row to the state of a query of which nothing was seen or heard."""
        query = self._table.query_at(row)
        state = np.zeros((), dtype=_STATE)
        state["allowed"] = [not query.modalities or m in query.modalities for m in MODALITIES]
        state["threshold_on"], state["threshold_off"] = query.threshold_on, query.threshold_off
        state["min_duration_ns"] = round(query.min_duration_s * 1e9)
        state["seen_ns"] = state["ready_ns"] = _NEVER
        state["best"] = -1
        self._state.rows[row] = state

    def _in_rows(self, scores: Scores) -> NDArray[np.float32]:
        """Scores in the table's rows, with a column for each of MODALITIES."""
        values = np.full((len(self._table), len(MODALITIES)), np.nan, dtype=np.float32)
        rows = slice(None) if scores.rows is None else scores.rows
        for modality, column in zip(scores.modalities, scores.values.T, strict=True):
            values[rows, _COLUMN[modality]] = column
        return values

    def _follow(self, row: int, carrying: frozenset[Modality], t_ns: int) -> Transition | None:
        """Begin, update or end the alert of one query."""
        query = self._table.query_at(row)
        alert = self._alerts.get(query.id)
        if alert is None:
            self._alerts[query.id] = _Alert(next(self._alert_ids), t_ns, carrying, carrying)
            self._state.rows["alerting"][row] = True
            return self._transition(row, "begin", carrying, t_ns)
        if not self._state.rows["on"][row].any():
            return self._end(row, t_ns)
        # While what carried it is gone and what joins it has not lasted yet, it stays with what carried it last.
        if not carrying or carrying == alert.carriers:
            return None
        alert.carriers, alert.carried = carrying, alert.carried | carrying
        return self._transition(row, "update", carrying, t_ns)

    def _end(self, row: int, t_ns: int) -> Transition:
        query = self._table.query_at(row)
        ended = self._transition(row, "end", self._alerts[query.id].carried, t_ns)
        del self._alerts[query.id]
        state = self._state.rows
        state["alerting"][row] = False
        state["best"][row] = -1
        state["ready_ns"][row] = t_ns + round(query.cooldown_s * 1e9)
        return ended

    def _transition(self, row: int, phase: Phase, modalities: frozenset[Modality], t_ns: int) -> Transition:
        query = self._table.query_at(row)
        alert = self._alerts[query.id]
        scores = self._state.rows["best"][row].tolist()
        best = {m: score for m, score in zip(MODALITIES, scores, strict=True) if score >= 0}
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
