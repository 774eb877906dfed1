"""Bags as robots really leave them: split units, bad first messages, other clocks, ends that were cut off."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bags import START_NS, TYPES, audio, bag, compressed, image, imu
from mcap.reader import make_reader
from mcap.writer import IndexType, Writer
from numpy.typing import NDArray
from recorded_run import replayed
from rosbags.rosbag2 import StoragePlugin

from agent.commands.exchange import import_log
from agent.exchange.bag_topics import AudioFormat
from agent.exchange.ros_messages import compressed_picture, picture
from agent.exchange.rosbag import import_bag
from agent.exchange.stamp_clock import Stamp, StampClock, clocks_of
from agent.log.format import LogError
from agent.log.reading import facts_of
from agent.log.replay.samples import SampleReplay
from drivers.driver import BadData, Sample

MS = 1_000_000
S = 1_000_000_000
GREY = np.full((48, 64, 3), 90, np.uint8)


def found_in(log: Path) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for name, sample in replayed(SampleReplay(log)):
        found.setdefault(name, []).append(sample)
    return found


def rows_in(log: Path, sensor: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Times in ns and rows of an inertial unit."""
    blocks = found_in(log)[sensor]
    times = [b.t_ns + round(i * 1e9 / b.rate_hz) for b in blocks for i in range(len(b.data))]
    return np.array(times), np.concatenate([b.data for b in blocks])


@pytest.mark.parametrize("says_so", [True, False])
def test_acceleration_and_rotation_of_two_topics_are_one_unit(tmp_path: Path, says_so: bool) -> None:
    """Acceleration at half the rate, on a slope, so that what is interpolated shows."""
    with bag(tmp_path / "drive") as write:
        for k in range(1400):
            t_ns = START_NS + k * 5 * MS
            write("/camera/gyro/sample", t_ns, imu(t_ns, (0, 0, 0, 0.1, 0.2, k / 1000), accel_known=not says_so))
            if k % 2 == 0:
                write("/camera/accel/sample", t_ns, imu(t_ns, (k / 500, -9.8, 0, 0, 0, 0)))
    report = import_bag(tmp_path / "drive", tmp_path / "out.mcap")
    assert list(report.sensors) == ["camera_imu"]
    assert report.notes == [
        "camera_imu: its acceleration is that of /camera/accel/sample, interpolated at the times of /camera/gyro/sample"
    ]
    times, rows = rows_in(tmp_path / "out.mcap", "camera_imu")
    assert len(rows) == 1400
    assert facts_of(tmp_path / "out.mcap").sensors["camera_imu"].rate_hz == 200.0
    k = np.round((times - START_NS) / (5 * MS))
    np.testing.assert_allclose(rows[:, 5], k / 1000, atol=1e-6)
    np.testing.assert_allclose(rows[:1398, 0], k[:1398] / 500, atol=1e-5)
    assert (rows[:, 1] == np.float32(-9.8)).all()


def test_half_a_unit_that_stands_alone_is_left_out(tmp_path: Path) -> None:
    with bag(tmp_path / "drive") as write:
        for k in range(50):
            t_ns = START_NS + k * 10 * MS
            write("/camera/gyro/sample", t_ns, imu(t_ns, (0, 0, 0, 0.1, 0.2, 0.3)))
            write("/base/imu", t_ns, imu(t_ns, (0, 0, 9.8, 0, 0, 0)))
    report = import_bag(tmp_path / "drive", tmp_path / "out.mcap")
    assert list(report.sensors) == ["base_imu"]
    assert report.notes == ["base_imu: its rotation is exactly 0 in the first messages; does it measure it?"]
    assert report.skipped == [
        "/camera/gyro/sample (sensor_msgs/msg/Imu, 50 messages): its linear acceleration is exactly 0: it does not "
        "measure it, and no topic beside it does"
    ]


