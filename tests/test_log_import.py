"""Media from elsewhere, or from an export, as a log that can be replayed as it is."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
import yaml
from real_sources import missing
from recorded_run import CONFIG, START_NS, facts, record, replayed, samples, told_by

from agent.commands.exchange import import_log
from agent.config.faults import ConfigError
from agent.config.parse import parse
from agent.exchange.description import NAME, NO_START_NS
from agent.exchange.imu_table import ImuMedia
from agent.exchange.media import export_media, import_folder
from agent.log.format import LogError
from agent.log.reading import facts_of
from agent.log.replay.samples import SampleReplay
from agent.run import build
from drivers.driver import Sample

NO_FFMPEG = missing("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(NO_FFMPEG is not None, reason=str(NO_FFMPEG))


def found_in(log: Path, sensor: str) -> list[Sample]:
    return [sample for name, sample in replayed(SampleReplay(log)) if name == sensor]


def describe(folder: Path, **keys: object) -> None:
    (folder / NAME).write_text(yaml.safe_dump(keys))


def write_sound(path: Path, seconds: float = 2.0, rate: int = 16000) -> None:
    t_s = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, 0.4 * np.sin(2 * np.pi * 500 * t_s), rate)


def write_table(path: Path, header: str, rows: Sequence[Sequence[object]]) -> None:
    path.write_text("\n".join([*([header] if header else []), *(",".join(map(str, row)) for row in rows)]) + "\n")


def test_what_was_exported_comes_back_as_it_was(tmp_path: Path) -> None:
    handed = [(n, replace(s, lost=2) if (n, s.t_ns) == ("depth", START_NS + 10**9 + 2) else s) for n, s in samples(30)]
    record(tmp_path / "run.mcap", handed)
    export_media(tmp_path / "run.mcap", tmp_path / "media")
    report = import_folder(tmp_path / "media", tmp_path / "back.mcap")
    assert report.skipped == ["events.jsonl: events of the agent; a replay computes them again"]
    assert not any(sensor.faults for sensor in report.sensors.values())
    was = [(name, sample) for name, sample in replayed(SampleReplay(tmp_path / "run.mcap"))]
    for sensor, tolerance in (("camera", 6.0), ("microphone", 0.0), ("depth", 0.0), ("thermal", 1e-4)):
        before = [sample for name, sample in was if name == sensor]
        after = found_in(tmp_path / "back.mcap", sensor)
        assert [(s.t_ns, s.lost, s.rate_hz) for s in after] == [(s.t_ns, s.lost, s.rate_hz) for s in before]
        for a, b in zip(after, before, strict=True):
            assert np.abs(a.data.astype(np.float64) - b.data).mean() <= tolerance
    rows = found_in(tmp_path / "back.mcap", "imu")
    assert np.array_equal(
        np.concatenate([s.data for s in rows]), np.concatenate([s.data for n, s in was if n == "imu"])
    )
    assert rows[0].t_ns == START_NS + 4
    assert sum(s.lost for s in rows) == 0
    before, after = facts(), facts_of(tmp_path / "back.mcap")
    assert after.start_ns == before.start_ns
    assert after.sensors == before.sensors
    assert after.config["queries"] == CONFIG["queries"]
    assert after.config["sensors"]["camera"] == {"type": "synthetic_camera", "seed": 7}
    assert after.config["sensors"]["imu"] == {"type": "remote", "modality": "imu", "rate_hz": 400.0}
    assert set(parse(after.config).streams) == set(before.sensors)


@pytest.fixture(scope="module")
def made_by_ffmpeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of a test picture and a tone, and a table as a microcontroller prints it."""
    folder = tmp_path_factory.mktemp("media")
    for source, file in (
        ("testsrc=size=320x240:rate=15", "front view.mp4"),
        ("sine=frequency=440:sample_rate=44100", "microphone.wav"),
    ):
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-t", "6", str(folder / file)]
        subprocess.run(command, check=True)
    rows = [(f"{100 + i * 0.005:.3f}", 0, 0, 1, 0, round(math.sin(i / 50), 4), 90) for i in range(1200)]
    write_table(folder / "imu.csv", "t_s,ax_g,ay_g,az_g,gx_dps,gy_dps,gz_dps", rows)
    (folder / "notes.txt").write_text("a walk")
    return folder


