"""Recordings and synthetic scenes read in this process, as fast as they are consumed, in the order of time.

Nothing is ever dropped: for simulation, evaluation and tests.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

from agent.capture.source import BAD_DATA, LOST_BY_DRIVER, CaptureReport, CaptureState
from agent.faults import Faults
from agent.streams import SensorSpec
from drivers.driver import BadData, Clock, Driver, DriverError, EndOfStream, ReadTimeout, Sample
from drivers.forms import check_form
from drivers.registry import make_driver
from drivers.remote import Remote

READ_S = 1.0
PATIENCE = 10
"""Reads in a row without a sample, after which a driver that should be fast counts as lost."""


@dataclass
class _Reading:
    driver: Driver
    state: CaptureState = "starting"
    error: str = ""
    drops: Counter[str] = field(default_factory=Counter)


class Offline:
    """A Source that merges drivers of pace `fast` by the end of their samples."""

    def __init__(self, specs: Sequence[SensorSpec], clock: Clock, faults: Faults | None = None) -> None:
        """Make the drivers; `clock` is what they stamp by, `faults` counts by sensor. Raises BadOption."""
        self._faults = faults or Faults()
        self._specs = {spec.name: spec for spec in specs}
        self._readings = {spec.name: _Reading(make_driver(spec.type, spec.options, clock)) for spec in specs}
        self._lock = Lock()
        """Another thread may call `stop` during a `poll`."""
        self._heap: list[tuple[int, str, Sample]] = []
        """The next sample of each driver: (end_ns, sensor, sample); one each, so samples are never compared."""

    def start(self) -> None:
        """Open every driver and read its first sample. Raises DriverError: offline, a missing input is final."""
        try:
            for reading in self._readings.values():
                reading.driver.connect()
        except DriverError:
            self.stop()
            raise
        for name in self._readings:
            self._read(name)

    def poll(self, timeout_s: float) -> list[tuple[str, Sample]]:  # noqa: ARG002  reading never waits for long
        """Return the next (sensor, sample) in the order of their ends: one, so that reports are as of that sample."""
        with self._lock:
            if not self._heap:
                return []
            _, name, sample = heapq.heappop(self._heap)
            self._read(name)
            return [(name, sample)]

    def reports(self) -> dict[str, CaptureReport]:
        """Return the counts of reading, per sensor."""
        return {
            name: CaptureReport(reading.state, reading.error, 0, dict(reading.drops))
            for name, reading in self._readings.items()
        }

    @property
    def remotes(self) -> dict[str, Remote]:
        """None: nobody pushes into what was recorded."""
        return {}

    @property
    def in_order(self) -> bool:
        """True: every driver is read one sample after the other."""
        return True

    @property
    def ended(self) -> bool:
        """True if every recording is over and all of it was returned."""
        return not self._heap and all(reading.state in ("ended", "lost") for reading in self._readings.values())

    def stop(self) -> None:
        """Close every driver; may be called again."""
        with self._lock:
            for reading in self._readings.values():
                reading.driver.close()
                reading.state = "ended"
            self._heap.clear()

    def _read(self, name: str) -> None:
        """Put the next sample of a driver on the heap, or note that there is none."""
        reading, spec = self._readings[name], self._specs[name]
        try:
            sample = self._next_sample(reading, spec)
        except EndOfStream:
            reading.state = "ended"
        except DriverError as error:
            reading.state, reading.error = "lost", str(error)
        else:
            reading.state = "running"
            if sample.lost:
                reading.drops[LOST_BY_DRIVER] += sample.lost
            heapq.heappush(self._heap, (sample.end_ns, name, sample))

    def _next_sample(self, reading: _Reading, spec: SensorSpec) -> Sample:
        for attempt in range(PATIENCE):
            try:
                sample = reading.driver.read(READ_S)
                check_form(sample, spec.stream.modality)
            except ReadTimeout:
                if attempt == PATIENCE - 1:
                    raise
            except BadData as error:
                reading.error = str(error)
                reading.drops[BAD_DATA] += 1
            except DriverError:
                raise
            except Exception as error:  # noqa: BLE001  a bug, which is counted
                self._faults.count(spec.name, error)
                reading.error = self._faults.first(spec.name)
                reading.drops["fault"] += 1
            else:
                return sample
        raise BadData(f"{spec.name}: {PATIENCE} samples in a row were bad")