@pytest.mark.parametrize(
    ("row", "unit"),
    [
        ((0.0, 0.02, 1.0, 0.1, 0.0, 0.0), "units of gravity"),
        ((0.0, 20.0, 1000.0, 0.1, 0.0, 0.0), "milli-g"),
        ((0.0, 0.1, 9.8, 60.0, 0.0, 0.0), "degrees per second"),
    ],
)
def test_a_unit_in_other_units_is_refused(tmp_path: Path, row: tuple[float, ...], unit: str) -> None:
    with bag(tmp_path / "drive") as write:
        for k in range(50):
            write("/imu", START_NS + k * 10 * MS, imu(START_NS + k * 10 * MS, row))
    with pytest.raises(LogError, match=f"most of the time; the values look like {unit}"):
        import_bag(tmp_path / "drive", tmp_path / "out.mcap")


def test_pictures_in_other_units_are_refused(tmp_path: Path) -> None:
    with bag(tmp_path / "drive") as write:
        for k in range(5):
            t_ns = START_NS + k * 100 * MS
            write("/far", t_ns, image(t_ns, "32FC1", np.full((48, 64), 1500.0, np.float32)))
            write("/near", t_ns, image(t_ns, "32FC1", np.full((48, 64), 0.0015, np.float32)))
            write("/right", t_ns, image(t_ns, "32FC1", np.full((48, 64), 1.5, np.float32)))
    report = import_bag(tmp_path / "drive", tmp_path / "out.mcap")
    assert list(report.sensors) == ["right"]
    assert [line.rpartition("look like ")[2] for line in report.skipped] == [
        "millimetres",
        "kilometres, or were scaled twice",
    ]


