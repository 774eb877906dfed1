from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from agent.lab.comparison import ACROSS_MACHINES, EXACT, differences
from agent.scores import Scores, put_scores
from agent.vectors import heat_map_message, vector_message
from protos import perception_pb2 as pb
from protos.sensors_pb2 import MODALITY_AUDIO, MODALITY_VISION

S = 1_000_000_000


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=128).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def embedding(tick: int) -> pb.Event:
    windows = [
        pb.WindowEmbedding(sensor=name, modality=modality, present=True, vector=vector_message(unit(tick + i)))
        for i, (name, modality) in enumerate([("camera", MODALITY_VISION), ("microphone", MODALITY_AUDIO)])
    ]
    scores = [pb.QueryScore(query_id="dog", modality=MODALITY_VISION, score=0.25)]
    body = pb.Embedding(tick=tick, windows=windows, fused=vector_message(unit(tick)), scores=scores, inference_ms=4.0)
    return pb.Event(run_id="first", seq=tick, capture_ns=tick * S, publish_ns=tick * S + 5, embedding=body)


def audio_source(tick: int) -> pb.Event:
    heat = heat_map_message(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4))
    direction = pb.Direction(azimuth_deg=30.0, confidence=0.5)
    body = pb.AudioSource(tick=tick, state=pb.SOURCE_STATE_IN_VIEW, direction=direction, heat_map=heat, similarity=0.5)
    return pb.Event(capture_ns=tick * S, audio_source=body)


def alert(t_s: int, phase: pb.AlertPhase.ValueType, query_id: str = "dog") -> pb.Event:
    return pb.Event(capture_ns=t_s * S, alert=pb.AlertTransition(query_id=query_id, phase=phase, alert_id=1))


def health(t_s: int) -> pb.Event:
    body = pb.StreamHealth(sensor="camera", state=pb.StreamHealth.STATE_OK, drops={"late": 2}, age_s=0.25)
    return pb.Event(capture_ns=t_s * S, health=body)


def run() -> list[pb.Event]:
    return [
        embedding(3),
        audio_source(3),
        alert(3, pb.ALERT_PHASE_BEGIN),
        embedding(4),
        alert(4, pb.ALERT_PHASE_END),
        health(4),
    ]


def set_first_score(events: list[pb.Event], score: float) -> None:
    events[0].embedding.scores[0].score = score


def test_what_belongs_to_a_run_is_no_difference() -> None:
    other = run()
    for event in other:
        event.run_id, event.publish_ns = "second", 7
        if event.HasField("embedding"):
            event.embedding.inference_ms = 99.0
    assert differences(run(), other, EXACT) == []
    assert differences(run(), [], EXACT) != []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda e: e[3].embedding.windows[0].vector.CopyFrom(vector_message(unit(99))),
            r"of tick 4, embedding\.windows\[camera\]\.vector: is not the same: \d+ values differ, cosine -?0\.",
        ),
        (
            lambda e: setattr(e[3].embedding.windows[1], "missing_reason", "gap"),
            r"embedding of tick 4, embedding\.windows\[microphone\]\.missing_reason: was '' and is 'gap'",
        ),
        (
            lambda e: e[3].embedding.windows[1].ClearField("vector"),
            r"windows\[microphone\]\.vector: is gone",
        ),
        (lambda e: set_first_score(e, 0.75), r"tick 3, embedding\.scores\[dog 1\]\.score: was 0\.25 and is 0\.75"),
        (lambda e: e[0].embedding.scores.add(query_id="cat"), r"scores\[cat 0\]: has come"),
        (lambda e: setattr(e[1].audio_source, "state", 3), "was SOURCE_STATE_IN_VIEW and is SOURCE_STATE_NOT_IN_VIEW"),
        (lambda e: setattr(e[1].audio_source.direction, "azimuth_deg", 35.0), "azimuth_deg: was 30.0 and is 35.0"),
        (lambda e: e[1].audio_source.ClearField("heat_map"), "heat_map: is gone"),
        (lambda e: setattr(e[2], "capture_ns", 5 * S), r"begin of alert 'dog', capture_ns: was 3000000000 and is 50"),
        (lambda e: e[5].health.drops.update({"late": 3}), r"drops: was \{'late': 2\} and is \{'late': 3\}"),
        (lambda e: setattr(e[3], "seq", 77), "tick 4, seq: was 4 and is 77"),
        (lambda e: e.pop(4), "end of alert 'dog': is missing"),
        (lambda e: e.append(alert(9, pb.ALERT_PHASE_BEGIN)), "begin of alert 'dog': is new"),
    ],
)
def test_a_difference_names_the_window_and_the_field(change: Callable[[list[pb.Event]], object], told: str) -> None:
    changed = run()
    change(changed)
    found = differences(run(), changed)
    assert len(found) == 1
    assert re.search(told, str(found[0])), str(found[0])


