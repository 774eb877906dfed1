"""A network camera sends truncated pictures, one of 30,000 x 30,000, garbage, a part without end, and another size."""

from __future__ import annotations

import time
from typing import get_args

from benchmarks.faults.live_agent import LiveAgent, memory_mb, seconds_to
from benchmarks.faults.measured import Measured
from benchmarks.faults.odd_camera import Mode, OddCamera

KINDS: tuple[Mode, ...] = tuple(m for m in get_args(Mode) if m in ("cut", "bomb", "garbage", "endless", "other size"))
LASTS_S = 3.0
BACK_S = 2.0
PEAK_MB = 100.0


def run() -> Measured:
    """Send each kind for a while, then sound pictures again."""
    found, met = [], True
    sensors = {"camera": {"type": "camera", "rate_hz": OddCamera.rate_hz}, "imu": {"type": "synthetic_imu"}}
    with OddCamera() as source:
        sensors["camera"]["source"] = source.url
        with LiveAgent(sensors) as live:
            begin = live.settle()
            usual_mb = max(memory_mb(pid) for pid in live.children())
            peak_mb = usual_mb
            for kind in KINDS:
                bad = live.stream("camera").drops["bad data"]
                source.mode = kind
                until_s = time.monotonic() + LASTS_S
                while time.monotonic() < until_s:
                    peak_mb = max(peak_mb, *(memory_mb(pid, "VmHWM") for pid in live.children()))
                    time.sleep(0.05)
                stream = live.stream("camera")
                counted = stream.drops["bad data"] - bad
                source.mode = "live"
                back, back_ns = live.subscriber.mark(), time.time_ns()
                back_s = seconds_to(live.shows("camera", back), back_ns)
                found.append(f"{kind}: {counted} counted, back after {back_s:.1f} s")
                met = met and bool(counted or stream.reason) and back_s <= BACK_S
            missed = live.missed(begin, {"imu"})
    return Measured(
        f"counted or told; pictures {BACK_S:g} s after; driver below {PEAK_MB:g} MB more; others miss none",
        f"{'; '.join(found)}; driver {peak_mb - usual_mb:+.0f} MB; others missed {missed} windows",
        met and not missed and peak_mb - usual_mb < PEAK_MB,
    )
