"""How the model is, by what it did: told in time, with the reason, and not at every wink."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agent.embedding.condition import FAILING_S, HUNG_S, RECOVERED_S, Condition, Judge, Load, Progress, patience_s
from agent.embedding.watch import Watch

S = 1_000_000_000


def at(seconds: float, **facts: object) -> Progress:
    return Progress(round(seconds * S), **facts)  # type: ignore[arg-type]


def test_a_model_that_comes_back_is_ok() -> None:
    judge = Judge()
    condition = judge.judge(at(9, running="tick 3", running_since_ns=8 * S), Load((20.0, 30.0, 25.0), age_s=0.4))
    assert condition == Condition("ok", "", (), 25.0, 0.4)
    assert condition.works


def test_a_tick_that_does_not_come_back_is_told_with_its_number_and_for_how_long() -> None:
    judge = Judge()
    facts = {"running": "tick 17", "running_since_ns": 100 * S}
    assert judge.judge(at(100 + HUNG_S - 0.1, **facts), Load((40.0,))).state == "ok"
    hung = judge.judge(at(100 + HUNG_S + 1.2, **facts), Load((40.0,)))
    assert (hung.state, hung.reason, hung.works) == ("hung", "has not come back for 6.2 s from tick 17", False)
    assert judge.judge(at(107), Load((40.0, 6500.0))).state == "ok"


def test_a_slow_model_has_three_times_its_own_time_and_that_for_every_tick_of_a_pass() -> None:
    assert patience_s((10.0, 30.0)) == HUNG_S
    assert patience_s((4000.0,) * 50) == 12.0
    assert patience_s((10.0,), ticks=8) == 8 * HUNG_S


def test_failing_is_every_tick_for_some_seconds_and_no_more_after_some_that_worked() -> None:
    judge = Judge()
    fails = {"failing_since_ns": 10 * S, "fault": "out of memory"}
    assert judge.judge(at(10, failures=1, **fails), Load()).state == "ok"
    assert judge.judge(at(9.9 + FAILING_S, failures=10, **fails), Load()).state == "ok"
    failing = judge.judge(at(10 + FAILING_S, failures=11, **fails), Load())
    assert failing.state == "failing"
    assert failing.reason == "fails on every tick: 11 ticks in a row, the last one on: out of memory"
    # One that works is not enough.
    assert judge.judge(at(15.5), Load()).state == "failing"
    assert judge.judge(at(16.2, failures=1, failing_since_ns=16 * S), Load()).state == "failing"
    assert judge.judge(at(16.3 + RECOVERED_S), Load()).state == "ok"


def test_one_failure_is_not_all_there_was_however_long_ago() -> None:
    assert Judge().judge(at(500, failures=1, failing_since_ns=10 * S), Load()).state == "ok"


def test_a_model_whose_process_is_gone_fails_from_then_until_it_is_back() -> None:
    judge = Judge()
    waits = {"running": "tick 9", "running_since_ns": 10 * S}
    gone = judge.judge(at(11 + HUNG_S, gone="has lost its process", **waits), Load())
    assert (gone.state, gone.reason, gone.works) == ("failing", "has lost its process", False)
    assert judge.judge(at(17), Load()).state == "ok"


def test_overload_names_what_is_left_out() -> None:
    load = Load((700.0,), overloaded=True, reduced=("thermal every second tick", "imu every second tick"))
    condition = Judge().judge(at(3), load)
    assert condition.state == "overloaded"
    assert condition.reason == "takes 700 ms a tick; left out: thermal every second tick; imu every second tick"
    assert condition.works


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_changes_are_told_once_and_a_look_that_fails_is_not_the_last() -> None:
    told: list[str] = []
    facts: list[tuple[Progress, Load] | None] = [None]
    raised = threading.Event()

    def look() -> tuple[Progress, Load] | None:
        if facts[0] is not None and facts[0][0].running == "broken":
            raised.set()
            raise RuntimeError("no facts")
        return facts[0]

    watch = Watch(look, lambda condition: told.append(condition.state))
    assert watch.condition.state == "loading"
    watch.start()
    try:
        facts[0] = at(1), Load()
        until(lambda: told == ["ok"])
        facts[0] = at(1, running="broken"), Load()
        assert raised.wait(20)
        for seconds in (90, 91, 92):
            facts[0] = at(seconds, running="tick 1", running_since_ns=S), Load()
            until(lambda seconds=seconds: f"{seconds - 1}.0 s" in watch.condition.reason)  # type: ignore[misc]
        assert told == ["ok", "hung"]
    finally:
        watch.stop()
    watch.stop()
