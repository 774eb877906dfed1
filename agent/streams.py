"""The streams table: what is expected of every sensor, from which queues, windows, health and logging derive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from common.printable import brief
from drivers.driver import Modality, image_like

Keep = Literal["latest", "all"]
"""What a consumer that fell behind gets: the newest sample only (images), or every sample (blocks of rows)."""

MIN_RATE_HZ = 1e-3
"""Of a sensor."""
MAX_SENSORS = 256
"""Of a run."""
FAR_FUTURE_S = 1.0
"""A stamp that is further ahead of the clock is wrong."""
LONGEST_HOLE_S = 60.0
"""Without a clock to compare with, a stamp further ahead of all samples so far is wrong."""

_SENSOR_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Stream:
    """One row of the table. Rates are nominal."""

    sensor: str
    modality: Modality
    rate_hz: float
    """Images a second, or rows a second of audio and IMU."""
    samples_hz: float
    """Samples a second: images, or blocks of rows."""
    sample_bytes: int
    """The largest sample; a larger one is dropped and counted."""
    window_s: float
    """How far back from a tick its window reaches; for vision, the distance of the two frames."""
    keep: Keep
    queue_depth: int
    """Samples held between capture and windows; when full the oldest is overwritten and counted."""
    max_lateness_s: float
    """How long after a tick its window waits for this stream."""
    logged: bool = True
    latency_s: float = 0.0
    """What its driver takes off the time stamps of its device."""

    @property
    def period_s(self) -> float:
        """Seconds between samples."""
        return 1.0 / self.samples_hz


Streams = dict[str, Stream]


@dataclass(frozen=True)
class SensorSpec:
    """One sensor, as capture needs to know it."""

    name: str
    type: str
    """A name of `drivers.registry`, or `module:Class`."""
    options: Any
    """The driver's own `Options`, which a capture process is sent as a pickle."""
    stream: Stream


def silence_s(stream: Stream) -> float:
    """How long a stream may be silent before it counts as lost: ten periods, but at least a second."""
    return max(1.0, 10.0 * stream.period_s)


def fault_of_name(name: str) -> str:
    """What is wrong with the name of a sensor, which becomes one of topics and files; empty when nothing is."""
    if _SENSOR_NAME.fullmatch(name) and name.strip("."):
        return ""
    return f"the name {brief(name)} is not 1 to 64 letters, digits, '_', '.' or '-', and not only dots"


# What the options leave open is bounded, so that a ring has a size before its device is open.
_LARGEST_PICTURE = 1920 * 1080
_MOST_CHANNELS = 8
_USUAL_RATE_HZ = {"vision": 30.0, "audio": 16_000.0, "depth": 30.0, "thermal": 9.0, "imu": 100.0}
_PIXEL_BYTES = {"vision": 3, "depth": 4, "thermal": 4}
BLOCK_MS = 50.0
"""Of a driver that has no option for it."""
_LEAST_BLOCK_S = 0.5
"""Room for what gathers while a busy machine does not read."""


def stream_of(
    sensor: str,
    modality: Modality,
    options: Any,
    *,
    window_s: float,
    max_lateness_s: float,
    queue_depth: int | None = None,
    logged: bool = True,
) -> Stream:
    """The row that follows from a driver's `rate_hz`, size, `channels` and `block_ms`, where it has them."""
    rate_hz = float(getattr(options, "rate_hz", None) or _USUAL_RATE_HZ[modality])
    latency_s = getattr(options, "latency_ms", 0.0) / 1e3
    if image_like(modality):
        width, height = getattr(options, "width", None), getattr(options, "height", None)
        pixels = width * height if width and height else _LARGEST_PICTURE
        bytes_each = pixels * _PIXEL_BYTES[modality]
        return Stream(
            sensor,
            modality,
            rate_hz,
            rate_hz,
            bytes_each,
            window_s,
            "latest",
            queue_depth or 4,
            max_lateness_s,
            logged,
            latency_s,
        )
    columns = (getattr(options, "channels", None) or _MOST_CHANNELS) if modality == "audio" else 6
    block_s = getattr(options, "block_ms", BLOCK_MS) / 1e3
    rows = max(256, round(rate_hz * max(_LEAST_BLOCK_S, 1.5 * block_s)))
    return Stream(
        sensor,
        modality,
        rate_hz,
        min(1 / block_s, rate_hz),
        rows * columns * 4,
        window_s,
        "all",
        queue_depth or 64,
        max_lateness_s,
        logged,
        latency_s,
    )