@needs_ffmpeg
@pytest.mark.hardware
def test_a_folder_of_media_is_a_log_that_replays(
    made_by_ffmpeg: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "walk.mcap"
    import_log(made_by_ffmpeg, log)
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == ["front_view: 90 pictures", "imu: 1200 rows", "microphone: 264600 rows"]
    assert "skipped: notes.txt: no video, sound or table" in said

    pictures, rows, sound = (found_in(log, name) for name in ("front_view", "imu", "microphone"))
    assert [s.t_ns - NO_START_NS for s in pictures] == pytest.approx([i * 1e9 / 15 for i in range(90)], abs=1e6)
    # Colours are those of ffmpeg's own decoder.
    first = ["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    command = ["ffmpeg", "-v", "error", "-i", str(made_by_ffmpeg / "front view.mp4"), *first]
    decoded = subprocess.run(command, check=True, capture_output=True).stdout
    expected = np.frombuffer(decoded, np.uint8).reshape(240, 320, 3)
    assert np.abs(pictures[0].data.astype(int) - expected).mean() < 4
    assert rows[0].t_ns == NO_START_NS
    np.testing.assert_allclose(rows[0].data[0], [0, 0, 9.80665, 0, 0, math.pi / 2], rtol=1e-6)
    assert np.concatenate([s.data for s in sound]).shape == (264_600, 1)

    found, status = told_by(build.replay(log))
    assert status.ticks_produced == status.ticks_delivered == 12
    last = [event.embedding for event in found if event.HasField("embedding")][-1]
    assert {window.sensor for window in last.windows if window.present} == {"front_view", "imu", "microphone"}


def test_a_description_says_when_each_file_begins_and_what_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    (folder / "warmth").mkdir(parents=True)
    write_sound(folder / "a.wav")
    for i in (10, 9, 11):
        cv2.imwrite(str(folder / "warmth" / f"frame_{i}.png"), np.full((6, 8), 29_315 + i, np.uint16))
    write_table(folder / "body.txt", "", [(i, 0.5, 9.8, 0, 0.1, 0, 0.2) for i in range(200)])
    described = {
        "ears": {"file": "a.wav", "offset_s": -0.5},
        "heat": {"file": "warmth", "modality": "thermal", "rate_hz": 8, "offset_s": 0.25},
        "body": {
            "file": "body.txt",
            "modality": "imu",
            "columns": ["count", "ay", "az", "ax", "gx", "gy", "gz"],
            "rate_hz": 100,
        },
    }
    describe(
        folder,
        start=datetime(2026, 5, 4, 10, 0, 0, 500_000, timezone(timedelta(hours=2))),
        sensors=described,
        config={"queries": [{"text": "a dog"}]},
    )
    report = import_folder(folder, tmp_path / "out.mcap")
    start_ns = 1_777_881_600_500_000_000
    log = tmp_path / "out.mcap"
    assert facts_of(log).start_ns == start_ns - 500_000_000
    assert found_in(log, "ears")[0].t_ns == start_ns - 500_000_000
    heat = found_in(log, "heat")
    assert [s.t_ns for s in heat] == [start_ns + 250_000_000 + i * 125_000_000 for i in range(3)]
    assert [s.data[0, 0] for s in heat] == pytest.approx([20.09, 20.10, 20.11], abs=1e-3)
    body = found_in(log, "body")
    assert body[0].rate_hz == 100.0
    np.testing.assert_allclose(body[-1].data[-1], [0, 0.5, 9.8, 0.1, 0, 0.2], rtol=1e-6)
    assert report.sensors["body"].rows == 200
    assert [query.text for query in parse(facts_of(log).config).queries] == ["a dog"]


def test_what_is_missing_in_a_table_is_missing_in_the_log(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [(i * 5_000, 0, 0, 9.81, 0, 0, i / 1000) for i in range(400) if not 100 <= i < 140]
    rows[200] = ("torn", 1, 2)
    write_table(tmp_path / "imu.csv", "t_us,ax,ay,az,gx,gy,gz", rows)
    report = import_folder(tmp_path, tmp_path / "out.mcap")
    imu = report.sensors["imu"]
    assert (imu.rows, imu.missing, imu.faults) == (359, 41, {"lines that are not measurements": 1})
    found = found_in(tmp_path / "out.mcap", "imu")
    assert [(s.t_ns - NO_START_NS, s.lost) for s in found if s.lost] == [(700_000_000, 40), (1_205_000_000, 1)]
    assert facts_of(tmp_path / "out.mcap").sensors["imu"].rate_hz == pytest.approx(200.0)


def test_a_damaged_picture_is_missing_in_the_log(tmp_path: Path) -> None:
    folder = tmp_path / "depth"
    folder.mkdir()
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((6, 8), 1000 + i, np.uint16))
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:40])
    describe(tmp_path, sensors={"depth": {"file": "depth", "modality": "depth", "rate_hz": 10}})
    report = import_folder(tmp_path, tmp_path / "out.mcap")
    assert report.sensors["depth"].faults == {"pictures that cannot be read": 1}
    found = found_in(tmp_path / "out.mcap", "depth")
    assert [(s.lost, round(float(s.data[0, 0]), 4)) for s in found] == [(0, 1.0), (0, 1.001), (1, 1.003)]


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    write_sound(tmp_path / "run.wav")
    write_sound(tmp_path / "run.flac")
    write_sound(tmp_path / "other.ogg")
    report = import_folder(tmp_path, tmp_path / "out.mcap")
    assert sorted(report.sensors) == ["other", "run_flac", "run_wav"]


