"""Half a minute in which sensors' processes are killed, stopped and made to crash, one every two seconds."""

from __future__ import annotations

import os
import random
import signal
import time

from benchmarks.faults.live_agent import LIVES, LiveAgent, descriptors, memory_mb, wait_until
from benchmarks.faults.measured import Measured

LASTS_S = 30.0
EVERY_S = 2.0
SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP)
GROWN_MB = 30.0


def run() -> Measured:
    """Kill one after the other, and count."""
    rng = random.Random(4)
    sensors = {f"camera_{k}": {"type": "synthetic_camera", "width": 64, "height": 48, "seed": k} for k in range(3)}
    with LiveAgent({**sensors, "imu": {"type": "synthetic_imu"}, "mic": {"type": "synthetic_microphone"}}) as live:
        live.settle()
        pid = live.agent.process.pid
        opened, threads, before_mb = descriptors(pid), _threads(pid), memory_mb(pid)
        polls = exact = kills = 0
        ends_s, due_s = time.monotonic() + LASTS_S, time.monotonic()
        while time.monotonic() < ends_s:
            if time.monotonic() >= due_s and (children := live.children()):
                os.kill(rng.choice(children), rng.choice(SIGNALS))
                kills, due_s = kills + 1, due_s + EVERY_S
            status = live.agent.status()
            accounted = status.ticks_delivered + sum(status.ticks_shed.values()) + status.ticks_in_flight
            polls, exact = polls + 1, exact + (status.ticks_produced == accounted)
            time.sleep(0.2)
        back_s = wait_until(
            "all sensors", lambda: all(s.state in LIVES for s in live.agent.status().streams), timeout_s=30
        )
        live.settle()
        left = descriptors(pid) - opened, _threads(pid) - threads, memory_mb(pid) - before_mb
        children = live.children()
    orphans = [child for child in children if os.path.exists(f"/proc/{child}")]
    return Measured(
        "produced = delivered + shed + in flight whenever asked; all sensors back; no descriptor, thread, process left",
        f"{exact} of {polls} exact; {kills} ended, all back {back_s:.1f} s after the last; {left[0]:+} descriptors, "
        f"{left[1]:+} threads, {left[2]:+.1f} MB, {len(orphans)} processes left",
        exact == polls and not orphans and left[0] <= 0 and left[1] <= 0 and left[2] < GROWN_MB,
    )


def _threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))
