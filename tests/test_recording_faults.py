"""What others do to the files of a recording, and a disk that is slow: said, counted, and gone on from."""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM

import pytest
import yaml
from mcap.reader import make_reader
from other_reader import messages
from recorded_run import SENSORS, START_NS, facts, replayed, samples
from running_agent import DEADLINE_S, busy_factor
from test_log_recording import Told, block

from agent.clock import ManualClock
from agent.config.recording import RecordSettings
from agent.log.encoded import Encoded
from agent.log.recording import retention
from agent.log.recording.clips import Clips
from agent.log.recording.parts import LOOK_S, RETRY_S, Recording
from agent.log.recording.recorder import Recorder
from agent.log.recording.report import DISK_SLOW, TAKEN_AWAY, RecorderReport
from agent.log.replay.samples import SampleReplay
from benchmarks.faults.commands import Command
from common.private_files import make_folders
from drivers.driver import Sample

SETTINGS = RecordSettings(chunk_bytes=10_000, min_free_bytes=0)
END_S = 1.5


class Run:
    """A recording of blocks in a folder, whose clock is moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.told, self.clock = folder, Told(), ManualClock(START_NS)
        folder.mkdir(exist_ok=True)
        self.recording: Recording = self.told.recording(folder / "run.mcap", SETTINGS, self.clock)
        self.step = 0

    def record(self, steps: int) -> None:
        for _ in range(steps):
            self.recording.write(block(self.step))
            self.step += 1

    def after(self, seconds: float) -> None:
        self.clock.sleep_until(self.clock.now_ns() + round(seconds * 1e9))
        self.recording.tend(block(self.step).log_ns)

    def steps_in_files(self) -> list[int]:
        times = [log_ns for path in sorted(self.folder.glob("*.mcap")) for _, log_ns, *_ in messages(path)]
        return [(log_ns - START_NS) // 100_000_000 for log_ns in times]


def test_a_file_that_is_deleted_is_told_and_what_was_in_it_counts_as_lost(tmp_path: Path) -> None:
    run = Run(tmp_path / "logs")
    run.record(10)
    written = len(run.told.written)
    assert 0 < written < 10
    (run.folder / "run.mcap").unlink()
    run.after(LOOK_S)
    assert run.told.lost == {"/sensors/imu": written}
    new = run.folder / "run_0002.mcap"
    assert run.recording.path == new
    assert run.recording.notice == (
        f"{run.folder}/run.mcap: another program deleted it: {written} messages in it are lost; "
        f"recording goes on in {new}"
    )
    assert run.recording.error == ""
    run.record(10)
    run.recording.finish(30)
    assert run.steps_in_files() == list(range(written, 20)), "what waited is in the new file"
    assert not run.told.dropped


@pytest.mark.parametrize("change", ["cut", "emptied", "added to"])
def test_a_file_that_another_program_changes_is_left_to_it(tmp_path: Path, change: str) -> None:
    run = Run(tmp_path / "logs")
    run.record(10)
    written = len(run.told.written)
    with (run.folder / "run.mcap").open("r+b" if change != "added to" else "ab") as stream:
        if change == "added to":
            stream.write(b"hello")
        else:
            stream.truncate(5000 if change == "cut" else 0)
    run.record(10)  # before it is looked at
    written = len(run.told.written)
    run.after(LOOK_S)
    assert run.told.lost == {"/sensors/imu": written}
    assert "another program changed it" in run.recording.notice
    run.record(10)
    run.recording.finish(30)
    found = [data for *_, data in messages(run.folder / "run_0002.mcap")]
    assert found == [block(step).data for step in range(written, 30)]


def test_a_file_that_is_renamed_is_gone_on_with(tmp_path: Path) -> None:
    run = Run(tmp_path / "logs")
    run.record(10)
    moved = run.folder / "kept.mcap"
    (run.folder / "run.mcap").rename(moved)
    run.after(LOOK_S)
    assert run.recording.path == moved
    assert run.recording.notice.endswith(f"run.mcap: another program moved it; recording goes on in {moved}")
    run.record(10)
    run.recording.finish(30)
    assert run.steps_in_files() == list(range(20))
    assert not run.told.lost
    assert [path.name for path in run.folder.iterdir()] == ["kept.mcap"]


def test_without_its_folder_recording_stops_until_that_is_back(tmp_path: Path) -> None:
    run = Run(tmp_path / "logs")
    run.record(10)
    written = len(run.told.written)
    (run.folder / "run.mcap").unlink()
    run.folder.rmdir()
    run.after(LOOK_S)
    assert "recording stopped: its folder is gone" in run.recording.error
    assert run.told.lost == {"/sensors/imu": written}
    run.record(5)
    assert len(run.told.dropped) == 15 - written
    run.folder.mkdir()
    run.after(RETRY_S)
    assert run.recording.error == ""
    run.record(5)
    run.recording.finish(30)
    assert run.steps_in_files() == list(range(15, 20))


def test_a_recorder_tells_within_two_seconds_that_its_file_is_gone(tmp_path: Path) -> None:
    reports: list[RecorderReport] = []
    path = tmp_path / "run.mcap"
    with Recorder(path, facts(), RecordSettings(chunk_s=0.02), on_change=reports.append) as recorder:
        feed(recorder, 3)
        wait_for(lambda: sum(recorder.report().written.values()) == 15)
        path.unlink()
        gone_s = time.monotonic()
        wait_for(lambda: "deleted" in reports[-1].notice)
        assert time.monotonic() - gone_s < 2.0 * busy_factor()
    last = recorder.report()
    assert last.lost == {TAKEN_AWAY: 15}
    assert sum(last.written.values()) == 0, "what is in a deleted file is not written"
    assert reports[-1].state == "closed"


def test_record_says_that_its_file_was_deleted_and_fails(tmp_path: Path) -> None:
    thermal = {"type": "synthetic_thermal", "seed": 7, "width": 64, "height": 64}
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump({"model": {"device": "cpu"}, "sensors": {"thermal": thermal}}))
    words = ["record", "--out", "run.mcap", "--config", "agent.yaml", "--listen", "127.0.0.1:0"]
    with Command(words, tmp_path) as command:
        command.says("sensebind runs")
        (tmp_path / "run.mcap").unlink()
        command.until((tmp_path / "run_0002.mcap").exists)
        status, errors, _ = command.end(SIGTERM)
    assert status == 1
    first, last = errors.splitlines()
    said = r"run\.mcap: another program deleted it: \d+ messages in it are lost"
    assert re.search(rf"ERROR .*{said}$", first)
    assert re.match(rf"sensebind: {said}; recording goes on in run_0002\.mcap$", last)
    assert len(messages(tmp_path / "run_0002.mcap")) > 0


def feed(recorder: Recorder, steps: int) -> None:
    for name, sample in samples(steps):
        recorder.write_sample(name, sample)


def wait_for(met: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not met():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A disk that takes a write only while this is set."""
    fast = threading.Event()
    fast.set()
    write = os.write

    def write_when_it_can(fd: int, data: memoryview) -> int:
        assert fast.wait(DEADLINE_S)
        return write(fd, data)

    monkeypatch.setattr("agent.log.disk.os.write", write_when_it_can)
    return fast


