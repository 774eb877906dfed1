"""Clips follow from the run's events alone: queries that ask for them, from the start or from later on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.log.encoded import encode_event
from agent.log.format import RunFacts
from agent.log.recording.alert_clips import AlertClips
from agent.log.recording.clips import Clips
from agent.log.timeline import Timeline
from protos import perception_pb2 as pb

S = 1_000_000_000
START_NS = 1_700_000_000 * S
BEGIN_NS = START_NS + 9 * S
KEPT_S = (4.9, 5.1, 10.4, 10.6)
"""When something was kept, from the start; a clip from 4.0 s before to 1.5 s after the begin of an alert has two."""


@pytest.fixture
def clips() -> Iterator[Clips]:
    clips = Clips(RunFacts("a1b2c3", START_NS, 0, {}, {}), lambda: START_NS + 60 * S, seconds=7.0, max_bytes=10**6)
    clips.set_model("imagebind_nano 0123")
    for number, kept_s in enumerate(KEPT_S, 1):
        clips.add(encode_event(pb.Event(run_id="a1b2c3", seq=number, capture_ns=START_NS + round(kept_s * S))))
    yield clips
    clips.close()


def begin(query_id: str, number: int) -> pb.Event:
    alert = pb.AlertTransition(
        query_id=query_id, alert_id=number, phase=pb.ALERT_PHASE_BEGIN, begin_ns=START_NS + 9 * S
    )
    return pb.Event(run_id="a1b2c3", alert=alert)


def change(kind: pb.QueryChange.Change.ValueType, query_id: str, *, clip: bool = True) -> pb.Event:
    return pb.Event(query=pb.QueryChange(change=kind, query=pb.Query(id=query_id, clip=clip)))


def test_the_queries_that_ask_for_clips_are_known_from_the_configuration_and_from_events(
    tmp_path: Path, clips: Clips
) -> None:
    asked = AlertClips(
        clips, tmp_path, ["dog"], before_s=4.0, after_s=1.5, max_bytes=10**6, unix_now_ns=lambda: START_NS
    )
    for event in (
        begin("dog", 1),
        begin("cat", 2),  # nobody has heard of it
        change(pb.QueryChange.CHANGE_ADDED, "cat"),
        change(pb.QueryChange.CHANGE_ADDED, "bird", clip=False),
        begin("cat", 3),
        begin("bird", 4),
        change(pb.QueryChange.CHANGE_REMOVED, "dog"),
        begin("dog", 5),
        pb.Event(health=pb.StreamHealth(sensor="eye")),
    ):
        asked.on_event(event)
    clips.close()
    saved = sorted(tmp_path.glob("*.mcap"))
    assert [path.name.split("_", 1)[1] for path in saved] == ["cat_a1b2c3_3.mcap", "dog_a1b2c3_1.mcap"]
    for path in saved:
        log = Timeline([path])
        assert [round((entry.message.log_time - START_NS) / S, 1) for entry in log.read(None)] == [5.1, 10.4]
