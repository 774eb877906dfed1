"""A look at every sensor of a configuration: does it give samples, of what shape, how many a second?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.capture.live import Capture
from agent.clock import RunClock
from agent.streams import SensorSpec
from drivers.driver import Sample

LISTEN_S = 1.0
"""Time that samples are counted for."""
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Probed:
    """Finding about one sensor."""

    sensor: str
    shape: tuple[int, ...]
    """Shape of its last sample; empty if none came."""
    rate_hz: float
    """Images, or rows, a second by its own time stamps; 0 with fewer than two samples."""
    error: str
    """Why none came, one line; empty if some did."""


def probe(specs: Sequence[SensorSpec], patience_s: float) -> list[Probed]:
    """Open every sensor as the agent does, all at once, and close it once it has given samples for a second.

    A sensor that gives none within `patience_s` has the driver's last error. Sensors that other processes fill are
    left out.
    """
    specs = [spec for spec in specs if spec.type != "remote"]
    clock = RunClock.start()
    capture = Capture(specs, clock)
    seen = {spec.name: _Seen() for spec in specs}
    try:
        capture.start()
        until_ns = clock.now_ns() + round(patience_s * 1e9)
        while clock.now_ns() < until_ns and not all(
            one.enough() or capture.reports()[name].state == "ended" for name, one in seen.items()
        ):
            for name, sample in capture.poll(POLL_S):
                seen[name].add(sample)
        reports = capture.reports()
    finally:
        capture.stop()
    return [
        Probed(
            name,
            one.shape,
            one.rate_hz(),
            "" if one.shape else reports[name].error or f"no sample came within {patience_s:g} s",
        )
        for name, one in seen.items()
    ]


class _Seen:
    """Samples of one sensor: only their times and shapes."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self._first_ns = self._last_ns = 0
        self._counted = 0

    def add(self, sample: Sample) -> None:
        if not self.shape:
            self._first_ns = sample.end_ns
        else:
            self._counted += len(sample.data) if sample.rate_hz else 1
        self.shape, self._last_ns = sample.data.shape, sample.end_ns

    def enough(self) -> bool:
        return self._last_ns - self._first_ns >= LISTEN_S * 1e9

    def rate_hz(self) -> float:
        return self._counted * 1e9 / (self._last_ns - self._first_ns) if self._last_ns > self._first_ns else 0.0
