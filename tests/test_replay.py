from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recorded_run
from mcap.writer import Writer
from recorded_run import SENSORS, START_NS, facts, one_of_each, record, replayed, samples

from agent.faults import Faults
from agent.log import messages
from agent.log.format import FACTS_RECORD, ReplayError
from agent.log.reading import facts_of
from agent.log.recording.recorder import CHUNK_BYTES
from agent.log.replay.samples import SampleReplay
from agent.streams import Stream, Streams
from agent.windows.windower import Tick, Windower
from drivers.driver import Sample


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


def test_samples_come_back(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    handed = samples(30)
    record(path, handed, events=3)
    replay = SampleReplay(path)
    found = replayed(replay)
    assert [(n, s.t_ns, s.rate_hz, s.lost) for n, s in found] == [(n, s.t_ns, s.rate_hz, s.lost) for n, s in handed]
    assert [(s.data.dtype, s.data.shape) for _, s in found] == [(s.data.dtype, s.data.shape) for _, s in handed]
    for (name, was), (_, now) in zip(handed, found, strict=True):
        error = np.abs(now.data.astype(np.float64) - was.data).max()
        match name:
            case "camera":
                assert psnr_db(was.data, now.data) > 30
            case "microphone":
                assert error <= 0.51 / 32768
            case "depth":
                assert error <= 0.0005 + 1e-6
                assert np.array_equal(now.data == 0, was.data == 0), "no reading stays no reading"
            case "thermal":
                assert error <= 0.005 + 1e-4
            case "imu":
                assert np.array_equal(now.data, was.data)
    assert replay.timeline.unfinished == ""
    assert replay.clock.now_ns() == max(sample.end_ns for _, sample in handed)
    assert {name: report.state for name, report in replay.reports().items()} == dict.fromkeys(SENSORS, "ended")
    assert replay.reports()["microphone"].drops == {"not recorded": 3}


def test_facts_come_back(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    record(path, [])
    assert facts_of(path) == facts()
    replay = SampleReplay(path)
    assert replay.clock.start_ns == START_NS
    assert replayed(replay) == []


def test_what_foxgloves_schemas_cannot_hold_is_kept_exactly(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    depth_m, thermal_c = np.full((8, 8), 2.0, np.float32), np.full((8, 8), 900.0, np.float32)
    depth_m[0, 0], depth_m[1, 1] = np.nan, 70.0
    loud = np.array([[0.5], [-1.5]], np.float32)
    handed = [
        ("depth", Sample(START_NS, depth_m)),
        ("thermal", Sample(START_NS, thermal_c)),
        ("microphone", Sample(START_NS, loud, 16000.0)),
        ("microphone", Sample(START_NS + 1, loud / 2, 44100.5)),
    ]
    record(path, handed)
    found = replayed(SampleReplay(path))
    assert [(name, s.t_ns, s.rate_hz) for name, s in found] == [(name, s.t_ns, s.rate_hz) for name, s in handed]
    for (_, was), (_, now) in zip(handed, found, strict=True):
        assert np.array_equal(was.data, now.data, equal_nan=True)


def test_only_the_wanted_sensors_are_replayed(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    record(path, samples(3))
    replay = SampleReplay(path, ["imu", "lidar"])
    assert replay.reports()["lidar"].state == "ended"
    assert replay.reports()["lidar"].error == "not in the log"
    assert [name for name, _ in replayed(replay)] == ["imu"] * 3


def test_a_truncated_log_gives_a_prefix(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.mcap", tmp_path / "part.mcap"
    handed = samples(60)
    record(whole, handed)
    data = whole.read_bytes()
    first_chunk = data.index(b"foxglove.CompressedImage")
    rng = random.Random(4)
    lengths = [rng.randrange(first_chunk, len(data)) for _ in range(20)]
    counts = []
    for length in lengths:
        part.write_bytes(data[:length])
        replay = SampleReplay(part)
        found = replayed(replay)
        assert [(n, s.t_ns) for n, s in found] == [(n, s.t_ns) for n, s in handed[: len(found)]]
        assert replay.timeline.unfinished
        counts.append(len(found))
    assert sorted(counts) == [count for _, count in sorted(zip(lengths, counts, strict=True))]
    assert min(counts) < max(counts)
    for length in range(0, first_chunk - 64, 97):
        part.write_bytes(data[:length])
        with pytest.raises(ReplayError):
            SampleReplay(part)


def test_a_damaged_chunk_ends_the_replay_before_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "run.mcap"
    handed = samples(60)
    record(path, handed)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    found = replayed(SampleReplay(path))
    assert 0 < len(found) < len(handed)
    assert [s.t_ns for _, s in found] == [s.t_ns for _, s in handed[: len(found)]]
    assert "cut off or damaged" in caplog.text


def test_a_fault_in_decoding_costs_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.mcap"
    record(path, samples(10))
    decode, decoded = messages.decode, []

    def decode_or_fail(schema: str, *rest: Any) -> Sample:
        decoded.append(schema)
        if len(decoded) == 4:
            raise ZeroDivisionError("a bug")
        return decode(schema, *rest)

    monkeypatch.setattr(messages, "decode", decode_or_fail)
    faults = Faults()
    replay = SampleReplay(path, ["imu"], faults=faults)
    assert len(replayed(replay)) == 9
    assert faults.counts() == {"imu": 1}
    assert replay.reports()["imu"].drops["fault"] == 1


def test_a_killed_recording_can_be_replayed(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    process = subprocess.Popen([sys.executable, recorded_run.__file__, str(path)])
    try:
        deadline = time.monotonic() + 60
        while not path.exists() or path.stat().st_size < 2_000_000:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    found = replayed(SampleReplay(path))
    handed = samples(len(found) // 5 + 1)
    assert [(n, s.t_ns) for n, s in found] == [(n, s.t_ns) for n, s in handed[: len(found)]]
    whole = tmp_path / "whole.mcap"
    record(whole, handed[: len(found)])
    largest_message = 64 * 1024
    assert path.stat().st_size - whole.stat().st_size < CHUNK_BYTES + largest_message, "all but the last chunk is read"


def write_mcap(path: Path, records: dict[str, dict[str, str]]) -> None:
    writer = Writer(str(path))
    writer.start()
    for name, record_ in records.items():
        writer.add_metadata(name, record_)
    writer.finish()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x89MC", "is empty, or cut off"),
        (b"sensors:\n  camera: {type: camera}\n" * 9, "not a log; give an MCAP file"),
        (b"\x89MCAP0\r\n", "has no record 'sensebind.run'"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "other.mcap"
    path.write_bytes(content)
    with pytest.raises(ReplayError, match=message) as raised:
        SampleReplay(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="cannot be read: No such file"):
        facts_of(tmp_path / "nothing.mcap")
    with pytest.raises(ReplayError, match="cannot be read: Is a directory"):
        facts_of(tmp_path)


@pytest.mark.parametrize(
    ("record_", "message"),
    [
        ({}, "'version' is missing"),
        ({"version": "99"}, "layout 99 is not known"),
        (facts().to_record() | {"sensors": "{"}, "cannot be used"),
        (facts().to_record() | {"sensors": '{"a": {"modality": "smell", "rate_hz": 1}}'}, "unknown modality 'smell'"),
        (facts().to_record() | {"sensors": '{"a": {"colour": 1}}'}, "cannot be used"),
    ],
)
def test_facts_that_cannot_be_used_are_refused(tmp_path: Path, record_: dict[str, str], message: str) -> None:
    path = tmp_path / "run.mcap"
    write_mcap(path, {FACTS_RECORD: record_})
    with pytest.raises(ReplayError, match=message):
        SampleReplay(path)


def test_a_log_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    write_mcap(path, {"calibration": {"focal_px": "300"}})
    with pytest.raises(
        ReplayError, match=r"has no record 'sensebind\.run' .*`sensebind log import` makes a log of its"
    ):
        SampleReplay(path)


def streams() -> Streams:
    window_s = {"vision": 0.25, "audio": 0.5, "imu": 1.0}
    return {
        name: Stream(name, s.modality, s.rate_hz, 10.0, 1 << 20, window_s.get(s.modality, 0.0), "all", 8, 0.2)
        for name, s in SENSORS.items()
    }


def ticks(source: list[tuple[str, Sample]], start_ns: int) -> list[Tick]:
    windower = Windower(streams(), 500_000_000, start_ns)
    newest_ns, found = start_ns, []
    for name, sample in source:
        newest_ns = max(newest_ns, sample.end_ns)
        windower.push(name, sample)
        found += windower.advance(newest_ns)
    return found + windower.finish()


def test_replay_gives_the_ticks_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    handed = [pair for step in range(40) if not 20 <= step < 24 for pair in one_of_each(step)]
    record(path, handed)
    replay = SampleReplay(path)
    was, now = ticks(handed, START_NS), ticks(replayed(replay), replay.clock.start_ns)
    assert [tick.t_ns for tick in now] == [tick.t_ns for tick in was]
    assert len(was) >= 7
    for before, after in zip(was, now, strict=True):
        for name, window in before.windows.items():
            again = after.windows[name]
            assert (again.missing, again.newest_ns, again.filled) == (window.missing, window.newest_ns, window.filled)
        if before.windows["imu"].data is not None:
            assert np.array_equal(after.windows["imu"].data, before.windows["imu"].data)