IMU = b"t_s,ax,ay,az,gx,gy,gz\n" + b"".join(b"%f,0,0,9.81,0,0,%d\n" % (n / 100, n % 9) for n in range(200))
EARLY = "1970-01-01T00:00:05Z"
OUT_OF_TIME = "start_ns .* is not a whole number from 0 up to and without"


@pytest.mark.parametrize(
    ("files", "described", "message"),
    [
        ({}, None, "holds no video, sound or table"),
        ({"a.mp4": b"\0\1no video"}, None, r"cannot be imported: .*a\.mp4: not a video that FFmpeg"),
        (
            {"a.mp4": b"ffconcat version 1.0\nfile b.mp4"},
            None,
            r"a\.mp4: not a video but text, perhaps a list of other files",
        ),
        ({"a.wav": b"nothing"}, None, r"a\.wav: cannot be read as audio \(Format not recogni"),
        ({"a.csv": b"\n"}, None, r"a\.csv: is empty"),
        (
            {"a.csv": b"0,0,9.81,0,0,0\n"},
            None,
            r"a\.csv: has no column t_ns, t_us, t_ms, t_s or time, and no `rate_hz`",
        ),
        ({"a.csv": b"t_s,ax,ay,az,gx,gy\n1,2,3,4,5,6\n"}, None, r"a\.csv: columns .*'gz' must stand there once"),
        ({"a.csv": b"\x01z," * 999 + b"\n1,2\n"}, None, r"a\.csv: columns .{80,400}\.\.\.: 'ax' must stand there once"),
        ({"a.csv": b"t_s,ax,ay,az,gx,gy,gz\nno,row,at,all,of,it,1\n"}, None, "hold no row of t_s, ax"),
        ({"a.csv": b"t_s,ax,ay,az,gx,gy,gz\n1,0,0,9,0,0,0\n1,0,0,9,0,0,0\n"}, None, "its times do not rise"),
        ({}, {"sensors": {"a": {"file": "b.wav"}}}, r"b\.wav: there is no such file; recording\.yaml names it for a"),
        ({"b.bin": b"1"}, {"sensors": {"a": {"file": "b.bin"}}}, "give its `modality`"),
        ({"b.png": b"1"}, {"sensors": {"a": {"file": ".", "modality": "depth"}}}, "rate_hz is missing; give"),
        ({}, {"sensors": {"a": {"file": "b", "speed": 1}}}, r"sensors\.a\.speed: unknown key; known: "),
        (
            {},
            {"sensors": {"a": {"file": "b", "ofset_s": 1, "rate_hz": "fast"}}},
            r"sensors\.a\.ofset_s: unknown key; did you mean 'offset_s'\?; .*sensors\.a\.rate_hz: must be a number",
        ),
        ({}, {"sensors": {}}, "sensors: none is given"),
        ({"a.csv": IMU}, {"start": EARLY, "sensors": {"a": {"file": "a.csv", "offset_s": -9.0}}}, OUT_OF_TIME),
        ({"a.csv": IMU}, {"start": EARLY, "sensors": {"a": {"file": "a.csv", "offset_s": 1e10}}}, OUT_OF_TIME),
        ({"a.csv": IMU}, {"sensors": {"a": {"file": "a.csv", "rate_hz": 1e-300}}}, "than or equal to 0.001"),
        ({}, {"start": "2026-05-04T10:00:00", "sensors": {}}, "start: must have timezone"),
        ({}, {"start": "2026-05-04T10:00:00Z", "start_ns": 5, "sensors": {"a": {"file": "b"}}}, "both given"),
        ({}, {"start": "1969-12-31T23:59:59Z", "sensors": {"a": {"file": "b"}}}, "start: 1969.* not between 1970 and"),
        ({}, {"start": "2270-05-04T10:00:00Z", "sensors": {"a": {"file": "b"}}}, "start: 2270.* not between 1970 and"),
    ],
)
def test_what_cannot_be_imported_is_refused(
    tmp_path: Path, files: dict[str, bytes], described: dict[str, object] | None, message: str
) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    if described is not None:
        describe(folder, **described)
    with pytest.raises(LogError, match=message) as raised:
        import_log(folder, tmp_path / "out.mcap")
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["media"]


