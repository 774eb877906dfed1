"""Samples pushed by other processes to sensors of type `remote`: checked one by one, taken or counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from agent.faults import Faults
from agent.server.refusal import Refusal
from drivers.codec import decode_sample
from drivers.driver import BadData, DriverError, Sample
from drivers.forms import check_form
from drivers.row_clock import RowClock
from protos import perception_pb2 as pb
from protos.sensors_pb2 import SensorSample

if TYPE_CHECKING:
    from agent.server.interface import RemoteInput

MAX_AHEAD_NS = 1_000_000_000
"""A stamp may run ahead of the run's clock by this much; hosts kept in step by NTP differ by milliseconds."""
MAX_AGE_NS = 30_000_000_000
"""Older samples are for windows that are long gone."""
UNKNOWN_NS = 5_000_000_000
"""A call that brings nothing but samples of sensors that do not exist for so long is ended: its sender must know."""
STAMP_JITTER_S = 0.05
MOST_IMAGES_HZ = 1000.0
"""Largest rate of a camera."""
CONFIRM_S = 0.3
"""Blocks that were only held up on their way have all come by then."""


class Rejected(Exception):
    """A sample that is not taken; `reason` is what it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Pushed:
    """State of remote sensors between two calls."""

    def __init__(self, faults: Faults | None = None) -> None:
        """Start without samples. `faults` counts those of the agent itself."""
        self.faults = faults or Faults()
        self.newest_ns: dict[str, int] = {}
        """Ends of the newest samples that were taken, by sensor."""


class Intake:
    """Counts of one Ingest call so far."""

    def __init__(
        self, remotes: Mapping[str, RemoteInput], now_ns: Callable[[], int], pushed: Pushed | None = None
    ) -> None:
        self._remotes = remotes
        self._now_ns = now_ns
        self._pushed = pushed or Pushed()
        self._response = pb.IngestResponse()
        self._clocks: dict[str, tuple[float, RowClock]] = {}
        """For sensors whose samples are stamped here: rate of their rows, and the clock that counts them."""
        self._known = False
        """True if a sample of a sensor that exists has come."""
        self._first_unknown: tuple[int, str] | None = None
        """Time and name of the first sample of an unknown sensor."""

    def take(self, raw: bytes) -> None:
        """Give a serialised SensorSample to its sensor, or count why not.

        Raises Refusal when nothing has come for seconds but samples of sensors that do not exist.
        """
        try:
            self._take(raw)
            self._response.accepted += 1
        except Rejected as rejected:
            self._count(rejected.reason, str(rejected))
        except Exception as error:  # noqa: BLE001  a bug, which costs one sample and is counted
            self._pushed.faults.count("ingest", error)
            self._count("fault", f"internal error: {type(error).__name__}; the agent's log says more")
        if self._first_unknown and not self._known and self._now_ns() - self._first_unknown[0] > UNKNOWN_NS:
            raise self._unknown(self._first_unknown[1])

    def finish(self) -> pb.IngestResponse:
        """Return the counts. Raises Refusal if all samples were of unknown sensors."""
        if self._first_unknown and not self._known:
            raise self._unknown(self._first_unknown[1])
        return self._response

    def _count(self, reason: str, message: str) -> None:
        self._response.rejected[reason] += 1
        if reason not in self._response.first_faults:
            self._response.first_faults[reason] = message

    def _take(self, raw: bytes) -> None:
        try:
            message = SensorSample.FromString(raw)
        except DecodeError:
            raise Rejected("bad data", f"{len(raw)} bytes are not a SensorSample") from None
        sensor = message.sensor
        remote = self._remotes.get(sensor)
        if remote is None:
            self._first_unknown = self._first_unknown or (self._now_ns(), sensor)
            raise Rejected("unknown sensor", self._no_such(sensor))
        self._known = True
        try:
            modality, sample = decode_sample(message)
            if modality != remote.modality:
                raise Rejected("wrong modality", f"{sensor} takes {remote.modality}, not {modality}")
            check_form(sample, modality)
            if not np.isfinite(sample.data).all():
                raise Rejected("not finite", f"{sensor}: a value is NaN or infinite")
            stamped = self._stamped(sensor, sample)
            remote.push(stamped)
        except BadData as error:
            raise Rejected("bad data", f"{sensor}: {error}") from None
        except DriverError as error:
            raise Rejected("not running", f"{sensor}: {error}") from None
        newest = self._pushed.newest_ns
        newest[sensor] = max(newest.get(sensor, 0), stamped.end_ns)

    def _stamped(self, sensor: str, sample: Sample) -> Sample:
        now_ns = self._now_ns()
        if sample.t_ns == 0:
            # A block arrives when its last row has been captured.
            arrived = replace(sample, t_ns=now_ns - sample.end_ns)
            arrived = replace(arrived, lost=self._believable(sensor, arrived))
            return self._counted(sensor, arrived) if sample.rate_hz else arrived
        ahead_ns = sample.end_ns - now_ns
        if ahead_ns > MAX_AHEAD_NS:
            raise Rejected("from the future", f"{sensor}: ends {ahead_ns / 1e9:.1f} s ahead; set the sender's clock")
        if -ahead_ns > MAX_AGE_NS:
            raise Rejected("too old", f"{sensor}: is {-ahead_ns / 1e9:.0f} s old; {MAX_AGE_NS // 10**9} s are allowed")
        return replace(sample, lost=self._believable(sensor, sample))

    def _counted(self, sensor: str, arrived: Sample) -> Sample:
        """A block whose time follows from the rows before it; arrivals only hold that count to the clock."""
        rate_hz, rows = arrived.rate_hz, len(arrived.data)
        known_hz, clock = self._clocks.get(sensor, (0.0, None))
        if clock is None or known_hz != rate_hz:
            clock = RowClock(rate_hz, rows, confirm_s=CONFIRM_S)
            self._clocks[sensor] = (rate_hz, clock)
        t_ns, lost = clock.stamp(rows, arrived.t_ns, arrived.lost)
        return replace(arrived, t_ns=t_ns, lost=lost)

    def _believable(self, sensor: str, sample: Sample) -> int:
        """Return the number of lost rows or images to believe: at most those that fit between the newest sample and
        this one.
        """
        newest_ns = self._pushed.newest_ns.get(sensor)
        if not sample.lost or newest_ns is None:
            return 0  # a gap needs an earlier sample
        room_s = max(0.0, (sample.t_ns - newest_ns) / 1e9) + STAMP_JITTER_S
        return min(sample.lost, math.ceil(room_s * (sample.rate_hz or MOST_IMAGES_HZ)))

    def _no_such(self, sensor: str) -> str:
        names = ", ".join(sorted(self._remotes)) or "none; give a sensor `type: remote` in the config"
        return f"{sensor[:80]!r} is not a remote sensor; the remote sensors are: {names}"

    def _unknown(self, sensor: str) -> Refusal:
        return Refusal(
            grpc.StatusCode.NOT_FOUND, self._no_such(sensor), "UNKNOWN_SENSOR", metadata={"sensor": sensor[:80]}
        )
