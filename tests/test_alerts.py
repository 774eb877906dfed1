"""Alerts begin, are updated and end as the scores of known signals say."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.perceiving.alerts.book import AlertBook, Transition
from agent.perceiving.alerts.table import QueryTable
from agent.query import Query, QueryError, StandingQuery
from agent.scores import Scores
from drivers.driver import MODALITIES, Modality

HOP_NS = 500_000_000
ON, OFF, BETWEEN = 0.9, 0.1, 0.4  # against thresholds 0.5 and 0.3


def scores_of(values: Mapping[str, Mapping[Modality, float]]) -> Scores:
    """Scores of several queries that all have the same modalities."""
    modalities = tuple(m for m in MODALITIES if any(m in v for v in values.values()))
    rows = [[v[m] for m in modalities] for v in values.values()]
    return Scores(tuple(values), modalities, np.array(rows, np.float32).reshape(len(values), len(modalities)))


def book_of(*queries: Query, hold_s: float = 1.0) -> AlertBook:
    book = AlertBook(QueryTable(), hold_s=hold_s)
    for query in queries:
        book.add(StandingQuery(query))
    return book


class Run:
    """Feeds a book one tick after the other and keeps what it says."""

    def __init__(self, *queries: Query, hold_s: float = 1.0) -> None:
        self.book = book_of(*queries, hold_s=hold_s)
        self.tick = 0
        self.said: list[Transition] = []

    def step(self, **scores: float) -> list[str]:
        """One tick of query `q`; what it brought, e.g. `begin vision+audio`."""
        self.tick += 1
        by_modality = {m: scores[m] for m in MODALITIES if m in scores}
        now = self.book.step(self.tick * HOP_NS, scores_of({"q": by_modality}))
        self.said += now
        return [f"{t.phase} {'+'.join(t.modalities)}" for t in now]


def query(**changes: Any) -> Query:
    return Query(
        **{"id": "q", "text": "a dog barking", "threshold_on": 0.6, "min_duration_s": 0.0, "cooldown_s": 0.0, **changes}
    )


def test_hysteresis_holds_between_the_thresholds() -> None:
    run = Run(query())
    said = [run.step(audio=score) for score in (OFF, BETWEEN, ON, BETWEEN, BETWEEN, OFF, BETWEEN, ON)]
    assert said == [[], [], ["begin audio"], [], [], ["end audio"], [], ["begin audio"]]


def test_one_odd_window_is_no_alert() -> None:
    run = Run(query(min_duration_s=0.5))
    assert [run.step(audio=score) for score in (ON, OFF, ON, ON)] == [[], [], [], ["begin audio"]]
    assert run.said[0].begin_ns == run.said[0].t_ns == 4 * HOP_NS


def test_seen_then_also_heard_then_only_heard() -> None:
    run = Run(query(min_duration_s=0.5))
    said = [run.step(vision=v, audio=a) for v, a in ((ON, OFF), (ON, OFF), (ON, ON), (ON, ON), (OFF, ON), (OFF, OFF))]
    assert said == [[], ["begin vision"], [], ["update vision+audio"], ["update audio"], ["end vision+audio"]]
    assert len({t.alert_id for t in run.said}) == 1
    assert {t.begin_ns for t in run.said} == {2 * HOP_NS}


def test_what_joins_late_bridges_what_leaves() -> None:
    run = Run(query(min_duration_s=0.5))
    said = [run.step(vision=v, audio=a) for v, a in ((ON, OFF), (ON, OFF), (OFF, ON), (OFF, ON))]
    assert said == [[], ["begin vision"], [], ["update audio"]]


def test_best_scores_are_those_of_this_alert() -> None:
    run = Run(query())
    run.step(vision=0.25, audio=0.99)
    for vision, audio in ((0.2, OFF), (0.6, 0.2), (0.8, 0.1), (OFF, OFF)):
        run.step(vision=vision, audio=audio)
    begin, end = run.said[-2:]
    assert begin.scores == pytest.approx({"vision": 0.6, "audio": 0.2})
    assert end.scores == pytest.approx({"vision": 0.8, "audio": 0.2})


def test_a_missing_window_holds_its_state_for_a_while() -> None:
    run = Run(query(), hold_s=1.0)
    assert run.step(vision=OFF, audio=ON) == ["begin audio"]
    assert [run.step(vision=OFF) for _ in range(3)] == [[], [], ["end audio"]]


def test_a_held_state_is_no_evidence() -> None:
    run = Run(query(min_duration_s=1.0), hold_s=5.0)
    run.step(audio=ON)
    assert [run.step(vision=OFF) for _ in range(4)] == [[], [], [], []]
    assert run.step(audio=ON) == ["begin audio"]


def test_no_begin_within_the_cooldown() -> None:
    run = Run(query(cooldown_s=2.0))
    assert run.step(audio=ON) == ["begin audio"]
    assert run.step(audio=OFF) == ["end audio"]
    assert [run.step(audio=ON) for _ in range(4)] == [[], [], [], ["begin audio"]]


def test_a_query_listens_only_to_its_modalities() -> None:
    run = Run(query(modalities=("vision",)))
    assert run.step(vision=OFF, audio=ON) == []
    assert run.step(vision=ON, audio=ON) == ["begin vision"]
    assert run.said[0].scores == pytest.approx({"vision": ON})


def test_removing_an_alerting_query_ends_its_alert_and_leaves_the_others() -> None:
    book = book_of(*(query(id=name) for name in ("a", "b", "c")))
    book.step(HOP_NS, scores_of({"a": {"audio": OFF}, "b": {"audio": ON}, "c": {"audio": ON}}))
    _, (end,) = book.remove("b")
    assert (end.query_id, end.phase, end.modalities, end.t_ns) == ("b", "end", ("audio",), HOP_NS)
    standing, ended = book.remove("a")
    assert (standing.query.id, ended) == ("a", [])
    assert book._table.ids == ("c",)
    (end,) = book.step(2 * HOP_NS, scores_of({"c": {"audio": OFF}}))
    assert (end.query_id, end.phase) == ("c", "end")
    with pytest.raises(KeyError):
        book.remove("b")


def test_scores_of_some_rows_say_nothing_of_the_others() -> None:
    book = book_of(query(id="a"), query(id="b"))
    some = Scores(("b",), ("audio",), np.array([[ON]], np.float32), np.array([1]))
    (begin,) = book.step(HOP_NS, some)
    assert begin.query_id == "b"
    assert book.step(2 * HOP_NS, Scores(("a",), ("audio",), np.array([[OFF]], np.float32), np.array([0]))) == []


def test_what_begins_anew_ends_its_alerts_and_counts_on() -> None:
    book = book_of(query(id="a", cooldown_s=60.0), query(id="b"))
    on = scores_of({"a": {"audio": ON}, "b": {"audio": ON}})
    assert [t.alert_id for t in book.step(9 * HOP_NS, on)] == [1, 2]
    ended = book.start_anew()
    assert [(t.query_id, t.phase, t.alert_id, t.t_ns) for t in ended] == [
        ("a", "end", 1, 9 * HOP_NS),
        ("b", "end", 2, 9 * HOP_NS),
    ]
    assert book.start_anew() == []
    # Time has stepped back, and no cool-down goes on.
    assert [(t.phase, t.alert_id) for t in book.step(HOP_NS, on)] == [("begin", 3), ("begin", 4)]


def test_time_never_steps_back() -> None:
    run = Run(query())
    run.step(audio=OFF)
    with pytest.raises(ValueError, match="comes after"):
        run.book.step(0, scores_of({"q": {"audio": ON}}))


@pytest.mark.parametrize(
    ("given", "threshold_off"),
    [({}, 0.36), ({"threshold_on": 0.2}, 0.12), ({"threshold_off": 0.4}, 0.4), ({"threshold_off": None}, 0.36)],
)
def test_off_lies_below_on_unless_it_is_given(given: dict[str, object], threshold_off: float) -> None:
    assert query(**given).threshold_off == pytest.approx(threshold_off)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", "a b"),
        ("id", "x" * 65),
        ("text", ""),
        ("text", " \t "),
        ("text", "x" * 1001),
        ("text", "a dog\nbarking"),
        ("text", "a\x00dog"),
        ("modalities", ("smell",)),
        ("modalities", ("audio", "audio")),
        ("threshold_on", 0.0),
        ("threshold_on", 1.1),
        ("threshold_on", float("nan")),
        ("threshold_off", 0.0),
        ("threshold_off", 0.7),
        ("threshold_off", float("nan")),
        ("min_duration_s", -1.0),
        ("min_duration_s", float("inf")),
        ("cooldown_s", float("nan")),
        ("cooldown_s", 1e9),
    ],
)
def test_a_query_that_cannot_work_names_its_field_in_one_line(field: str, value: object) -> None:
    with pytest.raises(QueryError) as caught:
        query(**{field: value})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


Ticks = Sequence[tuple[int, Mapping[Modality, float]]]


@st.composite
def ticks(draw: st.DrawFn) -> Ticks:
    """Ticks with gaps in time and missing windows, scores on, between and off."""
    levels = st.sampled_from((OFF, BETWEEN, ON))
    windows = st.dictionaries(st.sampled_from(("vision", "audio", "imu")), levels)
    steps = draw(st.lists(st.tuples(st.integers(1, 4), windows), max_size=60))
    return [(int(t), w) for t, (_, w) in zip(np.cumsum([hops for hops, _ in steps]), steps, strict=True)]


@settings(max_examples=150, deadline=None)
@given(ticks(), st.sampled_from((0.0, 0.5, 1.5)), st.sampled_from((0.0, 1.0, 3.0)), st.sampled_from((0.0, 1.0)))
def test_alerts_alternate_keep_their_id_and_the_cooldown(
    steps: Ticks, min_duration_s: float, cooldown_s: float, hold_s: float
) -> None:
    def run() -> list[Transition]:
        book = book_of(query(min_duration_s=min_duration_s, cooldown_s=cooldown_s), hold_s=hold_s)
        said = [t for hop, window in steps for t in book.step(hop * HOP_NS, scores_of({"q": window}))]
        return [*said, *book.remove("q")[1]]

    said = run()
    assert said == run()
    carriers: tuple[Modality, ...] | None = None  # of the alert that is on
    ended_ns = -(10**12)
    alert_id = 0
    carried: set[Modality] = set()
    for t in said:
        assert t.modalities
        assert all(OFF <= score <= ON + 1e-6 for score in t.scores.values())
        if t.phase == "begin":
            assert carriers is None
            assert t.t_ns - ended_ns >= cooldown_s * 1e9
            assert t.alert_id > alert_id
            alert_id, begin_ns, carriers, carried = t.alert_id, t.t_ns, t.modalities, set(t.modalities)
            assert max(t.scores.values()) > BETWEEN
        elif t.phase == "update":
            assert carriers is not None
            assert t.modalities != carriers
            carriers, carried = t.modalities, carried | set(t.modalities)
        else:
            assert carriers is not None
            assert set(t.modalities) == carried
            carriers, ended_ns = None, t.t_ns
        assert (t.alert_id, t.begin_ns) == (alert_id, begin_ns)
    assert carriers is None  # the removal ended what was on


@pytest.mark.parametrize("every", [2, 4, 8])
def test_windows_that_are_left_out_do_not_end_an_alert(every: int) -> None:
    book = book_of(query(min_duration_s=0.5))
    said: list[Transition] = []
    for tick in range(80):
        # Vision and audio in turns, as an overloaded agent has them; from tick 48 on there is nothing to see or hear.
        turn: dict[int, Modality] = {0: "vision", every // 2: "audio"}
        present = turn.get(tick % every)
        left_out = {"vision", "audio"} - {present}
        scores = {present: ON if tick < 48 else OFF} if present else {}
        said += book.step(tick * HOP_NS, scores_of({"q": scores}), left_out=left_out)
    phases = [t.phase for t in said]
    assert phases[0] == "begin"
    assert phases[-1] == "end"
    assert phases.count("begin") == phases.count("end") == 1
    assert 48 * HOP_NS <= said[-1].t_ns <= (48 + every) * HOP_NS


def test_a_modality_that_is_lost_while_it_comes_by_turns_is_let_go() -> None:
    book = book_of(query())
    said: list[str] = []
    for tick in range(60):
        turn = tick % 4 == 0
        scores = {"audio": ON} if turn and tick < 8 else {}
        left_out = set() if turn else {"audio"}
        said += [t.phase for t in book.step(tick * HOP_NS, scores_of({"q": scores}), left_out=left_out)]
    # Two turns without it are held, as two ticks are when it comes to each.
    assert said == ["begin", "end"]


def test_following_one_query_may_fail_without_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(*(query(id=name) for name in ("a", "b", "c")))
    follow = book._follow

    def fail_on_b(row: int, carrying: frozenset[Modality], t_ns: int) -> Transition | None:
        if book._table.ids[row] == "b":
            raise RuntimeError("b is broken")
        return follow(row, carrying, t_ns)

    monkeypatch.setattr(book, "_follow", fail_on_b)
    failed: list[str] = []
    scores = scores_of({name: {"audio": ON} for name in ("a", "b", "c")})
    said = book.step(HOP_NS, scores, on_fault=lambda name, error: failed.append(f"{name}: {error}"))
    assert [t.query_id for t in said] == ["a", "c"]
    assert failed == ["b: b is broken"]
    with pytest.raises(RuntimeError, match="b is broken"):
        book.step(2 * HOP_NS, scores)