def test_a_config_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav")
    for config, error, message in (
        ({"sensors": {"a": {"type": "synthetic_camera"}}}, LogError, "sensors.a is a sensor of vision, but .* audio"),
        ({"sensor": {}}, ConfigError, r"recording\.yaml: config: sensor: unknown key; did you mean 'sensors'"),
        ({"sensors": ["a"]}, LogError, r"config: sensors: holds \['a'\]; wanted the names of sensors"),
    ):
        describe(tmp_path, sensors={"a": {"file": "a.wav"}}, config=config)
        with pytest.raises(error, match=message):
            import_folder(tmp_path, tmp_path / "out.mcap")
    describe(tmp_path, sensors={"a": {"file": "a.wav"}}, config={"sensors": {"a": {"max_lateness_s": 0.4}}})
    import_folder(tmp_path, tmp_path / "out.mcap")
    assert parse(facts_of(tmp_path / "out.mcap").config).streams["a"].max_lateness_s == 0.4


def test_tables_of_times_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    record(tmp_path / "run.mcap", samples(4))
    export_media(tmp_path / "run.mcap", tmp_path / "media")

    def altered(name: str, old: str, new: str, message: str) -> None:
        path = tmp_path / "media" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(LogError, match=message):
            import_folder(tmp_path / "media", tmp_path / "out.mcap")
        path.write_text(text)
        assert not (tmp_path / "out.mcap").exists()

    altered("camera.times.csv", "number,", "count,", "has the columns count,t_ns,lost_before; wanted number")
    altered("camera.times.csv", "\n3,", "\n3,1,", r"camera\.times\.csv:5: holds '3,1,.*'; wanted 3 whole numbers")
    altered("camera.times.csv", "\n0,", "\n0,1,0\n0,", r"has a line 3, but camera\.mp4 has no such picture")
    altered("depth.times.csv", "\n0,", "\n0,1,0\n0,", r"has 5 lines for the 4 pictures in depth")
    altered("microphone.times.csv", "\n4803,", "\n4804,", r"rows 4804 to 6404 are not in microphone\.wav")
    import_folder(tmp_path / "media", tmp_path / "out.mcap")


def test_a_log_is_never_overwritten_and_other_things_are_refused(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav")
    (tmp_path / "out.mcap").write_text("precious")
    with pytest.raises(LogError, match=r"out\.mcap: exists already"):
        import_log(tmp_path, tmp_path / "out.mcap")
    assert (tmp_path / "out.mcap").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(LogError, match="there is no such file or folder"):
        import_log(tmp_path / "away", tmp_path / "new.mcap")
    with pytest.raises(LogError, match="there is no such file or folder"):
        import_log(tmp_path / (300 * "x"), tmp_path / "new.mcap")
    with pytest.raises(LogError, match=r"a\.wav: neither a folder of media nor a bag"):
        import_log(tmp_path / "a.wav", tmp_path / "new.mcap")
    with pytest.raises(LogError, match="--topic and --audio are for ROS 2 bags"):
        import_log(tmp_path, tmp_path / "new.mcap", ["/camera=front"])


@pytest.mark.parametrize(
    ("row", "looks_like"),
    [("5,-3,981,0,0,1", "acceleration is 981 m/s2 .* milli-g"), ("0,0,9.8,0,0,90", "degrees per")],
)
def test_a_table_of_another_unit_is_refused_and_one_with_a_shock_is_not(
    tmp_path: Path, row: str, looks_like: str
) -> None:
    path = tmp_path / "body.csv"
    heading = "t_ns,ax,ay,az,gx,gy,gz\n"
    path.write_text(heading + "".join(f"{n * 10_000_000},{row}\n" for n in range(100)))
    with pytest.raises(LogError, match=rf"body\.csv: .*{looks_like}"):
        ImuMedia(path)
    steady = "0,0,9.8,0,0,0.1"
    path.write_text(heading + "".join(f"{n * 10_000_000},{row if n == 50 else steady}\n" for n in range(100)))
    assert ImuMedia(path).sensor.rate_hz == 100.0
