"""Perception's thread sees ticks through in order, with calls between them, and ends when all of it is through."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from agent.embedding.model import Embedded
from agent.embedding.worker import WorkerError
from agent.run.stage import Stage
from agent.windows.window import Tick

DEADLINE_S = 10.0


def embedded(index: int) -> Embedded:
    return Embedded(Tick(index, index * 500_000_000, {}, 0), {}, {}, None, 0.0, {})


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "the awaited condition never came true"
        time.sleep(0.001)


class Held:
    """Perceives one tick after the other once it may, and fails on chosen ones."""

    def __init__(self, fails_on: int = -1) -> None:
        self.order: list[str] = []
        self.entered = threading.Event()
        self.may = threading.Event()
        self._fails_on = fails_on

    def __call__(self, given: Embedded) -> None:
        self.entered.set()
        assert self.may.wait(DEADLINE_S)
        if given.tick.index == self._fails_on:
            raise ValueError("no room")
        self.order.append(f"tick {given.tick.index}")


def test_a_call_runs_between_the_tick_that_is_seen_through_and_the_next() -> None:
    perceive = Held()
    stage = Stage(perceive)
    stage.take(embedded(0), lambda _: None)
    assert perceive.entered.wait(DEADLINE_S)
    stage.take(embedded(1), lambda _: None)
    called = stage.call(lambda: perceive.order.append("call") or "answer")
    failing = stage.call(lambda: {}["query"])
    perceive.may.set()
    assert called.result(DEADLINE_S) == "answer"
    assert isinstance(failing.exception(DEADLINE_S), KeyError)
    stage.stop()
    assert perceive.order == ["tick 0", "call", "tick 1"]


def test_a_tick_that_fails_is_told_and_costs_nothing_else() -> None:
    perceive = Held(fails_on=1)
    perceive.may.set()
    outcomes: list[Exception | None] = []
    stage = Stage(perceive)
    for index in range(3):
        stage.take(embedded(index), outcomes.append)
    until(lambda: len(outcomes) == 3)
    assert [str(outcome) for outcome in outcomes] == ["None", "no room", "None"]
    assert perceive.order == ["tick 0", "tick 2"]
    stage.stop()


def test_what_waits_at_the_end_is_seen_through_and_nothing_more_is_called() -> None:
    perceive = Held()
    stage = Stage(perceive)
    for index in range(3):
        stage.take(embedded(index), lambda _: None)
    stopping = threading.Thread(target=stage.stop)
    stopping.start()
    perceive.may.set()
    stopping.join(DEADLINE_S)
    assert perceive.order == ["tick 0", "tick 1", "tick 2"]
    with pytest.raises(WorkerError, match="stopping"):
        stage.call(lambda: 1)
