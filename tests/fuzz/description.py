"""`recording.yaml` of a folder to import."""

from __future__ import annotations

from agent.exchange.description import NAME, read_description
from agent.log.format import LogError
from fuzz import scratch
from fuzz.config import TOKENS as YAML_TOKENS
from fuzz.judging import check_told

TOKENS = (*YAML_TOKENS, b"2026-05-04T10:00:00Z", b"../", b"offset_s: ")


def one(data: bytes) -> None:
    """Read it."""
    path = scratch.file(NAME, data)
    try:
        found = read_description(path.parent)
        assert found is None or found.begin_ns >= 0
    except LogError as error:
        check_told(error)


def seeds() -> list[bytes]:
    """One of everything."""
    several = b"""start: 2026-05-04T10:00:00Z
sensors:
  cam: {file: drive.mp4}
  imu: {file: imu.csv, columns: [t_s, ax, ay, az, gx, gy, gz], gyro_unit: deg/s, offset_s: 0.12}
  depth: {file: depth, modality: depth, rate_hz: 10, scale: 0.001}
"""
    return [several, b"start_ns: 1000\nsensors: {a: {file: x.wav}}\nconfig: {queries: [{text: a dog}]}\n"]
