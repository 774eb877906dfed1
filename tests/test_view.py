"""What a person reads of the model's trouble and of queries."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console

from agent.commands.view import LiveView, line_of
from agent.scores import Scores, put_scores
from protos import perception_pb2 as pb

HUNG = pb.ModelState(state=pb.ModelState.STATE_HUNG, reason="has not come back for 6.0 s from tick 3")


def test_changes_of_the_model_and_of_queries_are_lines() -> None:
    assert line_of(pb.Event(model=HUNG)) == "00:00:00.0  model is hung: has not come back for 6.0 s from tick 3"
    assert line_of(pb.Event(model=pb.ModelState(state=pb.ModelState.STATE_OK))) == "00:00:00.0  model is ok"
    dog = pb.Query(id="dog", text="a dog")
    added = pb.Event(query=pb.QueryChange(change=pb.QueryChange.CHANGE_ADDED, query=dog))
    assert line_of(added) == "00:00:00.0  query dog 'a dog' is added"


def head_of(status: pb.Status) -> str:
    view, screen = LiveView("test"), io.StringIO()
    view.on_status(status, {})
    Console(file=screen, width=200).print(view.head())
    return screen.getvalue()


def test_the_status_shows_trouble_and_nothing_without() -> None:
    assert "model hung: has not come back for 6.0 s from tick 3" in head_of(pb.Status(model_state=HUNG))
    assert "\n" not in head_of(pb.Status(model_state=pb.ModelState(state=pb.ModelState.STATE_OK))).strip()


def test_the_status_tells_why_ticks_are_shed() -> None:
    head = head_of(pb.Status(ticks_delivered=9, ticks_shed={"behind": 2, "model loading": 5}))
    assert "ticks 9 delivered, 7 shed (2 behind, 5 model loading)" in head
    assert "3 shed (behind)" in head_of(pb.Status(ticks_shed={"behind": 3}))


def test_a_model_that_is_loading_is_on_no_device_yet() -> None:
    assert " on " not in head_of(pb.Status(model="model loading"))
    assert "toy on cpu " in head_of(pb.Status(model="toy", device="cpu"))


def test_streams_have_reasons_and_what_is_dropped_of_them_has_units() -> None:
    view, screen = LiveView("test"), io.StringIO()
    lost = pb.StreamHealth(sensor="ear", modality=2, state=pb.StreamHealth.STATE_LOST, reason="no such device")
    lost.drops.update({"lost by driver": 480, "late": 3, "bad data": 1})
    seen = pb.StreamHealth(sensor="eye", modality=1, state=pb.StreamHealth.STATE_OK, drops={"superseded": 7})
    seen.faults, seen.first_fault = 2, "sampler: KeyError"
    view.on_status(pb.Status(streams=[lost, seen]), {})
    Console(file=screen, width=200).print(view.streams(), view.troubles())
    *table, reason, ear, eye, fault = (line.strip() for line in screen.getvalue().splitlines())
    assert "window" not in table[0]
    assert reason == "ear is lost: no such device"
    assert ear == "ear dropped 1 reads (bad data), 3 blocks (late), 480 rows (lost by driver)"
    assert eye == "eye dropped 7 images (superseded)"
    assert fault == "eye: 2 faults of the agent, first: sampler: KeyError"


def test_the_screen_says_how_much_of_a_window_never_came() -> None:
    view, screen = LiveView("test"), io.StringIO()
    view.on_status(pb.Status(streams=[pb.StreamHealth(sensor=name) for name in ("ear", "eye", "body")]), {})
    ear = pb.WindowEmbedding(sensor="ear", present=True, filled=0.175)
    eye, body = pb.WindowEmbedding(sensor="eye", present=True), pb.WindowEmbedding(sensor="body", missing_reason="gap")
    view.on_event(pb.Event(capture_ns=1, embedding=pb.Embedding(windows=[ear, eye, body])))
    Console(file=screen, width=200).print(view.render())
    assert re.search(r"ear .* embedded, 17.5% of it filled", screen.getvalue())
    assert re.search(r"eye .* embedded +│", screen.getvalue())
    assert re.search(r"body .* gap", screen.getvalue())


@pytest.mark.parametrize("agent", ["of today", "older"])
def test_the_screen_shows_the_scores_of_the_queries_in_whichever_form_they_come(agent: str) -> None:
    view, screen = LiveView("test"), io.StringIO()
    view.on_status(pb.Status(), {"dog": "a dog", "new": "a cat"})
    embedding = pb.Embedding()
    put_scores(Scores(("dog",), ("audio",), np.array([[0.25]], np.float32)), embedding)
    embedding.ClearField("score_table" if agent == "older" else "scores")
    view.on_event(pb.Event(embedding=embedding))
    Console(file=screen, width=200).print(view.render())
    assert re.search(r"query +heard", screen.getvalue())
    assert re.search(r"a dog +███········· 0.25", screen.getvalue())
    assert re.search(r"a cat +- ", screen.getvalue())
