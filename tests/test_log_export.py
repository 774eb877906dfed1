"""A log as files that other programs open: what they read is what was recorded, and what is missing can be seen."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
from google.protobuf.json_format import Parse
from numpy.typing import NDArray
from real_sources import missing
from recorded_run import SENSORS, START_NS, Handed, event, facts, one_of_each, record, recorded, samples

from agent.commands.exchange import export_log
from agent.config.recording import RecordSettings
from agent.exchange.media import MediaReport, export_media
from agent.log.format import LogError, LoggedSensor, ReplayError
from drivers.driver import Sample
from protos import perception_pb2 as pb

NO_FFMPEG = missing("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(NO_FFMPEG is not None, reason=str(NO_FFMPEG))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    video = cv2.VideoCapture(str(path))
    while (read_ := video.read())[0]:
        yield read_[1][..., ::-1]
    video.release()


def of(report: MediaReport, name: str) -> tuple[int, int, dict[str, int]]:
    file = next(file for file in report.files if file.name == name)
    return file.count, file.missing, file.faults


@pytest.fixture(scope="module")
def handed() -> Handed:
    """Three seconds; two pictures are missing in the middle."""
    return [(n, s) for n, s in samples(30) if not (n == "camera" and s.t_ns - START_NS in (10**9, 11 * 10**8))]


@pytest.fixture(scope="module")
def exported(handed: Handed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    log = folder / "run.mcap"
    handed = [(n, replace(s, lost=2) if n == "camera" and s.t_ns - START_NS == 12 * 10**8 else s) for n, s in handed]
    record(log, handed, events=4)
    report = export_media(log, folder / "out")
    assert not report.unfinished
    assert of(report, "camera") == (28, 2, {})
    assert of(report, "microphone") == (48_000, 3, {})
    assert of(report, "events") == (4, 0, {})
    return folder / "out"


def test_a_camera_is_a_video_of_every_picture_and_a_table_of_when(exported: Path, handed: Handed) -> None:
    pictures = [sample for name, sample in handed if name == "camera"]
    found = list(frames(exported / "camera.mp4"))
    assert len(found) == len(pictures) == 28
    for was, now in zip(pictures, found, strict=True):
        assert np.abs(was.data.astype(int) - now).mean() < 6  # JPEG, then H.264 or MPEG-4
    times = table(exported / "camera.times.csv")
    assert [int(row["t_ns"]) for row in times] == [sample.t_ns for sample in pictures]
    assert [int(row["number"]) for row in times] == list(range(28))
    assert [int(row["lost_before"]) for row in times] == [2 if number == 10 else 0 for number in range(28)]


@needs_ffmpeg
@pytest.mark.hardware
def test_ffmpeg_finds_h264_at_the_nominal_rate(exported: Path) -> None:
    fields = "stream=codec_name,r_frame_rate,nb_frames,pix_fmt"
    command = ["ffprobe", "-v", "error", "-show_entries", fields, "-of", "json", str(exported / "camera.mp4")]
    (stream,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["streams"]
    assert stream == {"codec_name": "h264", "pix_fmt": "yuv420p", "r_frame_rate": "10/1", "nb_frames": "28"}


def test_without_ffmpeg_the_video_is_written_by_opencv(
    handed: Handed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path / "run.mcap", handed[:50])
    monkeypatch.setenv("PATH", str(tmp_path))
    export_media(tmp_path / "run.mcap", tmp_path / "out", ["camera"])
    found = list(frames(tmp_path / "out" / "camera.mp4"))
    pictures = [sample for name, sample in handed[:50] if name == "camera"]
    assert len(found) == len(pictures)
    assert np.abs(pictures[3].data.astype(int) - found[3]).mean() < 8
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        "camera.mp4",
        "camera.times.csv",
        "events.jsonl",
        "recording.yaml",
    ]


def test_opencv_is_given_no_name_that_it_dies_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "run.mcap", samples(3))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LogError, match=r"a name that is not UTF-8, which OpenCV cannot write to; install ffmpeg"):
        export_media(tmp_path / "run.mcap", tmp_path / "\udcff", ["camera"])


def test_a_microphone_is_a_wav_in_which_time_holds(exported: Path, handed: Handed) -> None:
    sound, rate = soundfile.read(exported / "microphone.wav", dtype="int16")
    blocks = [sample for name, sample in handed if name == "microphone"]
    assert rate == 16000
    assert sound.shape == (48_003, 2)
    assert not sound[3200:3203].any()
    whole = np.delete(sound, slice(3200, 3203), axis=0)
    assert np.array_equal(whole, np.rint(np.concatenate([b.data for b in blocks]) * 32768).astype(np.int16))
    times = table(exported / "microphone.times.csv")
    assert [int(row["t_ns"]) for row in times] == [sample.t_ns for sample in blocks]
    assert [row["zeros_before"] for row in times] == ["3" if number == 2 else "0" for number in range(30)]
    assert times[2]["first_row"] == "3203"


def test_an_imu_is_a_table_with_units_that_loses_nothing(exported: Path, handed: Handed) -> None:
    rows = table(exported / "imu.csv")
    assert list(rows[0]) == ["t_ns", "ax_mps2", "ay_mps2", "az_mps2", "gx_rps", "gy_rps", "gz_rps"]
    values = np.array([[np.float32(value) for value in list(row.values())[1:]] for row in rows])
    blocks = [sample for name, sample in handed if name == "imu"]
    assert np.array_equal(values, np.concatenate([sample.data for sample in blocks]))
    assert int(rows[40]["t_ns"]) == blocks[1].t_ns
    assert int(rows[41]["t_ns"]) - int(rows[40]["t_ns"]) == round(1e9 / 400.5)


def test_depth_and_thermal_are_16_bit_png_files_named_by_time(exported: Path, handed: Handed) -> None:
    for name, scale, offset in (("depth", 0.001, 0.0), ("thermal", 0.01, -273.15)):
        pictures = [sample for sensor, sample in handed if sensor == name]
        files = sorted((exported / name).iterdir())
        assert [file.name for file in files] == [f"{i:06d}_{s.t_ns}.png" for i, s in enumerate(pictures)]
        counts = cv2.imread(str(files[7]), cv2.IMREAD_UNCHANGED)
        assert counts.dtype == np.uint16
        np.testing.assert_allclose(counts * scale + offset, pictures[7].data, atol=scale / 2 + 1e-4)


def test_events_are_lines_of_protobuf_json(exported: Path) -> None:
    lines = (exported / "events.jsonl").read_text().splitlines()
    assert [Parse(line, pb.Event()) for line in lines] == [event(seq) for seq in range(1, 5)]


def test_a_recording_of_several_files_is_one_timeline(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "split"
    folder.mkdir()
    recorded(folder / "run.mcap", samples(30), facts(), RecordSettings(split_s=1.0))
    assert len(list(folder.iterdir())) >= 3
    report = export_media(folder, tmp_path / "out", ["microphone", "imu"])
    assert of(report, "microphone") == (48_000, 3, {})
    assert of(report, "imu") == (1200, 0, {})
    for name in ("microphone.wav", "microphone.times.csv", "imu.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (exported / name).read_bytes()


def test_a_damaged_log_gives_what_can_be_read_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "run.mcap"
    record(log, samples(30))
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    export_log(log, tmp_path / "out", sensors=["imu", "depth"])
    rows = len(table(tmp_path / "out" / "imu.csv"))
    assert 200 < rows < 1000
    said = capsys.readouterr().out.splitlines()
    assert f"imu: {rows} rows in imu.csv" in said
    assert any(line.startswith("warning: ") and "cut off or damaged" in line for line in said)


def test_pictures_of_another_size_are_left_out_and_counted(tmp_path: Path) -> None:
    handed = [("camera", one_of_each(step)[0][1]) for step in range(6)]
    small = replace(handed[3][1], data=np.ascontiguousarray(handed[3][1].data[::2, ::2]))
    handed[3] = ("camera", small)
    record(tmp_path / "run.mcap", handed)
    report = export_media(tmp_path / "run.mcap", tmp_path / "out")
    assert of(report, "camera") == (5, 0, {"not of 160x120 pixels as the first": 1})
    assert [row["lost_before"] for row in table(tmp_path / "out" / "camera.times.csv")] == ["0", "0", "0", "1", "0"]


def test_an_odd_size_keeps_every_pixel(tmp_path: Path) -> None:
    picture = one_of_each(0)[0][1]
    odd = replace(picture, data=np.ascontiguousarray(picture.data[:119, :159]))
    record(tmp_path / "run.mcap", [("camera", odd)])
    export_media(tmp_path / "run.mcap", tmp_path / "out")
    (found,) = frames(tmp_path / "out" / "camera.mp4")
    assert found.shape == (120, 160, 3)
    assert np.abs(odd.data.astype(int) - found[:119, :159]).mean() < 8


def test_values_that_16_bits_cannot_hold_are_kept_or_counted(tmp_path: Path) -> None:
    t_ns = START_NS
    fire = np.full((4, 5), 900.0, np.float32)  # beyond 382 degrees at hundredths of a kelvin
    loud = np.array([[0.5], [1.5], [np.nan]], np.float32)
    record(tmp_path / "run.mcap", [("thermal", Sample(t_ns, fire)), ("microphone", Sample(t_ns, loud, 16000.0))])
    report = export_media(tmp_path / "run.mcap", tmp_path / "out")
    assert np.array_equal(np.load(tmp_path / "out" / "thermal" / f"000000_{t_ns}.npy"), fire)
    assert of(report, "microphone") == (3, 0, {"values beyond full scale, clipped": 2})
    sound, _ = soundfile.read(tmp_path / "out" / "microphone.wav", dtype="int16")
    assert list(sound) == [16384, 32767, 0]


def test_a_gap_that_no_driver_told_of_is_filled_and_late_blocks_are_counted(tmp_path: Path) -> None:
    block = np.full((1600, 1), 0.25, np.float32)
    starts_s = [0.0, 0.1, 0.7, 0.8, 0.3, 0.9 + 7200, 0.9]
    handed = [("microphone", Sample(START_NS + round(s * 1e9), block, 16000.0)) for s in starts_s]
    record(tmp_path / "run.mcap", handed)
    report = export_media(tmp_path / "run.mcap", tmp_path / "out")
    faults = {
        "blocks that begin before the end of the one before": 1,
        "blocks more than 3600 s after the one before": 1,
    }
    assert of(report, "microphone") == (8000, 0, faults)
    sound, _ = soundfile.read(tmp_path / "out" / "microphone.wav")
    assert len(sound) == 16000
    assert not sound[3200:11200].any()
    assert (sound[11200:] == 0.25).all()


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    record(tmp_path / "run.mcap", samples(2))
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("kept")
    with pytest.raises(LogError, match="out: exists already"):
        export_media(tmp_path / "run.mcap", out)
    assert [path.name for path in out.iterdir()] == ["precious"]
    export_media(tmp_path / "run.mcap", tmp_path / "new" / "folder")
    with pytest.raises(LogError, match=r"run.mcap/out: cannot be written: (Not a directory|File exists)"):
        export_media(tmp_path / "run.mcap", tmp_path / "run.mcap" / "out")
    with pytest.raises(LogError, match="cannot be written: File name too long"):
        export_media(tmp_path / "run.mcap", tmp_path / (300 * "x"))


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    sensors = {"array": LoggedSensor("audio", 192_000.0), "camera": SENSORS["camera"]}
    block = np.zeros((100, 8), np.float32)
    handed = [("array", Sample(START_NS + s * 10**9, block, 192_000.0)) for s in (0, 3500)]  # 10 GB of zeros between
    recorded(tmp_path / "run.mcap", [*samples(1)[:1], *handed], facts(sensors))
    with pytest.raises(LogError, match=r"array\.wav: more sound than the 4 GiB of a WAV file"):
        export_media(tmp_path / "run.mcap", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run.mcap"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from agent.exchange.media import export_media
from agent.log.format import LogError
import soundfile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for sensor in ("camera", "microphone", "imu", "depth"):
    try:
        export_media(folder / "run.mcap", folder / "out", [sensor])
    except LogError as error:
        print(error)
"""


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    record(tmp_path / "run.mcap", samples(30))
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 4, done.stdout
    assert all("annot " in line or "holds" in line for line in done.stdout.splitlines()), done.stdout
    assert done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["run.mcap"]


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    record(tmp_path / "run.mcap", samples(1))
    with pytest.raises(ReplayError, match="holds no sensor 'lidar'; its sensors are: camera, depth"):
        export_media(tmp_path / "run.mcap", tmp_path / "out", ["lidar"])
    with pytest.raises(LogError, match="--to video: is not known; give media, shards or foxglove"):
        export_log(tmp_path / "run.mcap", tmp_path / "out", "video")
    for name, rate_hz, wrong in (
        ("../escaped", 10.0, "the name '../escaped' is not 1 to 64 letters"),
        ("..", 10.0, "and not only dots"),
        ("camera", float("nan"), "'camera' has the rate_hz nan; 0.001 to 1e\\+06 are possible"),
        (
            ".hidden",
            10.0,
            "sensor '.hidden': its files would be hidden by the leading dot; leave it out with --sensors",
        ),
    ):
        log = tmp_path / "other.mcap"
        log.unlink(missing_ok=True)
        recorded(log, [], facts({name: LoggedSensor("imu", rate_hz)}))
        with pytest.raises(LogError, match=wrong):
            export_media(log, tmp_path / "out")
    assert not (tmp_path / "escaped.csv").exists()
