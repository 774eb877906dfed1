from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from numpy.typing import NDArray

from agent.embedding.condition import Condition, State
from agent.embedding.model import Embedded
from agent.events import messages as events
from agent.events.finite import non_finite
from agent.health.health import StreamState
from agent.log.replay.ticks import recorded_tick
from agent.perceiving.alerts.book import Transition
from agent.perceiving.localization.doa import Direction
from agent.perceiving.localization.heatmap import Box
from agent.perceiving.localization.source import AudioSource, SourceState
from agent.query import Query, StandingQuery
from agent.scores import Scores, put_scores
from agent.vectors import heat_map_message, heat_map_of, vector_message, vector_of
from agent.windows.window import Tick, Window
from protos import perception_pb2 as pb
from protos.sensors_pb2 import MODALITY_AUDIO, MODALITY_IMU, MODALITY_VISION


def unit(seed: int, size: int = 1024) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    return vector / np.linalg.norm(vector)


def embedded() -> Embedded:
    windows = {
        "eye": Window("eye", "vision", np.zeros((2, 4, 4, 3), np.uint8), 0.0, 990, ""),
        "ear": Window("ear", "audio", np.zeros((8, 1), np.float32), 16000.0, 1000, ""),
        "body": Window("body", "imu", None, 400.0, 0, "no samples yet"),
    }
    return Embedded(Tick(2, 1000, windows, 1100), {"eye": unit(1)}, {}, unit(3), 12.5, {"ear": "behind"})


def test_an_embedding_says_how_much_of_a_window_never_came() -> None:
    sound = np.zeros((8, 1), np.float32)
    windows = {
        "holed": Window("holed", "audio", sound, 16000.0, 1000, "", 0.125),
        "whole": Window("whole", "audio", sound, 16000.0, 1000, ""),
        "left_out": Window("left_out", "audio", sound, 16000.0, 1000, "", 0.125),
    }
    vectors = {"holed": unit(1), "whole": unit(2)}
    event = events.embedding(Embedded(Tick(2, 1000, windows, 1100), vectors, {}, unit(3), 1.0, {"left_out": "behind"}))
    assert {window.sensor: window.filled for window in event.embedding.windows} == {
        "holed": 0.125, "whole": 0.0, "left_out": 0.0,
    }  # fmt: skip
    again = recorded_tick(event, frozenset(windows)).windows
    assert {sensor: window.filled for sensor, window in again.items()} == {
        "holed": 0.125,
        "whole": 0.0,
        "left_out": 0.0,
    }


def test_embedding_carries_what_is_there_and_why_not() -> None:
    values = np.array([[0.25], [0.75]], np.float32)
    event = events.embedding(embedded(), Scores(("dog", "cat"), ("vision",), values))
    eye, ear, body = event.embedding.windows
    assert (event.capture_ns, event.embedding.tick, event.embedding.inference_ms) == (1000, 2, 12.5)
    assert (eye.sensor, eye.modality, eye.present, eye.missing_reason, eye.newest_ns) == (
        "eye",
        MODALITY_VISION,
        True,
        "",
        990,
    )
    assert (ear.modality, ear.present, ear.missing_reason) == (MODALITY_AUDIO, False, "behind")
    assert (body.modality, body.present, body.missing_reason) == (MODALITY_IMU, False, "no samples yet")
    assert not ear.HasField("vector")
    # A unit vector in float16 keeps its direction to about 1e-3.
    assert float(vector_of(eye.vector) @ unit(1)) == pytest.approx(1.0, abs=1e-3)
    assert float(vector_of(event.embedding.fused) @ unit(3)) == pytest.approx(1.0, abs=1e-3)
    assert [(score.query_id, score.modality, score.score) for score in event.embedding.scores] == [
        ("dog", MODALITY_VISION, 0.25),
        ("cat", MODALITY_VISION, 0.75),
    ]
    assert list(event.embedding.score_table.query_ids) == ["dog", "cat"]
    assert not events.embedding(embedded()).embedding.HasField("score_table")


