"""ROS 2 bags, written by rosbags' own writer in both storages, as logs that can be replayed."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from bags import START_NS, TYPES, audio, audio_info, bag, compressed, image, imu
from numpy.typing import NDArray
from recorded_run import record, replayed, samples, told_by
from rosbags.rosbag2 import StoragePlugin

from agent.commands.exchange import import_log
from agent.exchange.bag_topics import AudioFormat, Wanted
from agent.exchange.ros_messages import compressed_picture, data_of, picture
from agent.exchange.rosbag import import_bag
from agent.log.format import LogError
from agent.log.reading import facts_of
from agent.log.replay.samples import SampleReplay
from agent.run import build
from drivers.driver import BadData, Sample

DELAY_NS = 7_000_000
"""From a stamp to when the bag gets the message."""


def colours(step: int) -> NDArray[np.uint8]:
    """Red grows to the right, green down, blue with time: no two channels can be taken for each other."""
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([x * 3, y * 4, np.full_like(x, 40 + step)], axis=2).astype(np.uint8)


def found_in(log: Path) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for name, sample in replayed(SampleReplay(log)):
        found.setdefault(name, []).append(sample)
    return found


@pytest.mark.parametrize("storage", list(StoragePlugin), ids=lambda plugin: plugin.name)
def test_a_bag_is_a_log_that_replays(
    storage: StoragePlugin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tone = (8000 * np.sin(np.arange(6 * 16000) / 20)).astype(np.int16).reshape(-1, 1600)
    with bag(tmp_path / "drive", storage) as write:
        for step in range(60):
            t_ns = START_NS + step * 100_000_000
            rgb = colours(step)
            depth_mm = np.full((48, 64), 1500 + step, np.uint16)
            depth_m = np.where(rgb[..., 0] > 90, np.float32(2.5), np.float32(np.nan))
            jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            for topic, message in (
                ("/front/image_raw", image(t_ns, "rgb8", rgb, padding=8)),
                ("/left/image_raw", image(t_ns, "bgr8", rgb[..., ::-1])),
                ("/grey/image_raw", image(t_ns, "mono8", rgb[..., 0])),
                ("/rear/compressed", compressed(t_ns, "rgb8; jpeg compressed bgr8", jpeg)),
                ("/depth/mm", image(t_ns, "16UC1", depth_mm)),
                ("/depth/m", image(t_ns, "32FC1", depth_m)),
                ("/mic/audio", audio(t_ns, tone[step])),
                ("/mic/audio_info", audio_info(1, 16000)),
            ):
                write(topic, t_ns + DELAY_NS, message)
            for i in range(20):
                row_ns = t_ns + i * 5_000_000
                write("/imu/data", row_ns + DELAY_NS, imu(row_ns, (0.1, -0.2, 9.8, 0.01, i / 100, step / 100)))
    log = tmp_path / "drive.mcap"
    import_log(tmp_path / "drive", log)
    said = capsys.readouterr().out.splitlines()
    assert "front_image_raw: 60 pictures" in said
    assert "imu_data: 1200 rows" in said
    assert "mic_audio: 96000 rows" in said
    assert "skipped: /mic/audio_info (audio_common_msgs/msg/AudioInfo, 60 messages): no sensor's samples" in said

    found = found_in(log)
    stamps = [START_NS + step * 100_000_000 for step in range(60)]
    for name in ("front_image_raw", "left_image_raw", "rear_compressed"):
        assert [(s.t_ns, s.lost) for s in found[name]] == [(t_ns, 0) for t_ns in stamps]
        assert np.abs(found[name][17].data.astype(int) - colours(17)).mean() < 4
    grey = found["grey_image_raw"][5].data.astype(int)
    assert np.abs(grey - colours(5)[..., :1]).mean() < 2
    assert found["depth_mm"][9].data[0, 0] == np.float32(1.509)
    assert found["depth_m"][0].data[0, 40] == 2.5
    assert found["depth_m"][0].data[0, 0] == 0
    assert np.array_equal(np.concatenate([s.data for s in found["mic_audio"]])[:, 0], tone.reshape(-1) / 32768)
    assert found["mic_audio"][1].t_ns == START_NS + 100_000_000
    rows = np.concatenate([s.data for s in found["imu_data"]])
    np.testing.assert_allclose(rows[27], [0.1, -0.2, 9.8, 0.01, 0.07, 0.01], rtol=1e-6)
    assert all(s.rate_hz == 200.0 and not s.lost for s in found["imu_data"])
    sensors = facts_of(log).sensors
    assert {name: (sensor.modality, sensor.rate_hz) for name, sensor in sensors.items()} == {
        "front_image_raw": ("vision", 10.0),
        "left_image_raw": ("vision", 10.0),
        "grey_image_raw": ("vision", 10.0),
        "rear_compressed": ("vision", 10.0),
        "depth_mm": ("depth", 10.0),
        "depth_m": ("depth", 10.0),
        "mic_audio": ("audio", 16000.0),
        "imu_data": ("imu", 200.0),
    }


def test_an_imported_bag_goes_through_the_pipeline(tmp_path: Path) -> None:
    with bag(tmp_path / "drive") as write:
        for step in range(30):
            t_ns = START_NS + step * 100_000_000
            write("/camera", t_ns, image(t_ns, "rgb8", colours(step)))
    import_bag(tmp_path / "drive", tmp_path / "drive.mcap")
    _, status = told_by(build.replay(tmp_path / "drive.mcap"))
    assert status.ticks_produced == status.ticks_delivered == 5
    assert [stream.sensor for stream in status.streams] == ["camera"]
    assert status.streams[0].samples == 30


def test_gaps_in_the_stamps_are_missing_samples(tmp_path: Path) -> None:
    with bag(tmp_path / "drive") as write:
        for step in range(400):
            t_ns = START_NS + step * 10_000_000
            if not 200 <= step < 225:
                write("/imu", t_ns, imu(t_ns, (0.0, 0.0, 9.8, 0.0, 0.0, 0.0)))
            if step % 10 == 0 and step not in (50, 60):
                write("/camera", t_ns, image(t_ns, "rgb8", colours(step % 200)))
            if step % 10 == 0 and not 300 <= step < 330:
                write("/audio", t_ns, audio(t_ns, np.full((800, 2), step, np.int16)))
    report = import_bag(tmp_path / "drive", tmp_path / "out.mcap", audio=AudioFormat(8000, 2))
    assert {name: sensor.missing for name, sensor in report.sensors.items()} == {"imu": 25, "camera": 2, "audio": 2400}
    found = found_in(tmp_path / "out.mcap")
    assert [(s.t_ns - START_NS, s.lost) for s in found["camera"] if s.lost] == [(700_000_000, 2)]
    assert [(s.t_ns - START_NS, s.lost) for s in found["imu"] if s.lost] == [(2_250_000_000, 25)]
    assert [(s.t_ns - START_NS, s.lost) for s in found["audio"] if s.lost] == [(3_300_000_000, 2400)]


def test_topics_can_be_chosen_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with bag(tmp_path / "drive") as write:
        for step in range(5):
            t_ns = START_NS + step * 100_000_000
            png = cv2.imencode(".png", colours(step)[..., ::-1])[1].tobytes()
            write("/camera/image_raw", t_ns, image(t_ns, "rgb8", colours(step)))
            write("/camera/image_raw/compressed", t_ns, compressed(t_ns, "rgb8; png compressed bgr8", png))
            write("/flir/image_raw", t_ns, image(t_ns, "mono16", np.full((8, 9), 30_000, ">u2"), big_endian=True))
    import_log(tmp_path / "drive", tmp_path / "all.mcap")
    assert set(facts_of(tmp_path / "all.mcap").sensors) == {"camera_image_raw", "flir_image_raw"}
    assert "the same pictures as /camera/image_raw" in capsys.readouterr().out
    topics = ["/camera/image_raw/compressed=front", "/flir/image_raw=heat:thermal"]
    import_log(tmp_path / "drive", tmp_path / "some.mcap", topics)
    said = capsys.readouterr().out
    assert "skipped: /camera/image_raw (sensor_msgs/msg/Image, 5 messages): not asked for" in said
    found = found_in(tmp_path / "some.mcap")
    assert np.abs(found["front"][2].data.astype(int) - colours(2)).mean() < 4
    assert found["heat"][0].data[0, 0] == pytest.approx(26.85, abs=1e-3)
    assert facts_of(tmp_path / "some.mcap").sensors["heat"].modality == "thermal"
    for wrong, message in (
        (["/nothing=front"], "has no topic '/nothing'; its topics are: /camera/image_raw, "),
        (["/camera/image_raw=front:depth"], r"/camera/image_raw \(.*cannot be imported: a picture of uint8"),
        (["/camera/image_raw=front:smell"], "--topic /camera/image_raw=front:smell: give /topic=name"),
        (["/camera/image_raw=a", "/flir/image_raw=a"], "given twice"),
        (["/camera/image_raw=../a"], r"the name '\.\./a' is not 1 to 64 letters"),
    ):
        with pytest.raises(Exception, match=message) as raised:
            import_log(tmp_path / "drive", tmp_path / "wrong.mcap", wrong)
        assert type(raised.value).__name__ in ("LogError", "ConfigError")
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "wrong.mcap").exists()


def test_what_cannot_be_mapped_is_listed_and_what_is_bad_counted(tmp_path: Path) -> None:
    text = TYPES.types["std_msgs/msg/String"]
    with bag(tmp_path / "drive") as write:
        for step in range(10):
            t_ns = START_NS + step * 100_000_000
            size = 40 if step == 4 else 48
            write("/camera", t_ns, image(t_ns, "rgb8" if step != 6 else "yuv444", colours(step)[:size]))
            write("/chat", t_ns, text("hello"))
            write("/yuv", t_ns, image(t_ns, "yuv444", colours(step)))
            write("/gyro", t_ns, imu(t_ns, (0, 0, 0, 0.1, 0.2, 0.3), accel_known=False))
            write("/audio", t_ns, audio(t_ns, np.zeros(1600, np.int16)))
            write("/song/audio", t_ns, audio(t_ns, np.zeros(1600, np.int16)))
            write("/song/audio_info", t_ns, audio_info(2, 44100, "mp3"))
            write("/imu", t_ns, imu(t_ns, (0, 0, 9.8 if step != 3 else float("nan"), 0, 0, 0)))
    report = import_bag(tmp_path / "drive", tmp_path / "out.mcap")
    assert report.sensors["camera"].faults == {"messages with encoding 'yuv444'": 1}
    assert report.sensors["imu"].faults == {"messages with values that no inertial unit measures": 1}
    assert report.sensors["imu"].rows == 9
    assert set(report.skipped) == {
        "/audio (audio_common_msgs/msg/AudioDataStamped, 10 messages): its rate is not in the bag; add rate and "
        "channels, such as --audio 16000x1",
        "/chat (std_msgs/msg/String, 10 messages): no sensor's samples",
        "/gyro (sensor_msgs/msg/Imu, 10 messages): no linear acceleration",
        "/song/audio (audio_common_msgs/msg/AudioDataStamped, 10 messages): sound as mp3 S16LE; only wave S16LE can be "
        "imported",
        "/song/audio_info (audio_common_msgs/msg/AudioInfo, 10 messages): no sensor's samples",
        "/yuv (sensor_msgs/msg/Image, 10 messages): encoding 'yuv444'",
    }


def test_messages_without_a_stamp_are_of_when_they_were_recorded(tmp_path: Path) -> None:
    with bag(tmp_path / "drive") as write:
        for step in range(4):
            t_ns = START_NS + step * 100_000_000
            write("/camera", t_ns, image(0, "rgb8", colours(step)))
            write("/audio", t_ns, audio(None, np.zeros(1600, np.int16)))
    report = import_bag(tmp_path / "drive", tmp_path / "out.mcap", audio=AudioFormat(16000))
    told = {"messages without a stamp, placed at their recording time": 4}
    assert report.sensors["camera"].faults == report.sensors["audio"].faults == told
    found = found_in(tmp_path / "out.mcap")
    assert found["camera"][0].t_ns == START_NS
    assert found["audio"][0].t_ns == START_NS - 100_000_000  # it was recorded when its last row was there
    assert facts_of(tmp_path / "out.mcap").start_ns == START_NS - 100_000_000


def test_compressed_depth_is_read_in_both_its_forms() -> None:
    depth_mm = np.full((6, 8), 1234, np.uint16)
    depth_mm[0, 0] = 0
    png = cv2.imencode(".png", depth_mm)[1].tobytes()
    found = compressed_picture(compressed(START_NS, "16UC1; compressedDepth png", struct.pack("<iff", 0, 0, 0) + png))
    assert data_of(found, "depth")[1, 1] == pytest.approx(1.234)
    a, b = 1000.0, 30.0
    counts = np.full((6, 8), round(a / 2.5 + b), np.uint16)
    counts[0, 0] = 0
    png = cv2.imencode(".png", counts)[1].tobytes()
    found = compressed_picture(compressed(START_NS, "32FC1; compressedDepth", struct.pack("<iff", 0, a, b) + png))
    depth = data_of(found, "depth")
    assert depth[1, 1] == pytest.approx(2.5)
    assert depth[0, 0] == 0
    with pytest.raises(BadData, match="but no PNG"):
        compressed_picture(compressed(START_NS, "16UC1; compressedDepth rvl", b"0123456789abcdef"))


def test_a_picture_that_lies_about_its_size_is_refused() -> None:
    message = image(START_NS, "rgb8", colours(0))
    message.width = 65
    with pytest.raises(BadData, match="9216 bytes for 65x48 pixels of rgb8 in rows of 192 bytes"):
        picture(message)
    message.width, message.height = 2**31, 2**31
    with pytest.raises(BadData, match="larger than"):
        picture(message)


def test_what_is_no_bag_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bag(tmp_path / "empty"):
        pass
    with bag(tmp_path / "drive") as write:
        for step in range(20):
            write("/camera", START_NS + step, image(START_NS + step * 10**8, "rgb8", colours(step)))
    (tmp_path / "text.mcap").write_text("sensors: {}")
    (tmp_path / "text.db3").write_text("sensors:")
    record(tmp_path / "ours.mcap", samples(1))
    for name, message in (
        ("empty", "empty: none of its topics can be imported: it is empty"),
        ("text.mcap", r"text\.mcap: is not an MCAP file"),
        ("text.db3", r"text\.db3: cannot be read as a ROS 2 bag: "),
        ("ours.mcap", r"ours\.mcap: is a log of sensebind already"),
    ):
        with pytest.raises(LogError, match=message) as raised:
            import_log(tmp_path / name, tmp_path / "out.mcap")
        assert "\n" not in str(raised.value)
    monkeypatch.setitem(sys.modules, "rosbags.typesys", None)
    with pytest.raises(LogError, match=r"ROS 2 messages are read by rosbags: .*pip install 'sensebind\[ros\]'"):
        import_log(tmp_path / "drive", tmp_path / "out.mcap")
    assert not (tmp_path / "out.mcap").exists()


def test_a_bag_that_is_damaged_inside_gives_what_stands_before(tmp_path: Path) -> None:
    with bag(tmp_path / "drive", StoragePlugin.SQLITE3) as write:
        for step in range(200):
            write("/camera", START_NS + step * 10**8, image(START_NS + step * 10**8, "rgb8", colours(step)))
    path = tmp_path / "drive" / "drive.db3"
    data = bytearray(path.read_bytes())
    # The data of a large row goes on in pages that begin with the number of the next one.
    chained = [
        at for at in range(len(data) // 2, len(data), 4096) if struct.unpack_from(">I", data, at)[0] == at // 4096 + 2
    ]
    struct.pack_into(">I", data, chained[0], 2**31)
    path.write_bytes(data)
    report = import_bag(tmp_path / "drive", tmp_path / "out.mcap")
    assert any("is damaged (" in line and line.endswith("the part before is imported") for line in report.skipped)
    found = found_in(tmp_path / "out.mcap")["camera"]
    assert 20 < len(found) < 200
    assert [s.t_ns for s in found] == [START_NS + step * 10**8 for step in range(len(found))]


def test_a_named_topic_keeps_its_name(tmp_path: Path) -> None:
    with bag(tmp_path / "drive") as write:
        for topic in ("/a/b", "/a_b"):
            for step in range(3):
                write(topic, START_NS + step * 10**8, image(START_NS + step * 10**8, "rgb8", colours(step)))
    report = import_bag(tmp_path / "drive", tmp_path / "out.mcap")
    assert sorted(report.sensors) == ["a_b", "a_b_2"]
    report = import_bag(tmp_path / "drive", tmp_path / "one.mcap", {"/a_b": Wanted("eye")})
    assert sorted(report.sensors) == ["eye"]
