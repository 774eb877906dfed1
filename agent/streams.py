"""The streams table: what is expected of every sensor, from which queues, windows, health and logging derive."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from common.printable import brief
from drivers.driver import Modality, StreamFacts
from drivers.forms import FORMS

Keep = Literal["latest", "all"]
"""Samples for a consumer that fell behind: the newest only (images), or all (blocks of rows)."""

MAX_SENSORS = 256
"""Number of sensors of a run."""
FAR_FUTURE_S = 1.0
"""A stamp that is further ahead of the clock is wrong."""
LONGEST_HOLE_S = 60.0
"""Without a clock to compare with, a stamp further ahead of all samples so far is wrong."""
LONGEST_HOLE_NS = round(LONGEST_HOLE_S * 1e9)

LONGEST_PERIODS = 1.9
"""Cameras and their stamps jitter; only images that are further apart, in periods, have others missing between them."""

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
    """Reach of its window back from a tick; for vision, the distance of the two frames."""
    keep: Keep
    queue_depth: int
    """Samples held between capture and windows; when full the oldest is overwritten and counted."""
    max_lateness_s: float
    """Time that a tick waits for this stream."""
    logged: bool = True
    pause_s: float = 0.0
    """Longest pause that its device makes regularly, beyond its period."""
    latency_s: float = 0.0
    """Time that its driver takes off the device's stamps."""
    scale: float | None = None
    """Metres, or degrees Celsius, of one count of the device; None: as is the custom of its modality."""
    offset: float | None = None
    """Metres, or degrees Celsius, of a count of 0."""
    in_order: bool = True
    """False if its samples may come in another order than they were captured."""

    @property
    def period_s(self) -> float:
        """Seconds between samples."""
        return 1.0 / self.samples_hz

    @property
    def views(self) -> int:
        """Samples that are read where their driver put them, without a copy, as long as no more are kept.

        A window of vision keeps about two frames a hop over its whole reach, six at two ticks a second; those of
        depth and thermal keep the newest image; of rows nothing is kept, but the log may be some blocks behind.
        """
        return 8 if self.modality == "vision" else 3


Streams = dict[str, Stream]


def in_any_order(streams: Streams) -> Streams:
    """The same streams from a source that may deliver all samples in another order than they were captured."""
    return {name: replace(stream, in_order=False) for name, stream in streams.items()}


@dataclass(frozen=True)
class SensorSpec:
    """One sensor, as capture needs to know it."""

    name: str
    type: str
    """A name of `drivers.registry`, or `module:Class`."""
    options: Any
    """The driver's own `Options`, which a capture process is sent as a pickle."""
    stream: Stream


def images_missing(apart_ns: int, period_s: float) -> int:
    """Return how many images are missing between two whose stamps are so far apart: what a gap of images is."""
    periods = apart_ns / 1e9 / period_s
    return round(periods) - 1 if periods > LONGEST_PERIODS else 0


def silence_s(stream: Stream) -> float:
    """Return the silence after which a stream counts as lost: ten periods, but at least a second, and its pause."""
    return max(1.0, 10.0 * stream.period_s) + stream.pause_s


def fault_of_name(name: str) -> str:
    """Return the fault of a sensor's name, which becomes one of topics and files; empty if it has none."""
    if _SENSOR_NAME.fullmatch(name) and name.strip("."):
        return ""
    return f"the name {brief(name)} is not 1 to 64 letters, digits, '_', '.' or '-', and not only dots"


# What the options leave open is bounded, so that a ring has a size before its device is open.
_LARGEST_PICTURE = 1920 * 1080
_MOST_CHANNELS = 8
_LEAST_BLOCK_S = 0.5
"""Room for what gathers while a busy machine does not read."""


def stream_of(
    sensor: str,
    facts: StreamFacts,
    *,
    window_s: float,
    max_lateness_s: float,
    queue_depth: int | None = None,
    logged: bool = True,
) -> Stream:
    """The row that follows from what a driver says of its samples."""
    form = FORMS[facts.modality]
    rate_hz = float(facts.rate_hz or form.usual_rate_hz)
    if form.image_like:
        pixels = facts.width * facts.height if facts.width and facts.height else _LARGEST_PICTURE
        samples_hz, sample_bytes = rate_hz, form.bytes_of(pixels)
    else:
        rows = max(256, round(rate_hz * max(_LEAST_BLOCK_S, 1.5 * facts.block_s)))
        samples_hz = min(1 / facts.block_s, rate_hz)
        sample_bytes = form.bytes_of(rows, facts.channels or _MOST_CHANNELS)
    return Stream(
        sensor=sensor,
        modality=facts.modality,
        rate_hz=rate_hz,
        samples_hz=samples_hz,
        sample_bytes=sample_bytes,
        window_s=window_s,
        keep="latest" if form.image_like else "all",
        queue_depth=queue_depth or (4 if form.image_like else 64),
        max_lateness_s=max_lateness_s,
        logged=logged,
        pause_s=facts.pause_s,
        latency_s=facts.latency_s,
        scale=facts.scale,
        offset=facts.offset,
        in_order=facts.in_order,
    )
