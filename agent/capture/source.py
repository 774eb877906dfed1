"""Sources of samples: live capture, or recordings read as fast as they are consumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from drivers.remote import Remote

Item = TypeVar("Item", covariant=True)

CaptureState = Literal["starting", "running", "lost", "ended"]
"""`starting`: nothing came yet. `lost`: no samples; it is being tried again. `ended`: nothing will come any more."""


LOST_BY_DRIVER = "lost by driver"
"""Reason of drops that counts rows or images, all others count samples."""
BAD_DATA = "bad data"
"""Reason of drops that counts reads which gave no sample."""


@dataclass(frozen=True)
class CaptureReport:
    """Counts of the capture of one sensor."""

    state: CaptureState
    error: str
    """The last error, one line; empty when there was none."""
    restarts: int
    """Capture processes started after the first."""
    drops: dict[str, int]
    """Samples that were dropped, by reason; of LOST_BY_DRIVER rows or images, of BAD_DATA reads."""


@dataclass(frozen=True, slots=True)
class Jump:
    """In place of samples: those that come next do not continue those before. A recording was sought in."""

    start_ns: int
    """They come from then on."""
    over: bool = False
    """Nothing more was to come before: the last windows of before are as good as they get."""


class Source(Protocol[Item]):
    """Source of a run's samples: an item is (sensor, sample)."""

    def start(self) -> None:
        """Begin; live sources return before their devices are open."""
        ...

    def poll(self, timeout_s: float) -> Sequence[Item] | Jump:
        """Return items in order of arrival, waiting for the first up to `timeout_s`; empty when none came."""
        ...

    def reports(self) -> dict[str, CaptureReport]:
        """Return the counts of capture, per sensor."""
        ...

    @property
    def remotes(self) -> Mapping[str, Remote]:
        """The drivers of sensors of type `remote`, to push samples into."""
        ...

    @property
    def in_order(self) -> bool:
        """True if samples of a sensor come in the order of their capture, unless its driver says otherwise."""
        ...

    @property
    def ended(self) -> bool:
        """True if every sensor has ended: nothing will come any more."""
        ...

    def stop(self) -> None:
        """Release everything; may be called again."""
        ...
