from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from other_reader import messages, metadata
from recorded_run import SENSORS, START_NS, event, facts, record, replayed, samples

from agent.clock import ManualClock
from agent.config.recording import PictureFormat, RecordSettings, Retention
from agent.log.disk import NewFile
from agent.log.encoded import Encoded, encode_event, encode_sample
from agent.log.files import recording_files
from agent.log.format import LoggedSensor, RecordError
from agent.log.reading import facts_of
from agent.log.recording.parts import RETRY_S, Recording
from agent.log.recording.recorder import Recorder, RecorderReport
from agent.log.replay.samples import SampleReplay
from agent.policy import LOSSLESS
from drivers.driver import Sample

IMU = {"imu": LoggedSensor("imu", 100.0), "gyro": LoggedSensor("imu", 100.0)}


def block(step: int, sensor: str = "imu", rows: int = 100) -> Encoded:
    """A tenth of a second of rows, 2.4 kB."""
    t_ns = START_NS + step * 100_000_000
    rng = np.random.default_rng(step)
    sample = Sample(t_ns, rng.normal(size=(rows, 6)).astype(np.float32), 10.0 * rows)
    return encode_sample(sensor, IMU[sensor], sample, PictureFormat())


class Told:
    """What a recording says of the messages that it was given."""

    def __init__(self) -> None:
        self.written: list[Encoded] = []
        self.dropped: list[Encoded] = []
        self.lost: Counter[str] = Counter()

    def recording(self, path: Path, settings: RecordSettings, clock: ManualClock | None = None) -> Recording:
        return Recording(
            path,
            facts(IMU),
            settings,
            clock or ManualClock(START_NS),
            on_written=self.written.extend,
            on_dropped=self.dropped.extend,
            on_lost=self.lost.update,
        )


def test_a_recording_is_split_by_size_into_files_that_are_complete(tmp_path: Path) -> None:
    told = Told()
    recording = told.recording(tmp_path / "run.mcap", RecordSettings(split_bytes=50_000, chunk_bytes=10_000))
    handed = [block(step) for step in range(100)]
    recording.write(handed[0])
    recording.set_model("imagebind_nano 0123")
    for message in handed[1:]:
        recording.write(message)
    recording.finish(30)
    files = recording_files(tmp_path)
    assert [file.name for file in files] == [f"run_{number:04d}.mcap" for number in range(1, len(files) + 1)]
    assert len(files) == 5
    found = [message for file in files for message in messages(file)]
    assert [data for *_, data in found] == [message.data for message in handed]
    assert [number for _, _, number, _ in found] == list(range(100)), "the numbers run on"
    assert told.written == handed
    assert not told.dropped
    for number, file in enumerate(files, 1):
        assert file.stat().st_size < 50_000 + 10_000 + 8_000, "one chunk and the summary beyond the limit"
        assert metadata(file)["sensebind.model"] == {"model": "imagebind_nano 0123"}
        own = facts_of(file)
        assert (own.run_id, own.part, own.config) == ("a1b2c3", number, facts(IMU).config)
        assert own.start_ns == (START_NS if number == 1 else messages(file)[0][1]), "each can be replayed alone"


def test_a_recording_is_split_by_time(tmp_path: Path) -> None:
    told = Told()
    recording = told.recording(tmp_path / "run.mcap", RecordSettings(split_s=2.0))
    for step in range(50):
        recording.write(block(step))
        # Stamps that are wrong by a constant do not split.
        recording.write(block(step + 100_000, "gyro"))
    recording.finish(30)
    files = recording_files(tmp_path)
    counts = [Counter(topic for topic, *_ in messages(file)) for file in files]
    assert counts == [{"/sensors/imu": 20, "/sensors/gyro": 20}] * 2 + [{"/sensors/imu": 10, "/sensors/gyro": 10}]


def test_a_split_recording_is_replayed_part_by_part(tmp_path: Path) -> None:
    handed = samples(30)
    with Recorder(tmp_path / "run.mcap", facts(), RecordSettings(split_s=1.0), policy=LOSSLESS) as recorder:
        for name, sample in handed:
            recorder.write_sample(name, sample)
        for seq in range(1, 4):
            recorder.write_event(event(seq))
    assert recorder.report().parts == 3
    found = [pair for file in recording_files(tmp_path) for pair in replayed(SampleReplay(file))]
    assert [(n, s.t_ns, s.lost) for n, s in found] == [(n, s.t_ns, s.lost) for n, s in handed]


def test_a_gap_at_the_seam_is_seen(tmp_path: Path) -> None:
    told = Told()
    recording = told.recording(tmp_path / "run.mcap", RecordSettings(split_s=1.0))
    for step in range(20):
        if step != 10:
            recording.write(block(step))
    recording.finish(30)
    first, second = recording_files(tmp_path)
    assert [number for _, _, number, _ in messages(first)] == list(range(10))
    assert messages(second)[0][2] == 10, "the recording itself lost nothing"


