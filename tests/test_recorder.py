from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
import pytest
import recorded_run
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory
from recorded_run import SENSORS, START_NS, event, facts, one_of_each, record, replayed, samples

from agent.config.parse import parse
from agent.config.recording import PictureFormat, RecordSettings
from agent.log import messages as log_messages
from agent.log.files import recording_files
from agent.log.format import LoggedSensor, RecordError, RunFacts, logged_sensors
from agent.log.recording.recorder import Recorder
from agent.log.replay.samples import SampleReplay
from agent.log.viewers.topics import viewer_topic
from agent.policy import LOSSLESS
from drivers.driver import Sample


def decoded(path: Path) -> dict[str, list[Any]]:
    """Every message by topic, as another program reads it: by the index and the schemas in the file."""
    found: dict[str, list[Any]] = {}
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True, decoder_factories=[DecoderFactory()])
        for _, channel, message, body in reader.iter_decoded_messages():
            found.setdefault(channel.topic, []).append((message, body))
    return found


def test_other_readers_open_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    record(path, samples(5), events=2)
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    assert summary.statistics is not None
    counts = summary.statistics.channel_message_counts
    assert sum(n for number, n in counts.items() if not viewer_topic(summary.channels[number].topic)) == 27
    assert {channel.topic: summary.schemas[channel.schema_id].name for channel in summary.channels.values()} == {
        "/sensors/camera": "foxglove.CompressedImage",
        "/sensors/microphone": "foxglove.RawAudio",
        "/sensors/depth": "foxglove.CompressedImage",
        "/sensors/thermal": "foxglove.CompressedImage",
        "/sensors/imu": "sensebind.v1.SensorSample",
        "/events": "sensebind.v1.Event",
        "/sensors/imu/rows": "sensebind.v1.ImuRow",
        "/events/log": "foxglove.Log",
        "/transforms": "foxglove.FrameTransforms",
    }
    topics = decoded(path)
    message, picture = topics["/sensors/camera"][1]
    assert message.log_time == message.publish_time == START_NS + 100_000_000 == picture.timestamp.ToNanoseconds()
    assert (picture.format, picture.frame_id, picture.data[:2]) == ("jpeg", "camera", b"\xff\xd8")
    _, depth = topics["/sensors/depth"][0]
    assert (depth.format, depth.data[1:4], depth.data[24]) == ("png", b"PNG", 16)
    _, audio = topics["/sensors/microphone"][0]
    assert (audio.format, audio.sample_rate, audio.number_of_channels) == ("pcm-s16", 16000, 2)
    pcm = np.frombuffer(audio.data, "<i2").reshape(-1, 2)
    assert np.abs(pcm / 32768 - one_of_each(0)[1][1].data).max() <= 1 / 32768


@pytest.mark.parametrize("form", ["jpeg", "png", "raw"])
def test_other_programs_open_the_pictures(tmp_path: Path, form: Literal["jpeg", "png", "raw"]) -> None:
    path = tmp_path / "run.mcap"
    pictures = PictureFormat(colour=form, plane="raw" if form == "raw" else "png")
    with Recorder(path, facts(), RecordSettings(pictures=pictures), policy=LOSSLESS) as recorder:
        for name, sample in one_of_each(3):
            recorder.write_sample(name, sample)
    topics = decoded(path)
    handed = dict(one_of_each(3))
    (_, colour), (_, depth) = topics["/sensors/camera"][0], topics["/sensors/depth"][0]
    if form == "raw":
        assert (colour.encoding, colour.width, colour.height, colour.step) == ("rgb8", 160, 120, 480)
        assert (depth.encoding, depth.width, depth.height, depth.step) == ("32FC1", 160, 120, 640)
        assert colour.data == handed["camera"].data.tobytes()
        assert np.array_equal(np.frombuffer(depth.data, "<f4").reshape(120, 160), handed["depth"].data)
        return
    with PIL.Image.open(io.BytesIO(colour.data)) as picture:
        assert (picture.format, picture.size, picture.mode) == (form.upper(), (160, 120), "RGB")
        assert np.abs(np.asarray(picture, np.float32) - handed["camera"].data).mean() < 3
    with PIL.Image.open(io.BytesIO(depth.data)) as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", (160, 120), "I;16")
        assert np.abs(np.asarray(picture) * 0.001 - handed["depth"].data).max() <= 0.0006


def test_events_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    record(path, [], events=3)
    found = decoded(path)["/events"]
    assert [body.SerializeToString() for _, body in found] == [event(seq).SerializeToString() for seq in (1, 2, 3)]
    assert [(m.log_time, m.publish_time, m.sequence) for m, _ in found] == [
        (event(seq).capture_ns, event(seq).publish_ns, seq) for seq in (1, 2, 3)
    ]


