"""A serial sensor is unplugged and plugged in again under its name: 5 times in an agent, 150 times in a driver."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from real_sources import PtyImu

from agent.clock import RunClock
from benchmarks.faults.live_agent import LIVES, LOST, LiveAgent, descriptors, memory_mb, seconds_to
from benchmarks.faults.measured import Measured
from drivers.driver import Disconnected
from drivers.imu.wit import WitImu, WitImuOptions

IN_AGENT, IN_DRIVER = 5, 150
BACK_S = 1.5
"""A second; health is looked at every half second."""


def run() -> Measured:
    """Close the pseudo-terminal, and open another one."""
    told, back = [], []
    with tempfile.TemporaryDirectory() as folder, PtyImu(Path(folder) / "ttyIMU") as source:
        sensors = {
            "imu": {"type": "imu_wit", "port": str(source.link), "baud": 115_200, "rate_hz": source.rate_hz},
            "camera": {"type": "synthetic_camera"},
        }
        with LiveAgent(sensors) as live:
            begin = live.settle()
            for _ in range(IN_AGENT):
                mark, pulled_ns = live.subscriber.mark(), time.time_ns()
                source.stop()
                told.append(seconds_to(live.turns("imu", [LOST], mark), pulled_ns))
                mark = live.subscriber.mark()
                source.start()
                plugged_ns = time.time_ns()
                back.append(seconds_to(live.turns("imu", LIVES, mark), plugged_ns))
            missed = live.missed(begin, {"camera"})
        left, grown_mb = _cycles(source)
    return Measured(
        f"samples {BACK_S:g} s after its return; no descriptor and no memory per cycle; others miss none",
        f"told after {max(told):.2f} s, samples after {max(back):.2f} s at most; {IN_DRIVER} cycles: {left:+} "
        f"descriptors, {grown_mb:+.1f} MB; others missed {missed} windows",
        max(back) <= BACK_S and left <= 0 and grown_mb < 2 and not missed,
    )


def _cycles(source: PtyImu) -> tuple[int, float]:
    """What is open, and in memory, after many of them, against after the first few."""
    imu, pid = WitImu(WitImuOptions(str(source.link), 115_200, rate_hz=source.rate_hz), RunClock.start()), os.getpid()
    opened, before_mb = 0, 0.0
    for cycle in range(IN_DRIVER):
        imu.connect()
        imu.read(5.0)
        source.stop()
        try:
            while True:
                imu.read(5.0)
        except Disconnected:
            pass
        imu.close()
        source.start()
        if cycle == 5:
            opened, before_mb = descriptors(pid), memory_mb(pid)
    return descriptors(pid) - opened, memory_mb(pid) - before_mb