def test_a_chunk_is_written_after_its_time_and_before_it_is_too_large(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    told = Told()
    recording = told.recording(tmp_path / "run.mcap", RecordSettings(chunk_bytes=10_000), clock)
    recording.write(block(0))
    assert recording.wait_s() == pytest.approx(0.1)
    clock.sleep_until(START_NS + 99_000_000)
    recording.tend(0)
    assert not told.written
    clock.sleep_until(START_NS + 100_000_000)
    recording.tend(0)
    assert len(told.written) == 1
    assert recording.wait_s() == pytest.approx(0.9), "to look at the file"
    for step in range(1, 6):
        recording.write(block(step))
    assert len(told.written) == 5, "the sixth did not fit"
    recording.finish(30)
    with (tmp_path / "run.mcap").open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    assert [index.uncompressed_size <= 10_000 for index in summary.chunk_indexes] == [True] * 3


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[int]]:
    """A folder on a disk of its own; the list holds its size in bytes. A file system takes what fits, then refuses."""
    room = [0]
    write = os.write

    def write_what_fits(fd: int, data: memoryview) -> int:
        used = sum(path.stat().st_size for path in tmp_path.iterdir())
        if used >= room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[: room[0] - used])

    monkeypatch.setattr("agent.log.disk.os.write", write_what_fits)
    return room


def record_steps(recording: Recording, steps: Sequence[int]) -> None:
    for step in steps:
        recording.write(block(step))


