"""A camera's process hangs: one process after the other is stopped with SIGSTOP while it reads."""

from __future__ import annotations

import os
import signal
import time

from benchmarks.faults.live_agent import LIVES, LOST, LiveAgent, seconds_to
from benchmarks.faults.measured import Measured

RATES_HZ = {"camera": 10.0, "slow_camera": 4.0}
BARS_S = {"camera": 1.0, "slow_camera": 2.5, "imu": 1.0}
"""Ten periods of the sensor, and at least a second."""
HEALTH_S = 0.5
"""A little more: how often health is looked at."""
BACK_S = 2.0


def run() -> Measured:
    """Stop them."""
    sensors = {name: {"type": "synthetic_camera", "rate_hz": rate_hz} for name, rate_hz in RATES_HZ.items()}
    told: dict[str, float] = {}
    back: dict[str, float] = {}
    missed = 0
    with LiveAgent({**sensors, "imu": {"type": "synthetic_imu"}}) as live:
        for victim in live.children():
            mark = live.settle()
            stopped_ns = time.time_ns()
            os.kill(victim, signal.SIGSTOP)
            lost = live.turns(None, [LOST], mark)
            name = lost.health.sensor
            again = live.turns(name, LIVES, live.subscriber.events.index(lost))
            told[name], back[name] = seconds_to(lost, stopped_ns), seconds_to(again, lost.publish_ns)
            missed += live.missed(mark, live.sensors - {name})
    words = "; ".join(f"{n}: told after {told[n]:.2f} s, back {back[n]:.2f} s later" for n in sorted(told))
    met = set(told) == set(BARS_S) and all(
        told[n] <= BARS_S[n] + HEALTH_S and back[n] <= BACK_S + HEALTH_S for n in told
    )
    return Measured(
        f"told within ten periods, 1 s or more, samples {BACK_S:g} s later (and {HEALTH_S:g} s each); others miss none",
        f"{words}; others missed {missed} windows",
        met and not missed,
    )
