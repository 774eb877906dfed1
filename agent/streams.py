"""The streams table: what is expected of every sensor, from which queues, windows, health and logging derive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from drivers.driver import Modality

Keep = Literal["latest", "all"]
"""What a consumer that fell behind gets: the newest sample only (images), or every sample (blocks of rows)."""


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

    @property
    def period_s(self) -> float:
        """Seconds between samples."""
        return 1.0 / self.samples_hz


Streams = dict[str, Stream]
