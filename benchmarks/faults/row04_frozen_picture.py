"""A network camera sends the same picture for ever; before that, a scene that stands still but for noise."""

from __future__ import annotations

import time

from benchmarks.faults.live_agent import LiveAgent, seconds_to
from benchmarks.faults.measured import Measured
from benchmarks.faults.odd_camera import OddCamera
from protos import perception_pb2 as pb

STILL_S = 15.0
TOLD_S = 2.5
"""Two seconds, and a look at health."""


def run() -> Measured:
    """Freeze it."""
    sensors = {
        "camera": {"type": "camera", "rate_hz": OddCamera.rate_hz},
        "imu": {"type": "synthetic_imu"},
    }
    with OddCamera() as source:
        sensors["camera"]["source"] = source.url
        with LiveAgent(sensors) as live:
            mark = live.settle()
            time.sleep(STILL_S)
            false = sum(_stuck(event) for event in live.subscriber.since(mark))
            mark = live.subscriber.mark()
            source.mode = "frozen"
            frozen_ns = time.time_ns()
            told = live.turns("camera", [pb.StreamHealth.STATE_DEGRADED], mark)
            told_s = seconds_to(told, frozen_ns)
    return Measured(
        f"told as stuck within {TOLD_S:g} s; a still scene with noise never is",
        f"told after {told_s:.2f} s: {told.health.reason!r}; {false} false alarms in {STILL_S:g} s of a still scene",
        told_s <= TOLD_S and "stuck" in told.health.reason and not false,
    )


def _stuck(event: pb.Event) -> bool:
    return event.HasField("health") and "stuck" in event.health.reason
