"""ROS 2 bags, written by rosbags' own writer, and the messages in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

TYPES = get_typestore(Stores.ROS2_HUMBLE)
TYPES.register(get_types_from_msg("uint8[] data", "audio_common_msgs/msg/AudioData"))
TYPES.register(
    get_types_from_msg(
        "std_msgs/Header header\naudio_common_msgs/AudioData audio", "audio_common_msgs/msg/AudioDataStamped"
    )
)
TYPES.register(
    get_types_from_msg(
        "uint8 channels\nuint32 sample_rate\nstring sample_format\nuint32 bitrate\nstring coding_format",
        "audio_common_msgs/msg/AudioInfo",
    )
)
START_NS = 1_700_000_000_000_000_000


def header(t_ns: int) -> Any:
    stamp = TYPES.types["builtin_interfaces/msg/Time"](t_ns // 10**9, t_ns % 10**9)
    return TYPES.types["std_msgs/msg/Header"](stamp, "base")


def image(t_ns: int, encoding: str, pixels: NDArray[Any], padding: int = 0, big_endian: bool = False) -> Any:
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1) if pixels.size else np.zeros((0, 0))
    padded = np.pad(rows, ((0, 0), (0, padding)))
    height, width = pixels.shape[:2]
    make = TYPES.types["sensor_msgs/msg/Image"]
    return make(header(t_ns), height, width, encoding, int(big_endian), padded.shape[1], padded.reshape(-1))


def compressed(t_ns: int, form: str, data: bytes) -> Any:
    return TYPES.types["sensor_msgs/msg/CompressedImage"](header(t_ns), form, np.frombuffer(data, np.uint8))


def imu(t_ns: int, row: tuple[float, ...], accel_known: bool = True) -> Any:
    vector, quaternion = TYPES.types["geometry_msgs/msg/Vector3"], TYPES.types["geometry_msgs/msg/Quaternion"]
    known, unknown = np.zeros(9), np.array([-1.0, *[0.0] * 8])
    accel, gyro = vector(*row[:3]), vector(*row[3:])
    make = TYPES.types["sensor_msgs/msg/Imu"]
    turned = quaternion(0.0, 0.0, 0.0, 1.0)
    return make(header(t_ns), turned, unknown, gyro, known, accel, known if accel_known else unknown)


def audio(t_ns: int | None, pcm: NDArray[np.int16]) -> Any:
    data = TYPES.types["audio_common_msgs/msg/AudioData"](pcm.astype("<i2").view(np.uint8).reshape(-1))
    return data if t_ns is None else TYPES.types["audio_common_msgs/msg/AudioDataStamped"](header(t_ns), data)


def audio_info(channels: int, rate: int, coding: str = "wave") -> Any:
    return TYPES.types["audio_common_msgs/msg/AudioInfo"](channels, rate, "S16LE", 0, coding)


@contextmanager
def bag(path: Path, storage: StoragePlugin = StoragePlugin.MCAP) -> Iterator[Any]:
    """Gives `write(topic, received_ns, message)`."""
    connections: dict[str, Any] = {}
    with Writer(path, version=9, storage_plugin=storage) as writer:

        def write(topic: str, received_ns: int, message: Any) -> None:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(connections[topic], received_ns, TYPES.serialize_cdr(message, kind))

        yield write
