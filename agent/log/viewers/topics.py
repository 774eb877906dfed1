"""Topics for viewers, beside those of samples and events. Replay and all readers of samples pass over them. Pure.

| topic | schema |
|---|---|
| `/sensors/<imu>/rows` | sensebind.v1.ImuRow |
| `/sensors/<camera>/calibration` | foxglove.CameraCalibration |
| `/transforms` | foxglove.FrameTransforms |
| `/events/sources/<camera>` | foxglove.ImageAnnotations |
| `/events/scores/<query id>` | sensebind.v1.ScoreRow |
| `/events/log` | foxglove.Log |

The name of a sensor has no slash, so that none of these is a sensor's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

TRANSFORMS = "/transforms"
LOG = "/events/log"
_SENSOR = r"(?P<sensor>[^/]+)"
_TOPIC = re.compile(
    rf"/transforms|/sensors/{_SENSOR}/(rows|calibration)|(?P<event>/events/(log|scores/[^/]+|sources/(?P<camera>[^/]+)))"
)


@dataclass(frozen=True, slots=True)
class ViewerTopic:
    """Origin of a topic for viewers."""

    sensor: str | None
    """Sensor that it is of, if of one."""
    is_event: bool
    """True if its messages are made of events; their sequence is the event's seq."""


def rows(sensor: str) -> str:
    """Return the topic of an IMU's rows."""
    return f"/sensors/{sensor}/rows"


def calibration(sensor: str) -> str:
    """Return the topic of a camera's calibration."""
    return f"/sensors/{sensor}/calibration"


def sources(camera: str) -> str:
    """Return the topic of the boxes on a camera's pictures."""
    return f"/events/sources/{camera}"


def scores(query_id: str) -> str:
    """Return the topic of a query's scores."""
    return f"/events/scores/{query_id}"


def is_part(name: str) -> bool:
    """Return whether a name can be the last part of a topic."""
    return re.fullmatch("[^/]{1,64}", name) is not None


@lru_cache(4096)
def viewer_topic(topic: str) -> ViewerTopic | None:
    """Return the origin of a topic for viewers; None for any other topic."""
    match = _TOPIC.fullmatch(topic)
    if match is None:
        return None
    return ViewerTopic(match["sensor"] or match["camera"], is_event=match["event"] is not None)
