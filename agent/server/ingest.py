"""Samples pushed by other processes to sensors of type `remote`: checked one by one, taken or counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from agent.server.refusal import Refusal
from drivers.codec import decode_sample
from drivers.driver import BadData, DriverError, Sample
from protos import perception_pb2 as pb
from protos.sensors_pb2 import SensorSample

if TYPE_CHECKING:
    from agent.server.interface import RemoteInput

MAX_AHEAD_NS = 1_000_000_000
"""A stamp may run ahead of the run's clock by this much; hosts kept in step by NTP differ by milliseconds."""
MAX_AGE_NS = 30_000_000_000
"""Older samples are for windows that are long gone."""


class Rejected(Exception):
    """A sample that is not taken; `reason` is what it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Intake:
    """What one Ingest call has brought so far."""

    def __init__(self, remotes: Mapping[str, RemoteInput], now_ns: Callable[[], int]) -> None:
        self._remotes = remotes
        self._now_ns = now_ns
        self.response = pb.IngestResponse()

    def take(self, raw: bytes) -> None:
        """Give a serialised SensorSample to its sensor, or count why not. Raises Refusal for an unknown sensor."""
        try:
            self._take(raw)
            self.response.accepted += 1
        except Rejected as rejected:
            self.response.rejected[rejected.reason] += 1
            if rejected.reason not in self.response.first_faults:
                self.response.first_faults[rejected.reason] = str(rejected)

    def _take(self, raw: bytes) -> None:
        try:
            message = SensorSample.FromString(raw)
        except DecodeError:
            raise Rejected("bad data", f"{len(raw)} bytes are not a SensorSample") from None
        remote = self._remotes.get(message.sensor)
        if remote is None:
            raise self._unknown(message.sensor)
        try:
            modality, sample = decode_sample(message)
            if modality != remote.modality:
                raise Rejected("wrong modality", f"{message.sensor} takes {remote.modality}, not {modality}")
            if not np.isfinite(sample.data).all():
                raise Rejected("not finite", f"{message.sensor}: a value is NaN or infinite")
            remote.push(self._stamped(message.sensor, sample))
        except BadData as error:
            raise Rejected("bad data", f"{message.sensor}: {error}") from None
        except DriverError as error:
            raise Rejected("not running", f"{message.sensor}: {error}") from None

    def _stamped(self, sensor: str, sample: Sample) -> Sample:
        now_ns = self._now_ns()
        if sample.t_ns == 0:
            # A block arrives when its last row has been captured.
            return replace(sample, t_ns=now_ns - sample.end_ns)
        ahead_ns = sample.end_ns - now_ns
        if ahead_ns > MAX_AHEAD_NS:
            raise Rejected("from the future", f"{sensor}: ends {ahead_ns / 1e9:.1f} s ahead; set the sender's clock")
        if -ahead_ns > MAX_AGE_NS:
            raise Rejected("too old", f"{sensor}: is {-ahead_ns / 1e9:.0f} s old; {MAX_AGE_NS // 10**9} s are allowed")
        return sample

    def _unknown(self, sensor: str) -> Refusal:
        names = ", ".join(sorted(self._remotes)) or "none; give a sensor `type: remote` in the config"
        return Refusal(
            grpc.StatusCode.NOT_FOUND,
            f"{sensor[:80]!r} is no remote sensor; the remote sensors are: {names}",
            "UNKNOWN_SENSOR",
            metadata={"sensor": sensor[:80]},
        )
