"""An inertial unit whose driver has one topic for acceleration and one for rotation, as one sensor.

Cameras of RealSense publish `accel/sample` and `gyro/sample` by default, each with zeros for what the other measures.
Rows are those of the gyroscope, which is the faster; acceleration is interpolated between its neighbours, as the
driver's own `unite_imu_method` does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from agent.exchange import ros_messages
from agent.exchange.bag_topics import FirstMessages, ImuTopic, Received
from agent.exchange.ros_messages import Inertial, Vector
from agent.exchange.stamp_clock import StampClock
from drivers.driver import BadData, Sample

MOST_WAITING = 4096
"""Rows of the gyroscope that wait for an acceleration after them."""
LONGEST_BRIDGE_NS = 200_000_000
"""Accelerations that are further apart are not interpolated."""
_ACCEL, _GYRO = "accel", "gyro"


def pairs_of(readings: Mapping[str, Sequence[Inertial]]) -> dict[str, str]:
    """Topics that measure acceleration only -> the topic beside each that measures rotation only.

    A value that is exactly zero in every message was not measured.
    """
    accel = {name for name, found in readings.items() if _measures(found) == (True, False)}
    gyro = {name for name, found in readings.items() if _measures(found) == (False, True)}
    return {name: other for name in accel for other in gyro if name.replace(_ACCEL, _GYRO) == other != name}


def _measures(readings: Sequence[Inertial]) -> tuple[bool, bool]:
    return any(any(row.accel or ()) for row in readings), any(any(row.gyro or ()) for row in readings)


class SplitImu(ImuTopic):
    """Rows of a unit in two topics."""

    def __init__(
        self, name: str, halves: Mapping[str, tuple[FirstMessages, StampClock]], accel: str, gyro: str
    ) -> None:
        """`halves` are both topics. Raises BadData as ImuTopic does."""
        (accel_probed, self._accel_clock), (gyro_probed, gyro_clock) = halves[accel], halves[gyro]
        self._accel_topic = accel
        first = next(row.accel for row in accel_probed.readings if row.accel and any(row.accel))
        rows = FirstMessages(
            gyro_probed.stamps, [Inertial(first, row.gyro) for row in gyro_probed.readings if row.gyro]
        )
        super().__init__(name, rows, gyro_clock)
        self.notes.append(f"its acceleration is that of {accel}, interpolated at the times of {gyro}")
        self._before: tuple[int, Vector] | None = None
        self._waiting: deque[tuple[int, Vector]] = deque()

    @staticmethod
    def common_name(accel: str, gyro: str) -> str:
        """Return the name of a unit after its topics: /camera/accel/sample and /camera/gyro/sample are /camera/imu."""
        parts = zip(accel.split("/"), gyro.split("/"), strict=True)
        kept = [one if one == other else one.replace(_ACCEL, "imu") for one, other in parts]
        return "/".join(kept).removesuffix("/sample")

    def samples(self, received: Received) -> list[Sample]:
        """The samples that a message completes; one that cannot be used is counted."""
        if received.topic != self._accel_topic:
            return super().samples(received)
        t_ns, _ = self._accel_clock.capture_ns(received.stamp)
        try:
            accel = ros_messages.inertial(received.message).accel
        except BadData as error:
            self.count(f"messages with {error}")
            return []
        return self._take(t_ns, accel) if accel else []

    def flush(self) -> list[Sample]:
        """Return the last block; the rows after the last acceleration have that one."""
        done = self._take(self._waiting[-1][0], self._before[1]) if self._waiting and self._before else []
        return done + super().flush()

    def _add(self, t_ns: int, row: Inertial) -> list[Sample]:
        if row.gyro is None:
            raise BadData("no angular velocity")
        self._waiting.append((t_ns, row.gyro))
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.count("rows of rotation without an acceleration near them")
        return []

    def _take(self, t_ns: int, accel: Vector) -> list[Sample]:
        """Complete the rows up to an acceleration."""
        before_ns, before = self._before or (t_ns, accel)
        done = []
        while self._waiting and self._waiting[0][0] <= t_ns:
            at_ns, gyro = self._waiting.popleft()
            if t_ns - before_ns > LONGEST_BRIDGE_NS:
                self.count("rows of rotation without an acceleration near them")
                continue
            along = (at_ns - before_ns) / (t_ns - before_ns) if at_ns > before_ns else 0.0
            x, y, z = (a + along * (b - a) for a, b in zip(before, accel, strict=True))
            done += self.blocks.add(at_ns, (x, y, z, *gyro))
        self._before = (t_ns, accel)
        return done