def test_a_full_disk_stops_recording_which_resumes_in_another_file(
    tmp_path: Path, small_disk: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock(START_NS)
    told = Told()
    small_disk[0] = 50_000
    settings = RecordSettings(chunk_bytes=10_000, min_free_bytes=0)
    recording = told.recording(tmp_path / "run.mcap", settings, clock)
    recording.set_model("imagebind_nano 0123")
    record_steps(recording, range(30))
    assert (
        recording.error
        == f"{tmp_path}/run.mcap: recording stopped: No space left on device; the agent goes on without it"
    )
    assert caplog.messages[-1] == recording.error
    written = len(told.written)
    assert 10 < written < 20
    assert told.dropped == [block(step) for step in range(written, 30)], "everything is counted, in order"
    assert [path.name for path in tmp_path.iterdir()] == ["run.mcap"], "nothing is left of further tries"
    assert [s.t_ns for _, s in replayed(SampleReplay(tmp_path / "run.mcap"))] == [m.log_ns for m in told.written]
    small_disk[0] = 1_000_000
    recording.tend(block(30).log_ns)
    assert recording.error, "it is not tried all the time"
    clock.sleep_until(START_NS + round(RETRY_S * 1e9))
    recording.tend(block(30).log_ns)
    assert recording.error == ""
    assert recording.path.name == "run_0002.mcap"
    record_steps(recording, range(30, 40))
    recording.finish(30)
    second = recording_files(tmp_path)[1]
    assert facts_of(second).start_ns == block(30).log_ns
    assert metadata(second)["sensebind.model"] == {"model": "imagebind_nano 0123"}
    numbers = [number for _, _, number, _ in messages(second)]
    missing = 100 * (30 - written)
    assert numbers == list(range(written + missing, written + missing + 10)), "rows that are missing show as a gap"
    assert told.written == [block(step) for step in [*range(written), *range(30, 40)]]


def test_retention_makes_room_and_nothing_is_lost(tmp_path: Path, small_disk: list[int]) -> None:
    small_disk[0] = 200_000
    old = [tmp_path / f"old_{i}.mcap" for i in range(3)]
    for age, path in enumerate(old):
        path.write_bytes(bytes(50_000))
        os.utime(path, ns=(0, START_NS - (10 - age) * 10**9))
    told = Told()
    settings = RecordSettings(chunk_bytes=10_000, min_free_bytes=0, retention=Retention(max_bytes=120_000))
    recording = told.recording(tmp_path / "run.mcap", settings)
    assert [path.exists() for path in old] == [False, True, True]
    record_steps(recording, range(60))
    assert [path.exists() for path in old] == [False, False, False]
    recording.finish(30)
    assert (recording.removed_files, recording.removed_bytes) == (3, 150_000)
    assert recording.error == ""
    found = [data for file in recording_files(tmp_path) for *_, data in messages(file)]
    assert found == [block(step).data for step in range(60)]


def test_recording_stops_before_the_disk_is_full_with_a_complete_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [100 * 2**20]
    monkeypatch.setattr(Recording, "_free_bytes", lambda _self: free[0])
    clock = ManualClock(START_NS)
    told = Told()
    recording = told.recording(tmp_path / "run.mcap", RecordSettings(chunk_bytes=10_000), clock)
    record_steps(recording, range(10))
    free[0] = 63 * 2**20
    record_steps(recording, range(10, 20))
    assert "less than 64 MiB free on the disk" in recording.error
    assert [data for *_, data in messages(tmp_path / "run.mcap")] == [message.data for message in told.written]
    for free[0], resumed in ((65 * 2**20, False), (81 * 2**20, True)):
        clock.sleep_until(clock.now_ns() + 10 * 10**9)
        recording.tend(START_NS)
        assert (recording.error == "") == resumed
    recording.finish(30)


def test_the_last_chunk_finds_its_file_and_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    recording = told.recording(tmp_path / "run.mcap", RecordSettings(chunk_bytes=10_000))
    record_steps(recording, range(10))
    write = os.write
    broken = [OSError(errno.EFBIG, os.strerror(errno.EFBIG))]

    def write_from_the_second_time_on(fd: int, data: memoryview) -> int:
        if broken:
            raise broken.pop()
        return write(fd, data)

    monkeypatch.setattr("agent.log.disk.os.write", write_from_the_second_time_on)
    recording.finish(30)
    assert told.written == [block(step) for step in range(10)]
    found = [data for file in recording_files(tmp_path) for *_, data in messages(file)]
    assert found == [message.data for message in told.written]
    assert recording.parts == 2


def test_a_disk_that_is_full_at_the_start_is_waited_for(tmp_path: Path, small_disk: list[int]) -> None:
    clock = ManualClock(START_NS)
    told = Told()
    path = tmp_path / "run.mcap"
    recording = told.recording(path, RecordSettings(min_free_bytes=0), clock)
    assert "recording stopped" in recording.error
    record_steps(recording, [0])
    small_disk[0] = 100_000
    clock.sleep_until(START_NS + round(RETRY_S * 1e9))
    recording.tend(block(1).log_ns)
    record_steps(recording, [1])
    recording.finish(30)
    assert [(message[1], message[2]) for message in messages(path)] == [(block(1).log_ns, 100)]
    with pytest.raises(RecordError, match="exists already"):
        told.recording(path, RecordSettings(), clock)


def test_what_the_recorder_tells_when_the_disk_is_full(tmp_path: Path, small_disk: list[int]) -> None:
    told: list[RecorderReport] = []
    small_disk[0] = 600_000
    settings = RecordSettings(min_free_bytes=0)
    with Recorder(tmp_path / "run.mcap", facts(), settings, policy=LOSSLESS, on_change=told.append) as recorder:
        for name, sample in samples(40):
            recorder.write_sample(name, sample)
    assert [report.state for report in told] == ["recording", "stopped", "closed"]
    last = recorder.report()
    assert last.error.endswith("recording stopped: No space left on device; the agent goes on without it")
    for name in SENSORS:
        topic = f"/sensors/{name}"
        assert last.written[topic] + last.drops[topic]["recording stopped"] == 40
    assert len(replayed(SampleReplay(tmp_path / "run.mcap"))) == sum(last.written.values()) > 0


def test_a_disk_that_fails_to_keep_data_safe_ends_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("agent.log.disk.os.fdatasync", fail)
    file = NewFile(tmp_path / "any")
    file.sync()
    assert file.close(30)
    with pytest.raises(OSError, match="Input/output error"):
        file.write(b"more")


@pytest.mark.parametrize(("compression", "found"), [({}, {""}), ({"depth": "lz4"}, {"lz4"}), ({"events": "lz4"}, {""})])
def test_chunks_are_compressed_for_the_topics_that_ask_for_it(
    tmp_path: Path, compression: dict[str, str], found: set[str]
) -> None:
    path = tmp_path / "run.mcap"
    settings = RecordSettings(pictures=PictureFormat(colour="raw", plane="raw"), compression=compression)
    with Recorder(path, facts(), settings, policy=LOSSLESS) as recorder:
        for name, sample in samples(10):
            recorder.write_sample(name, sample)
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    assert {index.compression for index in summary.chunk_indexes} == found
    for (_, was), (_, now) in zip(samples(10), replayed(SampleReplay(path)), strict=True):
        if was.rate_hz == 0:
            assert np.array_equal(was.data, now.data), "raw pictures come back as they were"


def test_png_keeps_colours_exactly(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    handed = [pair for pair in samples(2) if pair[0] == "camera"]
    with Recorder(path, facts(), RecordSettings(pictures=PictureFormat(colour="png")), policy=LOSSLESS) as recorder:
        for name, sample in handed:
            recorder.write_sample(name, sample)
    for (_, was), (_, now) in zip(handed, replayed(SampleReplay(path)), strict=True):
        assert np.array_equal(was.data, now.data)


def test_a_folder_of_one_run_gives_its_files_and_of_two_an_error(tmp_path: Path) -> None:
    record(tmp_path / "b.mcap", samples(1))
    assert recording_files(tmp_path) == recording_files(tmp_path / "b.mcap") == [tmp_path / "b.mcap"]
    assert encode_event(event(1)).rows == 0
