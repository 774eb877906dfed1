"""MCAP files of other programs with Foxglove's messages, and with our samples, as logs that can be replayed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.LaserScan_pb2 import LaserScan
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from foxglove_schemas_protobuf.RawImage_pb2 import RawImage
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from mcap.writer import Writer
from mcap_protobuf.schema import build_file_descriptor_set
from recorded_run import replayed

from agent.commands.exchange import import_log
from agent.exchange.bag_topics import Wanted
from agent.exchange.foxglove_messages import decode
from agent.exchange.rosbag import import_bag
from agent.log.format import LogError
from agent.log.reading import facts_of
from agent.log.replay.samples import SampleReplay
from drivers import codec
from drivers.driver import BadData, Sample
from protos.sensors_pb2 import SensorSample

START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
TONE = (8000 * np.sin(np.arange(32_000) / 20)).astype(np.int16).reshape(-1, 2)
Stored = Callable[[Message], bytes]


def stamp(t_ns: int) -> Timestamp:
    found = Timestamp()
    found.FromNanoseconds(t_ns)
    return found


def colours(step: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([x * 3, y * 4, np.full_like(x, 40 + step)], axis=2).astype(np.uint8)


def drive() -> list[tuple[str, int, Message]]:
    """Two seconds: topic, time and message; each sensor under a name of its own."""
    found: list[tuple[str, int, Message]] = []
    for step in range(20):
        t_ns = START_NS + step * 100 * MS
        rgb = colours(step)
        jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        png = cv2.imencode(".png", np.full((48, 64), 1500 + step, np.uint16))[1].tobytes()
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        found += [
            ("/front/jpeg", t_ns, CompressedImage(timestamp=stamp(t_ns), data=jpeg, format="jpeg")),
            ("/depth", t_ns, CompressedImage(timestamp=stamp(t_ns), data=png, format="png")),
            (
                "/rear/raw",
                t_ns,
                RawImage(timestamp=stamp(t_ns), width=64, height=48, encoding="bgr8", step=64 * 3, data=bgr.tobytes()),
            ),
            (
                "/mic",
                t_ns,
                RawAudio(
                    timestamp=stamp(t_ns),
                    data=TONE[step * 800 : (step + 1) * 800].astype("<i2").tobytes(),
                    format="pcm-s16",
                    sample_rate=8000,
                    number_of_channels=2,
                ),
            ),
        ]
        for part in range(2):
            at_ns = t_ns + part * 50 * MS
            rows = np.tile(np.float32([0.1, -0.2, 9.8, 0.01, 0.02, step]), (10, 1))
            sample = Sample(at_ns, rows, 200.0, lost=4 if (step, part) == (7, 1) else 0)
            found.append(("/sensors/imu", at_ns, codec.encode_sample("imu", "imu", sample)))
    return found


def protobuf(message: Message) -> bytes:
    return message.SerializeToString()


def own_json(message: Message) -> bytes:
    return MessageToJson(message, preserving_proto_field_name=True).encode()


def foxglove_json(message: Message) -> bytes:
    """As their JSON schemas have it: times are {sec, nsec}."""
    if isinstance(message, SensorSample):
        return own_json(message)
    tree: dict[str, Any] = {field.name: value for field, value in message.ListFields()}
    tree["timestamp"] = {"sec": message.timestamp.seconds, "nsec": message.timestamp.nanos}  # type: ignore[attr-defined]
    tree["data"] = base64.b64encode(tree["data"]).decode()
    tree["a field of tomorrow"] = 1
    return json.dumps(tree).encode()


def written(path: Path, found: list[tuple[str, int, Message]], stored: Stored, delay_ns: int = 3 * MS) -> Path:
    encoding, schema_encoding = ("protobuf", "protobuf") if stored is protobuf else ("json", "jsonschema")
    with path.open("wb") as sink:
        writer = Writer(sink)
        writer.start("", "another program")
        channels: dict[str, int] = {}
        for topic, t_ns, message in found:
            if topic not in channels:
                data = build_file_descriptor_set(type(message)).SerializeToString() if stored is protobuf else b"{}"
                schema = writer.register_schema(message.DESCRIPTOR.full_name, schema_encoding, data)
                channels[topic] = writer.register_channel(topic, encoding, schema)
            writer.add_message(channels[topic], t_ns + delay_ns, stored(message), t_ns, 0)
        writer.finish()
    return path


@pytest.mark.parametrize("order", ["as it came", "one topic after the other"])
@pytest.mark.parametrize("stored", [protobuf, own_json, foxglove_json])
def test_messages_of_other_programs_become_a_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stored: Stored, order: str
) -> None:
    found = drive() if order == "as it came" else sorted(drive(), key=lambda row: row[0])
    import_log(written(tmp_path / "drive.mcap", found, stored), tmp_path / "out.mcap")
    said = capsys.readouterr().out.splitlines()
    for line in ("front_jpeg: 20 pictures", "rear_raw: 20 pictures", "mic: 16000 rows", "imu: 400 rows, 4 missing"):
        assert line in said
    log: dict[str, list[Sample]] = {}
    for name, sample in replayed(SampleReplay(tmp_path / "out.mcap")):
        log.setdefault(name, []).append(sample)
    stamps = [START_NS + step * 100 * MS for step in range(20)]
    for name in ("front_jpeg", "rear_raw"):
        assert [sample.t_ns for sample in log[name]] == stamps
        assert np.abs(log[name][7].data.astype(int) - colours(7)).mean() < 4
    assert log["depth"][9].data[0, 0] == np.float32(1.509)
    assert np.array_equal(np.concatenate([sample.data for sample in log["mic"]]), TONE / np.float32(32768))
    assert [(s.t_ns - START_NS, s.lost) for s in log["imu"] if s.lost] == [(750 * MS, 4)]
    assert log["imu"][-1].data[0, 5] == 19.0
    assert {name: (s.modality, s.rate_hz) for name, s in facts_of(tmp_path / "out.mcap").sensors.items()} == {
        "front_jpeg": ("vision", 10.0),
        "rear_raw": ("vision", 10.0),
        "depth": ("depth", 10.0),
        "mic": ("audio", 8000.0),
        "imu": ("imu", 200.0),
    }


def test_a_topic_can_be_named_and_be_thermal(tmp_path: Path) -> None:
    png = cv2.imencode(".png", np.full((6, 8), 30_015, np.uint16))[1].tobytes()
    found: list[tuple[str, int, Message]] = [
        (
            "/flir",
            START_NS + k * 111 * MS,
            CompressedImage(timestamp=stamp(START_NS + k * 111 * MS), data=png, format="png"),
        )
        for k in range(5)
    ]
    path = written(tmp_path / "drive.mcap", found, protobuf)
    report = import_bag(path, tmp_path / "out.mcap", {"/flir": Wanted("heat", "thermal")})
    assert report.sensors["heat"].modality == "thermal"
    (_, sample), *_ = replayed(SampleReplay(tmp_path / "out.mcap"))
    assert sample.data[0, 0] == pytest.approx(27.0, abs=1e-3)


def test_other_messages_are_named(tmp_path: Path) -> None:
    scan: list[tuple[str, int, Message]] = [("/scan", START_NS, LaserScan(timestamp=stamp(START_NS)))]
    path = written(tmp_path / "scan.mcap", scan, protobuf)
    with pytest.raises(LogError, match=r"/scan \(foxglove\.LaserScan, 1 messages\): no sensor's samples"):
        import_log(path, tmp_path / "out.mcap")
    assert not (tmp_path / "out.mcap").exists()


def test_sound_that_changes_its_format_is_counted(tmp_path: Path) -> None:
    found = [row for row in drive() if row[0] == "/mic"]
    found[3][2].sample_rate = 16000  # type: ignore[attr-defined]
    found[4][2].format = "opus"  # type: ignore[attr-defined]
    report = import_bag(written(tmp_path / "drive.mcap", found, protobuf), tmp_path / "out.mcap")
    assert report.sensors["mic"].samples == 18
    assert report.sensors["mic"].faults == {
        "messages with sound of 16000 Hz and 2 channels; the first is other": 1,
        "messages with audio in format 'opus'; only 'pcm-s16' is known": 1,
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        b'{"timestamp": {"sec": "now"}}',
        b'{"timestamp": {"sec": 1, "nsec": -1}}',
        b'{"timestamp": {"sec": 99999999999999}}',
        b'{"timestamp": 5}',
        b'{"data": 5}',
        b'{"width": "wide"}',
    ],
)
def test_json_that_is_not_a_message_is_bad_data(data: bytes) -> None:
    with pytest.raises(BadData, match=r"not a foxglove\.RawImage in JSON: "):
        decode("foxglove.RawImage", "json", data)