def test_a_disk_that_does_not_come_back_is_given_up_and_what_it_did_not_take_is_counted(
    tmp_path: Path, disk: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    reports: list[RecorderReport] = []
    path = tmp_path / "run.mcap"
    recorder = Recorder(path, facts(), RecordSettings(chunk_s=0.02), on_change=reports.append)
    feed(recorder, 4)
    wait_for(lambda: sum(recorder.report().written.values()) == 20)
    disk.clear()
    feed(recorder, 6)
    began_s = time.monotonic()
    recorder.close(END_S)
    assert time.monotonic() - began_s < (END_S + 0.5) * busy_factor()
    last = recorder.report()
    assert (sum(last.written.values()), last.lost) == (20, {DISK_SLOW: 30})
    assert last.error == f"{path}: the disk was too slow at the end: 30 messages are lost"
    assert caplog.messages == [last.error]
    assert (reports[-1].state, reports[-1].error) == ("closed", last.error)
    assert len(replayed(SampleReplay(path))) == 20, "it is read to its last whole chunk"
    disk.set()
    wait_for(lambda: not any(thread.name in ("recorder", "log-sync") for thread in threading.enumerate()))
    assert recorder.report() == last, "what comes too late does not count"
    assert len(messages(path)) >= 20, "the file is finished all the same"


def test_a_disk_that_comes_back_in_time_gets_everything(tmp_path: Path, disk: threading.Event) -> None:
    path = tmp_path / "run.mcap"
    recorder = Recorder(path, facts(), RecordSettings(chunk_s=0.02))
    disk.clear()
    feed(recorder, 6)
    threading.Timer(0.3, disk.set).start()
    recorder.close(20.0)
    assert not recorder.report().lost
    assert len(messages(path)) == 30


def test_a_slow_disk_is_spared_what_there_is_no_time_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def write_slowly(fd: int, data: memoryview) -> int:
        time.sleep(0.3)
        return write(fd, data)

    path = tmp_path / "run.mcap"
    settings = RecordSettings(chunk_bytes=20_000, queue_bytes=2**26)
    recorder = Recorder(path, facts({"imu": SENSORS["imu"]}), settings)
    monkeypatch.setattr("agent.log.disk.os.write", write_slowly)
    imu = next(sample for name, sample in samples(1) if name == "imu")
    for step in range(2000):
        recorder.write_sample("imu", Sample(imu.t_ns + step * 100_000_000, imu.data, imu.rate_hz))
    recorder.close(3.0)
    last = recorder.report()
    assert last.written["/sensors/imu"] + last.lost[DISK_SLOW] == 2000
    assert last.error.endswith(f"the disk was too slow at the end: {last.lost[DISK_SLOW]} messages are lost")
    with path.open("rb") as stream:
        assert make_reader(stream).get_summary() is not None, "there was time to finish the file"
    assert len(messages(path)) == last.written["/sensors/imu"] > 0


def test_a_fault_of_the_recorder_itself_is_told_once_and_everything_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reports: list[RecorderReport] = []
    write, left = Recording.write, [7]

    def write_until_it_fails(self: Recording, message: Encoded) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("a bug")
        write(self, message)

    monkeypatch.setattr(Recording, "write", write_until_it_fails)
    recorder = Recorder(tmp_path / "run.mcap", facts(), on_change=reports.append)
    feed(recorder, 3)
    wait_for(lambda: reports[-1:] != [] and reports[-1].state == "failed")
    feed(recorder, 1)
    recorder.close(20.0)
    last = recorder.report()
    assert last.error == "recording failed: a bug; the agent goes on without it"
    assert [report.state for report in reports].count("failed") == 1
    assert sum(last.written.values()) + sum(last.lost.values()) == 20
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_clip_that_fails_in_a_way_nobody_thought_of_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = Clips(facts(), lambda: START_NS, seconds=10.0)
    save, faults = Clips._save, [RuntimeError("a bug")]

    def save_from_the_second_on(self: Clips, *arguments: object) -> object:
        if faults:
            raise faults.pop()
        return save(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Clips, "_save", save_from_the_second_on)
    clips.add(block(0))
    first, second = (clips.request(tmp_path / f"{i}.mcap", START_NS, START_NS + 1_000_000_000) for i in (1, 2))
    clips.close(30.0)
    assert "a bug" in str(first.exception())
    assert second.result().messages == 1


def test_what_a_killed_agent_left_of_a_clip_is_removed(tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in (".a.mcap.12.part", ".b.mcap.13.part", "notes.part"))
    for path, age_s in ((old, 2 * retention.UNFINISHED_S), (young, 0), (other, 2 * retention.UNFINISHED_S)):
        path.write_bytes(b"half")
        os.utime(path, ns=(0, START_NS - round(age_s * 1e9)))
    retention.remove_unfinished(tmp_path, START_NS)
    assert sorted(tmp_path.iterdir()) == sorted([young, other])
    retention.remove_unfinished(tmp_path / "nowhere", START_NS)


def test_recordings_and_clips_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_folders(tmp_path / "a" / "b")
        recorder_clips = Clips(facts(), lambda: START_NS, seconds=10.0)
        with Recorder(tmp_path / "a" / "b" / "run.mcap", facts(), clips=recorder_clips) as recorder:
            feed(recorder, 1)
            assert mode(tmp_path / "a" / "b" / "run.mcap") == 0o600, "from the start"
            clip = recorder_clips.request(tmp_path / "a" / "clip.mcap", START_NS, START_NS + 1_000_000_000)
        assert clip.result().messages == 5
    finally:
        os.umask(before)
    assert {path.name: mode(path) for path in tmp_path.rglob("*")} == {
        "a": 0o700,
        "b": 0o700,
        "run.mcap": 0o600,
        "clip.mcap": 0o600,
    }


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
