"""Mountings of sensors on the robot's body, as far as a configuration knows them, as messages that viewers read. Pure.

The body's axes are x forward, y left, z up. A camera with `hfov_deg` looks ahead: so localization takes it, when it
compares the picture with the direction of sound. The rows of an IMU are in the body's axes. Positions other than those
of microphones are not configured, and are 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform
from foxglove_schemas_protobuf.FrameTransforms_pb2 import FrameTransforms
from foxglove_schemas_protobuf.Quaternion_pb2 import Quaternion
from foxglove_schemas_protobuf.Vector3_pb2 import Vector3
from google.protobuf.timestamp_pb2 import Timestamp

from agent.config.known_arrays import KNOWN_ARRAYS
from agent.log.format import LoggedSensor, RunFacts
from drivers.forms import image_like

BODY = "body"
"""Frame of the robot's body."""
_MIN_HFOV_DEG, _MAX_HFOV_DEG = 4.0, 180.0
_MOST_MICROPHONES = 1024

_ALIGNED = Quaternion(x=0.0, y=0.0, z=0.0, w=1.0)
_OPTICAL = Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)
"""Attitude of a camera that looks ahead: z forward, x right, y down on the picture."""

Position = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Mounting:
    """Place of one sensor."""

    hfov_deg: float | None = None
    """Horizontal field of view of a sensor with pictures."""
    mic_positions_m: tuple[Position, ...] = ()
    """x, y, z in the body frame, by channel."""


def mountings(facts: RunFacts) -> dict[str, Mounting]:
    """Return the mounting of each sensor of a log; values that no configuration can hold are left out."""
    tree = facts.config.get("sensors", {})
    return {name: _mounting(sensor, tree.get(name, {})) for name, sensor in facts.sensors.items()}


def transforms(facts: RunFacts, t_ns: int) -> FrameTransforms:
    """Return the frames of all sensors whose mounting is known, against the body; their names are the sensors'.

    A microphone array has a frame for each channel as well, such as `microphone/0`.
    """
    stamp = stamp_of(t_ns)
    found = FrameTransforms()

    def add(child: str, rotation: Quaternion, position_m: Position = (0.0, 0.0, 0.0)) -> None:
        x, y, z = position_m
        place = Vector3(x=x, y=y, z=z)
        found.transforms.append(
            FrameTransform(
                timestamp=stamp, parent_frame_id=BODY, child_frame_id=child, translation=place, rotation=rotation
            )
        )

    for name, mounting in mountings(facts).items():
        if mounting.hfov_deg is not None:
            add(name, _OPTICAL)
        elif mounting.mic_positions_m:
            add(name, _ALIGNED)
            for channel, position_m in enumerate(mounting.mic_positions_m):
                add(f"{name}/{channel}", _ALIGNED, position_m)
        elif facts.sensors[name].modality == "imu":
            add(name, _ALIGNED)
    return found


def calibration(name: str, hfov_deg: float, width: int, height: int, t_ns: int) -> CameraCalibration:
    """Return the calibration of a pinhole camera without distortion, as localization takes it.

    Pixel coordinates have 0 at the left and upper edge of the picture, as boxes do.
    """
    focal_px = width / 2 / math.tan(math.radians(hfov_deg) / 2)
    centre_x, centre_y = width / 2, height / 2
    return CameraCalibration(
        timestamp=stamp_of(t_ns),
        frame_id=name,
        width=width,
        height=height,
        distortion_model="plumb_bob",
        D=[0.0] * 5,
        K=[focal_px, 0, centre_x, 0, focal_px, centre_y, 0, 0, 1],
        R=[1, 0, 0, 0, 1, 0, 0, 0, 1],
        P=[focal_px, 0, centre_x, 0, 0, focal_px, centre_y, 0, 0, 0, 1, 0],
    )


def stamp_of(t_ns: int) -> Timestamp:
    """Return a time as protobuf has it."""
    stamp = Timestamp()
    stamp.FromNanoseconds(t_ns)
    return stamp


def _mounting(sensor: LoggedSensor, tree: Mapping[str, Any]) -> Mounting:
    if image_like(sensor.modality):
        hfov_deg: Any = tree.get("hfov_deg")
        known = _is_number(hfov_deg) and _MIN_HFOV_DEG <= hfov_deg < _MAX_HFOV_DEG
        return Mounting(hfov_deg=float(hfov_deg) if known else None)
    if sensor.modality != "audio":
        return Mounting()
    array = tree.get("mic_array")
    if isinstance(array, str) and array in KNOWN_ARRAYS:
        return Mounting(mic_positions_m=KNOWN_ARRAYS[array].mic_positions_m)
    return Mounting(mic_positions_m=_positions(tree.get("mic_positions_m")))


def _positions(stored: Any) -> tuple[Position, ...]:
    if not isinstance(stored, list | tuple) or len(stored) > _MOST_MICROPHONES:
        return ()
    found = []
    for row in stored:
        if not (isinstance(row, list | tuple) and len(row) == 3 and all(_is_number(value) for value in row)):
            return ()
        x, y, z = row
        found.append((float(x), float(y), float(z)))
    return tuple(found)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
