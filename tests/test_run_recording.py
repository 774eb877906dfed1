"""What is kept of a live run, as its configuration says: files in a folder, and clips of alerts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.config.faults import ConfigError
from agent.config.parse import Config, parse
from agent.events.filters import EventFilter
from agent.log.files import recording_files
from agent.log.format import RecordError, sensor_of
from agent.log.timeline import Timeline
from agent.run import build
from agent.run.run import Run
from protos import perception_pb2 as pb

S = 1_000_000_000
DEADLINE_S = 60.0


def config(weights: Path, **keys: Any) -> Config:
    """Two sensors, and a query that is answered at once, whatever is seen."""
    sensors = {
        "camera": {"type": "synthetic_camera", "width": 96, "height": 96, "rate_hz": 10, "seed": 7},
        "microphone": {"type": "synthetic_microphone", "rate_hz": 16_000, "seed": 7},
    }
    query = {"id": "anything", "text": "a dog", "threshold_on": 0.002, "threshold_off": 0.001, "min_duration_s": 0}
    model = {"weights": str(weights), "device": "cpu"}
    queries = [{**query, "clip": "clips" in keys}]
    return parse({"model": model, "sensors": sensors, "queries": queries, **keys})


def run_until(pipeline: Run, done: Callable[[], bool]) -> list[pb.Event]:
    """What the agent says until something is so."""
    subscription = pipeline.bus.subscribe(EventFilter(pb.SubscribeRequest()), lambda: None, max_others=4096)
    try:
        pipeline.start()
        pipeline.load_model()
        deadline_s = time.monotonic() + DEADLINE_S
        while not done():
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
    finally:
        pipeline.stop()
    return [pb.Event.FromString(data) for data in iter(subscription.take, None)]


def test_a_clip_of_an_alert_is_saved_though_nothing_else_is_recorded(nano_weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    settings = {"folder": str(folder), "before_s": 1.0, "after_s": 1.0}
    said = run_until(build.live(config(nano_weights, clips=settings)), lambda: any(folder.glob("*.mcap")))
    begin_ns = next(e.alert.begin_ns for e in said if e.alert.phase == pb.ALERT_PHASE_BEGIN)
    (clip,) = folder.glob("*_anything_*.mcap")
    timeline = Timeline([clip])
    times: dict[str, list[int]] = {}
    for entry in timeline.read():
        if name := sensor_of(entry.topic):
            times.setdefault(name, []).append(entry.message.log_time)
    assert set(times) == {"camera", "microphone"}
    for name, stamps in times.items():
        assert begin_ns - S <= min(stamps), name
        assert begin_ns < max(stamps) < begin_ns + S, name
    states = [e.recording.state for e in said if e.HasField("recording")]
    assert states[0] == pb.RecordingState.STATE_CLIPS_ONLY
    assert not list(tmp_path.glob("*.mcap"))


def test_a_run_records_into_the_folder_of_its_configuration(nano_weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "recordings"
    pipeline = build.live(config(nano_weights, record={"folder": str(folder), "split_s": 1}))
    said = run_until(pipeline, lambda: len(list(folder.glob("*.mcap"))) >= 3)
    files = recording_files(folder)
    assert len(files) >= 3
    assert Timeline(files).facts.run_id == pipeline.bus.run_id
    recording = [e.recording for e in said if e.HasField("recording")]
    assert recording[0].state == pb.RecordingState.STATE_RECORDING
    assert recording[-1].state == pb.RecordingState.STATE_CLOSED
    assert recording[-1].files == len(files)
    assert pipeline.status().recording.path == str(files[-1])


def test_what_cannot_be_kept_is_told_before_anything_starts(nano_weights: Path, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    for keys, key in (
        ({"record": {"folder": str(in_the_way / "x")}}, "record.folder"),
        ({"clips": {"folder": str(in_the_way / "x")}}, "clips.folder"),
    ):
        pipeline = build.live(config(nano_weights, **keys))
        with pytest.raises(RecordError, match=f"change {key}"):
            pipeline.start()
        pipeline.stop()
    query = {"text": "a dog", "clip": True}
    sensors = {"camera": {"type": "synthetic_camera"}}
    with pytest.raises(ConfigError, match=r"'q1' asks for clips, but clips.folder is not set"):
        parse({"sensors": sensors, "queries": [query]})
    with pytest.raises(ConfigError, match=r"record.compression.cam: not a sensor; did you mean 'camera'"):
        parse({"sensors": sensors, "record": {"compression": {"cam": "lz4"}}})


def test_a_recording_that_cannot_begin_leaves_no_thread(nano_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "drive.mcap"
    out.write_bytes(b"")
    pipeline = build.live(config(nano_weights, clips={"folder": str(tmp_path / "clips")}), log_to=out)
    with pytest.raises(RecordError, match="exists already"):
        pipeline.start()
    pipeline.stop()
    assert not {thread.name for thread in threading.enumerate()} & {"clips", "recorder"}