def test_audio_source_in_view() -> None:
    heat = np.linspace(-0.1, 0.4, 256, dtype=np.float32).reshape(16, 16)
    source = AudioSource(
        SourceState.IN_VIEW,
        Direction(30.0, 5.0, 0.8, 12.0, True, 1750),
        Box(10, 20, 30, 40),
        (15.5, 25.5),
        0.4,
        heat,
        Box(40, 0, 280, 240),
        tick=4,
        t_ns=2000,
        microphone="ear",
        camera="eye",
    )
    event = events.audio_source(source)
    body = event.audio_source
    assert (event.capture_ns, body.tick, body.microphone, body.camera) == (2000, 4, "ear", "eye")
    assert body.state == pb.SOURCE_STATE_IN_VIEW
    assert (body.direction.azimuth_deg, body.direction.spread_deg, body.direction.ambiguous) == (30.0, 12.0, True)
    assert body.direction.capture_ns == 1750
    assert (body.box.x0, body.box.y1, body.peak_x, body.peak_y) == (10, 40, 15.5, 25.5)
    assert (body.heat_map.extent.x0, body.heat_map.extent.x1) == (40, 280)
    np.testing.assert_allclose(heat_map_of(body.heat_map), heat, atol=3e-4)


@pytest.mark.parametrize("state", SourceState)
def test_audio_source_without_a_place(state: SourceState) -> None:
    body = events.audio_source(AudioSource(state)).audio_source
    assert pb.SourceState.Name(body.state) == f"SOURCE_STATE_{state.name}"
    assert not any(body.HasField(field) for field in ("direction", "box", "heat_map"))


@pytest.mark.parametrize(
    ("phase", "value"),
    [("begin", pb.ALERT_PHASE_BEGIN), ("update", pb.ALERT_PHASE_UPDATE), ("end", pb.ALERT_PHASE_END)],
)
def test_alert(phase: str, value: int) -> None:
    transition = Transition("dog", "a dog", phase, 3, ("audio",), {"audio": 0.9, "vision": 0.1}, 500, 1500)  # type: ignore[arg-type]
    event = events.alert(transition)
    alert = event.alert
    assert (event.capture_ns, alert.query_id, alert.text, alert.phase) == (1500, "dog", "a dog", value)
    assert (alert.alert_id, list(alert.modalities), alert.begin_ns) == (3, [MODALITY_AUDIO], 500)
    assert {score.modality: score.score for score in alert.scores} == {
        MODALITY_AUDIO: pytest.approx(0.9),
        MODALITY_VISION: pytest.approx(0.1),
    }


def test_health() -> None:
    state = StreamState(
        "eye",
        "vision",
        "degraded",
        "slow",
        8.0,
        10.0,
        0.1,
        80,
        3,
        {"ring full": 3},
        1,
        -20.0,
        2,
        0.25,
        5,
        "IndexError",
    )
    event = events.health(state, 77)
    health = event.health
    assert (event.capture_ns, health.sensor, health.modality) == (77, "eye", MODALITY_VISION)
    assert (health.state, health.reason) == (pb.StreamHealth.STATE_DEGRADED, "slow")
    assert (health.rate_hz, health.expected_rate_hz, health.age_s) == (8.0, 10.0, 0.1)
    assert (health.samples, health.dropped, dict(health.drops)) == (80, 3, {"ring full": 3})
    assert (health.restarts, health.skew_ppm, health.gaps) == (1, -20.0, 2)
    assert (health.delay_s, health.faults, health.first_fault) == (0.25, 5, "IndexError")
    assert events.stream_health(state) == health


def test_query() -> None:
    query = Query("dog", "hounds", ("audio",), 0.5, cooldown_s=4, force=True)
    message = StandingQuery(query, ("rare word",), "a dog").message()
    assert (message.id, message.text, list(message.modalities)) == ("dog", "hounds", [MODALITY_AUDIO])
    assert (message.read_as, message.force) == ("a dog", True)
    assert (message.threshold_on, message.threshold_off) == (pytest.approx(0.5), pytest.approx(0.3))
    assert (message.cooldown_s, list(message.warnings)) == (4, ["rare word"])


def test_the_model_and_its_trouble() -> None:
    condition = Condition("overloaded", "takes 700 ms a tick", ("imu every second tick",), 700.0, 1.5)
    event = events.model(condition, 77)
    assert event.capture_ns == 77
    model = event.model
    assert (model.state, model.reason) == (pb.ModelState.STATE_OVERLOADED, "takes 700 ms a tick")
    assert (list(model.reduced), model.inference_ms, model.age_s) == (["imu every second tick"], 700.0, 1.5)
    named = {pb.ModelState.State.Name(events.model_state(Condition(state)).state) for state in get_args(State)}
    assert named == {f"STATE_{state.upper()}" for state in get_args(State)}


