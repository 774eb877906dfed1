"""A network camera stays connected and sends nothing for 5 s."""

from __future__ import annotations

import time

from benchmarks.faults.live_agent import LOST, LiveAgent, seconds_to
from benchmarks.faults.measured import Measured
from benchmarks.faults.odd_camera import OddCamera

SILENT_S = 5.0
TOLD_S, BACK_S = 1.5, 2.0


def run() -> Measured:
    """Let it fall silent."""
    with OddCamera() as source, LiveAgent(_sensors(source)) as live:
        mark = live.settle()
        source.mode = "silent"
        silent_ns = time.time_ns()
        told_s = seconds_to(live.turns("camera", [LOST], mark), silent_ns)
        time.sleep(max(0.0, SILENT_S - told_s))
        back = live.subscriber.mark()
        source.mode = "live"
        back_ns = time.time_ns()
        back_s = seconds_to(live.shows("camera", back), back_ns)
        missed = live.missed(mark, {"imu"})
    return Measured(
        f"told within {TOLD_S:g} s (ten periods, a look at health); pictures {BACK_S:g} s after; others miss none",
        f"told after {told_s:.2f} s, pictures {back_s:.2f} s after it went on, others missed {missed} windows",
        told_s <= TOLD_S and back_s <= BACK_S and not missed,
    )


def _sensors(source: OddCamera) -> dict[str, dict[str, object]]:
    return {
        "camera": {"type": "camera", "source": source.url, "rate_hz": source.rate_hz},
        "imu": {"type": "synthetic_imu"},
    }
