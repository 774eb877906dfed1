"""Settings of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ColourFormat = Literal["jpeg", "png", "raw"]
PlaneFormat = Literal["png", "raw"]
Compression = Literal["lz4", "none"]

CHUNK_BYTES = 256 * 1024
CHUNK_S = 0.1
QUEUE_BYTES = 64 * 2**20
MIN_FREE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """Formats of pictures. `png` and `raw` keep colours exactly; `raw` planes are float32, `png` 16-bit counts."""

    colour: ColourFormat = "jpeg"
    jpeg_quality: int = 90
    plane: PlaneFormat = "png"
    """Format of depth and thermal."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Limits of a folder of logs; None is unlimited."""

    max_bytes: int | None = None
    """Budget of all logs in the folder, the one being written included."""
    max_age_s: float | None = None
    """Greatest age of a file, counted from its last write."""


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """Settings of a recording; the defaults keep everything in one file."""

    split_bytes: int | None = None
    """A file that has grown to this is followed by another."""
    split_s: float | None = None
    """Seconds of capture time in one file."""
    retention: Retention = field(default_factory=Retention)
    min_free_bytes: int = MIN_FREE_BYTES
    """Recording stops before the disk is fuller than this, since other programs need room as well."""
    pictures: PictureFormat = field(default_factory=PictureFormat)
    compression: Mapping[str, Compression] = field(default_factory=dict)
    """Compression by sensor, or `events`; `none` for others. MCAP compresses chunks, not topics: a chunk is compressed
    when it holds a message of a topic with `lz4`. That costs the other topics in it next to nothing: LZ4 stores what it
    cannot compress, and passes over it at 10 GB/s."""
    chunk_bytes: int = CHUNK_BYTES
    """A chunk is written when it holds this much, or is `chunk_s` old: a killed recording never loses more."""
    chunk_s: float = CHUNK_S
    queue_bytes: int = QUEUE_BYTES
    """Bytes that may wait to be written."""
    imu_plot_hz: float = 100.0
    """Most rows of an IMU in a second that are stored as plain numbers as well, for the plots of viewers; 0: none. A
    row takes three times the bytes there that it takes in its block: with 100 of them, a log of nothing but an IMU of
    400 Hz has 1.7 times its size, and with all of them 3.8 times."""
    encoders: int = 2
    """Threads that encode pictures."""