@pytest.mark.parametrize(
    ("change", "value"), [("added", pb.QueryChange.CHANGE_ADDED), ("removed", pb.QueryChange.CHANGE_REMOVED)]
)
def test_a_query_comes_or_goes(change: Literal["added", "removed"], value: int) -> None:
    event = events.query_change(change, StandingQuery(Query("dog", "a dog"), ("rare word",)), 78)
    assert (event.capture_ns, event.query.change, event.query.query.id) == (78, value, "dog")
    assert list(event.query.query.warnings) == ["rare word"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_found_wherever_it_is(value: float) -> None:
    bad = vector_message(np.array([value, 0.5], np.float32))
    heat_map = pb.HeatMap(rows=1, columns=2, data=np.array([0, value], "<f2").tobytes())
    cases = {
        "embedding.fused.data": pb.Event(embedding=pb.Embedding(fused=bad)),
        "embedding.windows.vector.data": pb.Event(
            embedding=pb.Embedding(windows=[pb.WindowEmbedding(), pb.WindowEmbedding(vector=bad)])
        ),
        "embedding.inference_ms": pb.Event(embedding=pb.Embedding(inference_ms=value)),
        "audio_source.heat_map.data": pb.Event(audio_source=pb.AudioSource(heat_map=heat_map)),
        "audio_source.direction.azimuth_deg": pb.Event(
            audio_source=pb.AudioSource(direction=pb.Direction(azimuth_deg=value))
        ),
        "audio_source.similarity": pb.Event(audio_source=pb.AudioSource(similarity=value)),
        "alert.scores.score": pb.Event(alert=pb.AlertTransition(scores=[pb.QueryScore(score=value)])),
        "health.skew_ppm": pb.Event(health=pb.StreamHealth(skew_ppm=value, drops={"x": 1})),
    }
    for field, event in cases.items():
        assert non_finite(event) == field


def with_nan(descriptor: Descriptor) -> Iterator[tuple[str, Message]]:
    """For every field that can hold a NaN, however deep, a message that has it there alone, and its path."""
    make = GetMessageClass(descriptor)
    packed = {"Vector": "data", "HeatMap": "data", "ScoreTable": "values"}.get(descriptor.name)
    if descriptor.name == "Vector":
        yield "data", vector_message(np.array([0.5, np.nan], np.float32))
        yield "data", vector_message(np.array([0.5, np.nan], np.float32), "float32")
    elif descriptor.name == "HeatMap":
        yield "data", heat_map_message(np.array([[0.5, np.nan]], np.float32))
    elif descriptor.name == "ScoreTable":
        bad = Scores(("a", "b"), ("vision",), np.array([[0.5], [np.nan]], np.float32))
        holder = pb.Embedding()
        put_scores(bad, holder)
        yield "values", holder.score_table
    for field in descriptor.fields:
        if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
            yield field.name, make(**{field.name: [math.nan] if field.is_repeated else math.nan})
        elif field.message_type and not field.message_type.GetOptions().map_entry:
            for path, inner in with_nan(field.message_type):
                yield f"{field.name}.{path}", make(**{field.name: [inner] if field.is_repeated else inner})
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.type == FieldDescriptor.TYPE_BYTES:
            assert field.name == packed, f"{descriptor.name}.{field.name} may hold numbers: say how they are looked at"


def test_a_nan_anywhere_in_an_event_is_found() -> None:
    cases = list(with_nan(pb.Event.DESCRIPTOR))
    assert [non_finite(event) for _, event in cases] == [path for path, _ in cases]
    assert {"embedding.score_table.values", "audio_source.heat_map.extent.y1"} <= {path for path, _ in cases}


def test_what_float16_cannot_hold_is_not_published() -> None:
    event = pb.Event(embedding=pb.Embedding(fused=vector_message(np.array([1e6], np.float32))))
    assert non_finite(event) == "embedding.fused.data"


def test_finite_events_pass() -> None:
    assert non_finite(events.embedding(embedded())) == ""
    state = StreamState("eye", "vision", "ok", "", 8.0, 10.0, 0.1, 80, 3, {"ring full": 3}, 1, -20.0, 2)
    assert non_finite(events.health(state, 1)) == ""