def test_scores_are_compared_whichever_form_they_are_in() -> None:
    in_a_table = run()
    for event in in_a_table:
        if event.HasField("embedding"):
            put_scores(Scores(("dog",), ("vision",), np.array([[0.25]], np.float32)), event.embedding)
            event.embedding.ClearField("scores")
    assert differences(run(), in_a_table) == differences(in_a_table, run()) == []
    in_a_table[0].embedding.score_table.values = np.array([0.75], "<f4").tobytes()
    (found,) = differences(run(), in_a_table)
    assert str(found) == "embedding of tick 3, embedding.scores[dog 1].score: was 0.25 and is 0.75"
    in_a_table[0].embedding.score_table.query_ids[0] = "cat"
    assert {str(found).split(", ")[1] for found in differences(run(), in_a_table)} == {
        "embedding.scores[dog 1]: is gone",
        "embedding.scores[cat 1]: has come",
    }


def test_differences_come_in_order_of_time() -> None:
    changed = run()
    changed[5].health.age_s = 1.0
    set_first_score(changed, 0.5)
    changed.pop(3)
    assert [difference.capture_ns for difference in differences(run(), changed)] == [3 * S, 4 * S, 4 * S]


def nearly(vector: np.ndarray, error: float) -> pb.Vector:
    noise = np.random.default_rng(1).normal(size=vector.shape).astype(np.float32)
    return vector_message(vector + np.float32(error) * noise / np.float32(np.linalg.norm(noise)))


def test_other_machines_may_round_otherwise_but_not_decide_otherwise() -> None:
    changed = run()
    changed[0].embedding.windows[0].vector.CopyFrom(nearly(unit(3), 0.01))
    changed[0].embedding.fused.CopyFrom(nearly(unit(3), 0.01))
    set_first_score(changed, 0.255)
    changed[1].audio_source.direction.azimuth_deg = 30.4
    changed[1].audio_source.heat_map.CopyFrom(heat_map_message(np.linspace(0, 1.004, 16).reshape(4, 4)))
    changed[3].seq = 5
    assert differences(run(), changed, ACROSS_MACHINES) == []
    assert len(differences(run(), changed, EXACT)) == 6

    changed[0].embedding.windows[0].vector.CopyFrom(nearly(unit(3), 0.1))
    set_first_score(changed, 0.28)
    changed[1].audio_source.heat_map.CopyFrom(heat_map_message(np.linspace(0, 1.25, 16).reshape(4, 4)))
    changed[2].capture_ns += 1
    told = [str(difference) for difference in differences(run(), changed, ACROSS_MACHINES)]
    assert len(told) == 4
    assert "has cosine 0.99" in told[0]
    assert "at least 0.9995 is allowed" in told[0]
    assert any("heat_map: differs by up to 0.25" in line for line in told)


def test_vectors_and_maps_of_another_size_are_told() -> None:
    changed = run()
    changed[0].embedding.fused.CopyFrom(vector_message(unit(3)[:64]))
    changed[1].audio_source.heat_map.CopyFrom(heat_map_message(np.zeros((2, 4), np.float32)))
    told = [str(difference) for difference in differences(run(), changed, ACROSS_MACHINES)]
    assert told == [
        "embedding of tick 3, embedding.fused: had 128 values and has 64",
        "audio source of tick 3, audio_source.heat_map: was [4, 4] and is [2, 4]",
    ]