def test_first_messages_that_cannot_be_used_cost_no_topic(tmp_path: Path) -> None:
    jpeg = cv2.imencode(".jpg", GREY)[1].tobytes()
    with bag(tmp_path / "drive") as write:
        for k in range(30):
            t_ns = START_NS + k * 100 * MS
            bad = k < 2
            write("/raw", t_ns, image(t_ns, "rgb8", GREY[:0, :0] if bad else GREY))
            write("/jpeg", t_ns, compressed(t_ns, "jpeg", jpeg[: len(jpeg) // 2] if bad else jpeg))
            write("/imu", t_ns, imu(t_ns, (0, 0, float("inf") if bad else 9.8, 0, 0, 0.1)))
            write("/mic", t_ns, audio(t_ns, np.zeros(0 if bad else 1600, np.int16)))
    report = import_bag(tmp_path / "drive", tmp_path / "out.mcap", audio=AudioFormat(16000))
    assert {name: (s.samples, s.faults.total()) for name, s in report.sensors.items() if name != "imu"} == {
        "raw": (28, 2),
        "jpeg": (28, 2),
        "mic": (28, 2),
    }
    assert (report.sensors["imu"].rows, report.sensors["imu"].faults.total()) == (28, 2)
    assert report.sensors["raw"].faults == {"messages with picture of 0x0 pixels has none": 2}


def two_topics(path: Path, stamp_of_picture: Callable[[int, int], int]) -> dict[str, list[Sample]]:
    """Pictures and inertial rows of 3 s, as they are imported."""
    with bag(path) as write:
        for k in range(300):
            t_ns = START_NS + k * 10 * MS
            write("/imu", t_ns + 3 * MS, imu(t_ns, (0, 0, 9.8, 0, 0, 0.1)))
            if k % 10 == 0:
                write("/cam", t_ns + 5 * MS, image(stamp_of_picture(k, t_ns), "rgb8", GREY))
    return found_in(path.with_suffix(".mcap")) if import_bag(path, path.with_suffix(".mcap")) else {}


def test_stamps_since_boot_are_shifted_to_the_clock_of_the_others(tmp_path: Path) -> None:
    found = two_topics(tmp_path / "drive", lambda k, _: 120 * S + k * 10 * MS)
    starts = np.array([sample.t_ns for sample in found["cam"]]) - START_NS
    assert np.abs(starts - np.arange(30) * 100 * MS).max() <= 3 * MS
    assert set(np.diff(starts)) == {100 * MS}, "their own spacing is kept"


def test_single_stamps_of_another_time_are_placed_by_their_recording(tmp_path: Path) -> None:
    for name, wrong in (("first", (0, 10)), ("middle", (140,)), ("last", (280, 290))):
        for stamp in (1, 2_000_000_000 * S):
            path = tmp_path / f"{name}{stamp}"
            found = two_topics(path, lambda k, t_ns, wrong=wrong, stamp=stamp: stamp if k in wrong else t_ns)  # type: ignore[misc]
            starts = np.array([sample.t_ns for sample in found["cam"]]) - START_NS
            np.testing.assert_allclose(starts, np.arange(30) * 100 * MS, atol=6 * MS)
            assert facts_of(path.with_suffix(".mcap")).start_ns - START_NS <= 0


def test_a_message_that_is_recorded_twice_is_one_row(tmp_path: Path) -> None:
    with bag(tmp_path / "drive") as write:
        for k in range(300):
            t_ns = START_NS + k * 10 * MS
            for again in range(2 if k % 50 == 20 else 1):
                write("/imu", t_ns + again * MS, imu(t_ns, (0, 0, 9.8, 0, 0, k // 7 / 1000)))
    report = import_bag(tmp_path / "drive", tmp_path / "out.mcap")
    assert report.sensors["imu"].faults["messages with the stamp and the values of the one before"] == 6
    times, rows = rows_in(tmp_path / "out.mcap", "imu")
    np.testing.assert_allclose(times - START_NS, np.arange(300) * 10 * MS, atol=MS)
    np.testing.assert_allclose(rows[:, 5], np.arange(300) // 7 / 1000, atol=1e-6)


@pytest.mark.parametrize("step_s", [-3600.0, -5.0, 5.0, 86400.0])
def test_a_step_of_the_clock_is_taken_out(tmp_path: Path, step_s: float) -> None:
    with bag(tmp_path / "drive") as write:
        for k in range(600):
            t_ns = START_NS + k * 10 * MS
            stepped_ns = t_ns + (round(step_s * S) if k >= 300 else 0)
            write("/imu", t_ns + 2 * MS, imu(stepped_ns, (0, 0, 9.8, 0, 0, k / 1000)))
    report = import_bag(tmp_path / "drive", tmp_path / "out.mcap")
    assert report.sensors["imu"].faults[f"step of the clock of its stamps by {step_s:.1f} s, taken out"] == 1
    times, rows = rows_in(tmp_path / "out.mcap", "imu")
    assert len(rows) == 600
    assert report.sensors["imu"].missing == 0
    np.testing.assert_allclose(times - START_NS, np.arange(600) * 10 * MS, atol=11 * MS)
    np.testing.assert_allclose(rows[:, 5], np.arange(600) / 1000, atol=1e-6)


def test_messages_that_are_recorded_late_keep_their_stamps() -> None:
    """A recorder that stalls for 4 s, and then writes what has waited."""
    clock = StampClock(delay_ns=2 * MS)
    times = []
    for k in range(1000):
        t_ns = START_NS + k * 10 * MS
        received_ns = t_ns + 2 * MS if not 300 <= k < 700 else START_NS + 7 * S + k
        times.append(clock.capture_ns(Stamp(t_ns, received_ns)))
    assert times == [(START_NS + k * 10 * MS, "") for k in range(1000)]


def test_a_gap_in_the_recording_is_no_step() -> None:
    clock = StampClock(delay_ns=2 * MS)
    for k in (*range(100), *range(5000, 5100)):
        t_ns = START_NS + k * 10 * MS
        assert clock.capture_ns(Stamp(t_ns, t_ns + 2 * MS)) == (t_ns, "")


def test_recording_times_of_a_converted_bag_are_not_believed() -> None:
    """All messages were written within a moment."""
    stamps = {
        topic: [Stamp(START_NS + k * step * MS, START_NS + 9000 * S + k) for k in range(200)]
        for topic, step in (("/imu", 10), ("/gps", 1000))
    }
    clocks = clocks_of(stamps)
    for topic, found in stamps.items():
        assert [clocks[topic].capture_ns(stamp) for stamp in found] == [(stamp.stamp_ns, "") for stamp in found]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "drive"
    with bag(path) as write:
        for k in range(2000):
            t_ns = START_NS + k * 10 * MS
            write("/imu", t_ns, imu(t_ns, (0, 0, 9.8, 0, 0, 0.1)))
    return path


def copied(drive: Path, out: Path, index: IndexType, profile: str) -> None:
    with (drive / "drive.mcap").open("rb") as source, out.open("wb") as sink:
        writer = Writer(sink, chunk_size=65536, index_types=index)
        writer.start(profile, "another program")
        channel = None
        for schema, old, message in make_reader(source).iter_messages():
            if channel is None:
                kind = writer.register_schema(schema.name, schema.encoding, schema.data)
                channel = writer.register_channel(old.topic, old.message_encoding, kind)
            writer.add_message(channel, message.log_time, message.data, message.publish_time, message.sequence)
        writer.finish()


@pytest.mark.parametrize("profile", ["ros2", ""])
@pytest.mark.parametrize("index", [IndexType.ALL, IndexType.CHUNK, IndexType.NONE])
def test_a_bag_needs_no_index_and_no_profile(drive: Path, tmp_path: Path, index: IndexType, profile: str) -> None:
    copied(drive, tmp_path / "copy.mcap", index, profile)
    assert import_bag(tmp_path / "copy.mcap", tmp_path / "out.mcap").sensors["imu"].rows == 2000


def test_a_bag_whose_recorder_lost_power_gives_what_it_holds(
    drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(drive, tmp_path / "whole.mcap", IndexType.ALL, "ros2")
    whole = (tmp_path / "whole.mcap").read_bytes()
    folder = tmp_path / "lost_power"  # without metadata.yaml, which is written at the end
    folder.mkdir()
    (folder / "drive_0.mcap").write_bytes(whole)
    (folder / "drive_10.mcap").write_bytes(whole[: len(whole) * 3 // 4])
    import_log(folder / "drive_10.mcap", tmp_path / "one.mcap")
    said = capsys.readouterr().out
    assert "drive_10.mcap: is cut off or damaged at byte" in said
    assert "what stands before is imported" in said
    assert 900 < sum(len(sample.data) for sample in found_in(tmp_path / "one.mcap")["imu"]) < 1900
    report = import_bag(folder, tmp_path / "both.mcap")
    assert 2900 < report.sensors["imu"].rows < 3900


def test_a_folder_with_one_database_and_no_description_is_a_bag(tmp_path: Path) -> None:
    with bag(tmp_path / "drive", StoragePlugin.SQLITE3) as write:
        for k in range(50):
            t_ns = START_NS + k * 10 * MS
            write("/imu", t_ns, imu(t_ns, (0, 0, 9.8, 0, 0, 0.1)))
    (tmp_path / "drive" / "metadata.yaml").unlink()
    import_log(tmp_path / "drive", tmp_path / "out.mcap")
    assert sum(len(sample.data) for sample in found_in(tmp_path / "out.mcap")["imu"]) == 50


def scene() -> NDArray[np.uint8]:
    """Red grows to the right, green down, in steps of eight pixels, so that halved colours cost little."""
    y, x = np.mgrid[0:48, 0:64] // 8 * 8
    return np.stack([40 + 2 * x, 60 + 2 * y, np.full_like(x, 80)], axis=2).astype(np.uint8)


def mosaic(pattern: str, pixels: NDArray[Any]) -> NDArray[Any]:
    """What a sensor behind a mosaic of filters gives; `pattern` is of its first two rows."""
    found = np.empty(pixels.shape[:2], pixels.dtype)
    for at, colour in enumerate(pattern):
        row, column = divmod(at, 2)
        found[row::2, column::2] = pixels[row::2, column::2, "rgb".index(colour)]
    return found


def with_height(message: Any) -> Any:
    message.height = 48
    return message


def encodings() -> Iterator[tuple[str, Any, float]]:
    """Messages of one scene in every encoding, and by how much a picture of it may be off on average."""
    rgb = scene()
    bgr = rgb[..., ::-1]
    wide = rgb.astype(np.uint16) * 257
    yield "8UC3", bgr, 0.0
    yield "8UC4", np.dstack([bgr, bgr[..., :1]]), 0.0
    yield "rgb16", wide, 0.0
    yield "bgr16", wide[..., ::-1], 0.0
    for pattern in ("rggb", "bggr", "gbrg", "grbg"):
        yield f"bayer_{pattern}8", mosaic(pattern, rgb), 8.0
        yield f"bayer_{pattern}16", mosaic(pattern, wide), 8.0
    for encoding, order in (("uyvy", "UYVY"), ("yuv422", "UYVY"), ("yuyv", "YUY2"), ("yuv422_yuy2", "YUY2")):
        yield encoding, cv2.cvtColor(np.ascontiguousarray(rgb), getattr(cv2, f"COLOR_RGB2YUV_{order}")), 4.0
    planes = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2YUV_I420)
    u, v = planes[48:60].reshape(-1), planes[60:72].reshape(-1)
    for encoding, first, second in (("nv12", u, v), ("nv21", v, u)):
        yield encoding, np.vstack([planes[:48], np.stack([first, second], axis=1).reshape(24, 64)]), 4.0


@pytest.mark.parametrize(("encoding", "pixels", "tolerance"), list(encodings()), ids=[name for name, *_ in encodings()])
def test_encodings_of_camera_drivers_are_read(encoding: str, pixels: NDArray[Any], tolerance: float) -> None:
    found = picture(with_height(image(START_NS, encoding, pixels)))
    assert found.shape == (48, 64, 3)
    assert found.dtype == np.uint8
    off = np.abs(found.astype(int) - scene())
    assert off.mean() <= tolerance
    assert np.median(off) <= 3, "the colours are not exchanged"


def test_a_big_endian_picture_of_16_bits_is_read() -> None:
    wide = (scene().astype(np.uint16) * 257).astype(">u2")
    assert np.array_equal(picture(image(START_NS, "rgb16", wide, big_endian=True)), scene())


@pytest.mark.parametrize("encoding", ["nv12", "yuyv"])
def test_pictures_of_halved_colours_have_whole_pairs(encoding: str) -> None:
    message = image(START_NS, encoding, np.zeros((48, 64, 2), np.uint8))
    message.width = 63
    with pytest.raises(BadData, match=f"encoding '{encoding}' of 63x48 pixels; whole pairs"):
        picture(message)


@pytest.mark.parametrize("quality", [80, 101])
def test_webp_pictures_are_read(quality: int) -> None:
    """Lossy, and lossless, which has another header."""
    data = cv2.imencode(".webp", scene()[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
    found = compressed_picture(compressed(START_NS, "webp", data))
    assert np.abs(found.astype(int) - scene()).mean() < 6
    for at in (3, 11, 20, len(data) - 1):
        with pytest.raises(BadData):
            compressed_picture(compressed(START_NS, "webp", data[:at]))


def test_other_topics_are_told(tmp_path: Path) -> None:
    text = TYPES.types["std_msgs/msg/String"]
    with bag(tmp_path / "drive") as write:
        for k in itertools.islice(itertools.count(), 3):
            write("/chat", START_NS + k, text("hello"))
    with pytest.raises(LogError, match=r"/chat \(std_msgs/msg/String, 3 messages\): no sensor's samples"):
        import_bag(tmp_path / "drive", tmp_path / "out.mcap")
