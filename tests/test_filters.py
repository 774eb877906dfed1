from __future__ import annotations

import numpy as np
import pytest

from agent.events.filters import EventFilter
from agent.scores import scores_of
from agent.vectors import vector_message
from protos import perception_pb2 as pb
from protos.sensors_pb2 import MODALITY_AUDIO, MODALITY_IMU, MODALITY_VISION
from protos.sensors_pb2 import Modality as ModalityValue

VECTOR = vector_message(np.ones(4, np.float32) / 2)


def embedding(t_s: float = 0.0) -> pb.Event:
    body = pb.Embedding(fused=VECTOR)
    for sensor, modality in (("eye", MODALITY_VISION), ("ear", MODALITY_AUDIO)):
        body.windows.add(sensor=sensor, modality=modality, present=True, vector=VECTOR)
        body.scores.add(query_id="q", modality=modality, score=0.5)
    body.score_table.query_ids.append("q")
    body.score_table.modalities.extend([MODALITY_VISION, MODALITY_AUDIO])
    body.score_table.values = np.array([0.5, 0.25], "<f4").tobytes()
    return pb.Event(capture_ns=round(t_s * 1e9), embedding=body)


def source(t_s: float = 0.0, microphone: str = "ear") -> pb.Event:
    heat_map = pb.HeatMap(rows=1, columns=1, data=b"\0\0")
    body = pb.AudioSource(microphone=microphone, camera="eye", heat_map=heat_map)
    return pb.Event(capture_ns=round(t_s * 1e9), audio_source=body)


ALERT = pb.Event(alert=pb.AlertTransition(query_id="dog", modalities=[MODALITY_AUDIO]))
HEALTH = pb.Event(health=pb.StreamHealth(sensor="ear", modality=MODALITY_AUDIO))
EVENTS = [embedding(), source(), ALERT, HEALTH]


@pytest.mark.parametrize(
    ("request_", "admitted"),
    [
        (pb.SubscribeRequest(), "1111"),
        (pb.SubscribeRequest(kinds=[pb.EVENT_KIND_ALERT, pb.EVENT_KIND_HEALTH]), "0011"),
        (pb.SubscribeRequest(kinds=[pb.EVENT_KIND_GAP]), "0000"),
        (pb.SubscribeRequest(modalities=[MODALITY_AUDIO]), "1111"),
        (pb.SubscribeRequest(modalities=[MODALITY_VISION]), "1100"),
        (pb.SubscribeRequest(modalities=[MODALITY_IMU]), "0100"),
        (pb.SubscribeRequest(sensors=["ear"]), "1111"),
        (pb.SubscribeRequest(sensors=["eye"]), "1110"),
        (pb.SubscribeRequest(sensors=["nose"]), "0010"),
        (pb.SubscribeRequest(query_ids=["dog"]), "1111"),
        (pb.SubscribeRequest(query_ids=["cat"]), "1101"),
    ],
)
def test_what_is_admitted(request_: pb.SubscribeRequest, admitted: str) -> None:
    event_filter = EventFilter(request_)
    assert "".join(str(int(event_filter.admits(event))) for event in EVENTS) == admitted


def test_rate_is_limited_per_source() -> None:
    event_filter = EventFilter(pb.SubscribeRequest(max_rate_hz=1.0))
    times_s = [0.5 * i for i in range(9)]
    assert [t for t in times_s if event_filter.admits(embedding(t))] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [t for t in times_s if event_filter.admits(source(t))] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert event_filter.admits(source(4.2, "other_ear"))
    assert all(event_filter.admits(ALERT) for _ in range(5))


def test_rate_follows_time_that_steps_back() -> None:
    event_filter = EventFilter(pb.SubscribeRequest(max_rate_hz=1.0))
    assert event_filter.admits(embedding(100.0))
    assert event_filter.admits(embedding(5.0))


@pytest.mark.parametrize("rate_hz", [1e-300, 5e-324])
def test_the_slowest_rate_is_one_an_hour(rate_hz: float) -> None:
    event_filter = EventFilter(pb.SubscribeRequest(max_rate_hz=rate_hz))
    assert [event_filter.admits(embedding(t)) for t in (0.0, 3599.0, 3600.0)] == [True, False, True]


def alert(
    phase: pb.AlertPhase.ValueType, *modalities: ModalityValue.ValueType, alert_id: int = 1, query_id: str = "dog"
) -> pb.Event:
    body = pb.AlertTransition(query_id=query_id, phase=phase, alert_id=alert_id, modalities=modalities)
    return pb.Event(alert=body)


BEGIN, UPDATE, END = pb.ALERT_PHASE_BEGIN, pb.ALERT_PHASE_UPDATE, pb.ALERT_PHASE_END


def test_an_alert_that_was_let_through_is_followed_to_its_end() -> None:
    event_filter = EventFilter(pb.SubscribeRequest(modalities=[MODALITY_VISION]))
    assert event_filter.admits(alert(BEGIN, MODALITY_VISION))
    assert event_filter.admits(alert(UPDATE, MODALITY_AUDIO))
    assert not event_filter.admits(alert(UPDATE, MODALITY_AUDIO, alert_id=2))
    assert event_filter.admits(alert(END, MODALITY_AUDIO, MODALITY_VISION))
    assert not event_filter.admits(alert(UPDATE, MODALITY_AUDIO))


def test_an_alert_comes_from_when_it_is_carried_as_asked() -> None:
    event_filter = EventFilter(pb.SubscribeRequest(modalities=[MODALITY_VISION], query_ids=["dog"]))
    assert not event_filter.admits(alert(BEGIN, MODALITY_AUDIO))
    assert event_filter.admits(alert(UPDATE, MODALITY_AUDIO, MODALITY_VISION))
    assert event_filter.admits(alert(UPDATE, MODALITY_AUDIO))
    assert not event_filter.admits(alert(BEGIN, MODALITY_VISION, alert_id=2, query_id="cat"))


def test_view_hides_what_was_not_asked_for() -> None:
    full = embedding()
    view = EventFilter(pb.SubscribeRequest(sensors=["eye"], modalities=[MODALITY_VISION])).view
    shown = view.apply(full).embedding
    assert [window.sensor for window in shown.windows] == ["eye"]
    assert not shown.windows[0].HasField("vector")
    assert not shown.HasField("fused")
    assert [score.modality for score in shown.scores] == [MODALITY_VISION]
    assert scores_of(shown).of("q") == {"vision": 0.5}
    assert scores_of(full.embedding).of("q") == {"vision": 0.5, "audio": 0.25}
    assert full == embedding()
    assert EventFilter(pb.SubscribeRequest(vectors=True)).view.apply(full) is full


def test_heat_maps_come_when_asked_for() -> None:
    assert not EventFilter(pb.SubscribeRequest()).view.apply(source()).audio_source.HasField("heat_map")
    assert EventFilter(pb.SubscribeRequest(heat_maps=True)).view.apply(source()) == source()