def test_facts_and_model_are_metadata(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with Recorder(path, facts()) as recorder:
        recorder.write_model("imagebind_nano 0123abcd")
    with path.open("rb") as stream:
        found = {metadata.name: metadata.metadata for metadata in make_reader(stream).iter_metadata()}
    assert found["sensebind.model"] == {"model": "imagebind_nano 0123abcd"}
    run = found["sensebind.run"]
    assert (run["run_id"], run["start_ns"]) == ("a1b2c3", str(START_NS))
    assert json.loads(run["sensors"])["thermal"] == {
        "modality": "thermal",
        "rate_hz": 10.0,
        "scale": 0.01,
        "offset": -273.15,
    }
    assert RunFacts.from_record(run) == facts()


def slow_disk(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let the recorder's thread wait before the first sample it encodes until the event is set."""
    go_on = threading.Event()
    encode = log_messages.encode

    def wait_and_encode(name: str, sensor: LoggedSensor, sample: Sample, pictures: PictureFormat) -> Any:
        assert go_on.wait(30)
        return encode(name, sensor, sample, pictures)

    monkeypatch.setattr(log_messages, "encode", wait_and_encode)
    return go_on


def test_a_full_queue_drops_the_oldest_and_counts_by_topic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.mcap"
    go_on = slow_disk(monkeypatch)
    imu = [sample for name, sample in samples(20) if name == "imu"]
    size = imu[0].data.nbytes + 512
    recorder = Recorder(path, facts(), RecordSettings(queue_bytes=5 * size))
    for sample in imu:
        recorder.write_sample("imu", sample)
    go_on.set()
    recorder.close()
    report = recorder.report()
    written, dropped = report.written["/sensors/imu"], report.drops["/sensors/imu"]["queue full"]
    assert written + dropped == 20
    # Five fit; one more may have been taken before the queue was full.
    assert written in (5, 6)
    bodies = decoded(path)["/sensors/imu"]
    assert [body.t_ns for _, body in bodies[-5:]] == [sample.t_ns for sample in imu[-5:]]
    assert sum(body.lost for _, body in bodies) == 40 * dropped, "the rows that were dropped show as a gap"


def test_without_loss_whoever_hands_in_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = slow_disk(monkeypatch)
    with Recorder(tmp_path / "run.mcap", facts(), RecordSettings(queue_bytes=4096), policy=LOSSLESS) as recorder:
        feeder = threading.Thread(target=lambda: [recorder.write_sample(*pair) for pair in samples(10)])
        feeder.start()
        go_on.set()
        feeder.join(30)
        assert not feeder.is_alive()
    assert recorder.report().written == {f"/sensors/{name}": 10 for name in SENSORS}
    assert not recorder.report().drops


def test_a_file_that_cannot_grow_is_followed_by_another_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    command = [sys.executable, recorded_run.__file__, str(path), str(600_000)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["closed", "0", "{}"]
    assert done.stderr == ""
    files = recording_files(tmp_path)
    assert len(files) >= 5
    assert [file.name for file in files][1:] == [f"run_{number:04d}.mcap" for number in range(2, len(files) + 1)]
    found = [sample for file in files for sample in replayed(SampleReplay(file))]
    handed = samples(len(found) // 5 + 1)
    assert [(n, s.t_ns, s.lost) for n, s in found] == [(n, s.t_ns, s.lost) for n, s in handed[: len(found)]]


def test_a_sample_that_cannot_be_written_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "run.mcap"
    imu = one_of_each(0)[4][1]
    with caplog.at_level(logging.WARNING), Recorder(path, facts()) as recorder:
        for t_ns in (-2, -1, 5):
            recorder.write_sample("imu", replace(imu, t_ns=t_ns))
    assert recorder.report().drops == {"/sensors/imu": {"bad data": 2}}
    assert caplog.messages == [
        "imu: not recorded: a capture time of -2 ns cannot be stored; it must not be before 1970; "
        "more of them are counted, not logged"
    ]
    assert [(body.t_ns, body.lost) for _, body in decoded(path)["/sensors/imu"]] == [(5, 80)]


def test_sensors_that_are_not_logged_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with Recorder(path, facts({"imu": SENSORS["imu"]})) as recorder:
        for name, sample in one_of_each(0):
            recorder.write_sample(name, sample)
    assert [topic for topic in decoded(path) if not viewer_topic(topic)] == ["/sensors/imu"]
    assert not recorder.report().drops


def test_after_close_what_comes_is_counted(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run.mcap", facts())
    recorder.close()
    recorder.close()
    recorder.write_event(event(1))
    assert recorder.report().drops == {"/events": {"recording stopped": 1}}


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    path.write_text("precious")
    with pytest.raises(RecordError, match=r"run\.mcap: exists already; give another name"):
        Recorder(path, facts())
    assert path.read_text() == "precious"
    with pytest.raises(RecordError, match="cannot be written: No such file or directory"):
        Recorder(tmp_path / "nowhere" / "run.mcap", facts())
    with pytest.raises(RecordError, match="cannot be written: File name too long"):
        Recorder(tmp_path / (300 * "x"), facts())


def test_the_scale_of_a_device_is_kept() -> None:
    tree = {
        "hot": {"type": "thermal_y16", "scale_c": 0.1, "offset_c": -20.0},
        "far": {"type": "depth_v4l2", "device": "/dev/video2", "scale_m": 0.0001},
        "pushed": {"type": "remote", "modality": "depth", "rate_hz": 5},
        "secret": {"type": "camera", "source": 4, "logged": False},
    }
    assert logged_sensors(parse({"sensors": tree}).specs) == {
        "hot": LoggedSensor("thermal", 9.0, 0.1, -20.0),
        "far": LoggedSensor("depth", 30.0, 0.0001, 0.0),
        "pushed": LoggedSensor("depth", 5.0, 0.001, 0.0),
    }
