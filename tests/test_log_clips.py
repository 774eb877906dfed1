from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from other_reader import messages, metadata
from recorded_run import SENSORS, START_NS, event, facts, one_of_each, replayed, samples

from agent.clock import ManualClock
from agent.config.recording import PictureFormat
from agent.log.encoded import Encoded, encode_event, encode_sample
from agent.log.format import RecordError
from agent.log.reading import facts_of
from agent.log.recording.clips import LATENESS_S, MAX_WAITING, MESSAGE_BYTES, Clip, ClipBuffer, Clips
from agent.log.recording.recorder import Recorder
from agent.log.replay.samples import SampleReplay
from agent.policy import LOSSLESS
from drivers.driver import Sample

SECOND = 10**9


def encoded(step: int) -> list[Encoded]:
    return [encode_sample(name, SENSORS[name], sample, PictureFormat()) for name, sample in one_of_each(step)]


def row(t_ns: int) -> Encoded:
    return encode_sample("imu", SENSORS["imu"], Sample(t_ns, np.zeros((1, 6), np.float32), 400.0), PictureFormat())


def test_the_ring_holds_so_many_seconds() -> None:
    ring = ClipBuffer(max_s=10.0, max_bytes=2**30)
    for second in range(100):
        # A wrong stamp neither empties the ring nor stays in it for ever.
        ring.add(row(START_NS + (10**6 if second == 50 else second) * SECOND), START_NS + second * SECOND)
        assert len(ring) == min(second + 1, 11)
    assert [m.log_ns for m in ring.between(START_NS + 95 * SECOND, START_NS + 98 * SECOND)] == [
        START_NS + second * SECOND for second in (95, 96, 97)
    ]
    assert ring.between(0, START_NS + 89 * SECOND) == []


def test_the_ring_holds_so_many_bytes() -> None:
    size = len(row(START_NS).data) + MESSAGE_BYTES
    ring = ClipBuffer(max_s=1e6, max_bytes=10 * size)
    for second in range(100):
        ring.add(row(START_NS + second * SECOND), START_NS)
        assert ring.size == size * min(second + 1, 10) == size * len(ring)
    ring.add(replace(row(START_NS), data=bytes(11 * size)), START_NS)
    assert (len(ring), ring.size) == (0, 0), "what is larger than all of it is not held"


def make(clock: ManualClock, seconds: float = 60.0) -> Clips:
    return Clips(facts(), clock.now_ns, seconds=seconds)


def feed(clips: Clips, clock: ManualClock, steps: range) -> None:
    for step in steps:
        clock.sleep_until(START_NS + step * SECOND // 10)
        for message in encoded(step):
            clips.add(message)


def test_a_clip_is_a_complete_log(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    clips = make(clock)
    clips.set_model("imagebind_nano 0123")
    feed(clips, clock, range(30))
    clips.add(encode_event(event(3)))
    answer = clips.request(tmp_path / "clip.mcap", START_NS + SECOND, START_NS + 2 * SECOND)
    clips.close()
    path = tmp_path / "clip.mcap"
    assert answer.result(0) == Clip(path, 51, START_NS + SECOND, START_NS + 2 * SECOND)
    found = messages(path)
    assert {topic for topic, *_ in found} == {"/events", *(f"/sensors/{name}" for name in SENSORS)}
    assert [number for topic, _, number, _ in found if topic == "/sensors/camera"] == list(range(10))
    assert metadata(path)["sensebind.model"] == {"model": "imagebind_nano 0123"}
    clip = facts_of(path)
    assert (clip.run_id, clip.part, clip.start_ns) == ("a1b2c3", 0, START_NS + SECOND)
    assert [(n, s.t_ns) for n, s in replayed(SampleReplay(path))] == [(n, s.t_ns) for n, s in samples(20)[50:]]


def test_a_clip_waits_for_what_comes_after(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    clips = make(clock)
    feed(clips, clock, range(10))
    answers = [clips.request(tmp_path / f"{n}.mcap", START_NS, START_NS + n * SECOND) for n in (1, 2, 60)]
    late_ns = round(LATENESS_S * 1e9)
    clock.sleep_until(START_NS + SECOND + late_ns - 1)
    assert not answers[0].done()
    feed(clips, clock, range(10, 40))
    assert [answer.result(30).messages for answer in answers[:2]] == [50, 100], "the ring goes on meanwhile"
    assert not answers[2].done()
    clips.close()
    assert answers[2].result(0).messages == 200, "at the end, what there is"


def test_a_clip_begins_where_the_ring_does(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    clips = make(clock, seconds=1.0)
    feed(clips, clock, range(50))
    answer = clips.request(tmp_path / "clip.mcap", START_NS, START_NS + 5 * SECOND)
    clips.close()
    assert answer.result(0).from_ns == START_NS + 19 * SECOND // 10
    assert answer.result(0).messages == 5 * 31


def fault(answer: Future[Clip]) -> str:
    with pytest.raises(RecordError) as raised:
        answer.result(30)
    return str(raised.value)


def test_a_clip_that_cannot_be_saved_says_so_and_the_next_one_is(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    clips = make(clock)
    feed(clips, clock, range(30))
    (tmp_path / "old.mcap").write_text("precious")
    times = (START_NS, START_NS + SECOND)
    assert "old.mcap: exists already" in fault(clips.request(tmp_path / "old.mcap", *times))
    assert "cannot be written: No such file" in fault(clips.request(tmp_path / "no" / "clip.mcap", *times))
    assert "no sample of that time" in fault(clips.request(tmp_path / "a.mcap", 0, 1))
    assert clips.request(tmp_path / "b.mcap", *times).result(30).messages == 50
    future_ns = START_NS + 10**6 * SECOND
    for n in range(MAX_WAITING):
        clips.request(tmp_path / f"waits{n}.mcap", START_NS, future_ns)
    assert "64 clips wait to be saved" in fault(clips.request(tmp_path / "c.mcap", *times))
    clips.close()
    assert "the run is over" in fault(clips.request(tmp_path / "d.mcap", *times))
    assert (tmp_path / "old.mcap").read_text() == "precious"


@pytest.mark.parametrize("recording", [False, True])
def test_the_recorder_fills_the_ring(tmp_path: Path, recording: bool) -> None:
    (tmp_path / "clips").mkdir()
    clock = ManualClock(START_NS)
    clips = make(clock)
    path = tmp_path / "run.mcap" if recording else None
    with Recorder(path, facts(), policy=LOSSLESS, clock=clock, clips=clips) as recorder:
        recorder.write_model("imagebind_nano 0123")
        assert recorder.report().state == ("recording" if recording else "off")
        for name, sample in samples(30):
            recorder.write_sample(name, sample)
        answer = clips.request(tmp_path / "clips" / "clip.mcap", START_NS, START_NS + SECOND)
    assert answer.result(0).messages == 50
    assert recorder.report().drops == {}
    clip = replayed(SampleReplay(tmp_path / "clips" / "clip.mcap"))
    assert [(n, s.t_ns, s.lost) for n, s in clip] == [(n, s.t_ns, s.lost) for n, s in samples(10)]
    assert [entry.name for entry in tmp_path.iterdir()] == (["clips", "run.mcap"] if recording else ["clips"])
