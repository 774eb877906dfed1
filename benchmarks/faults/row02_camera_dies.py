"""A network camera is killed, and is back under its address after 10 s; then it goes and comes 40 times quickly."""

from __future__ import annotations

import os
import time

from real_sources import MjpegServer, missing

from agent.clock import RunClock
from benchmarks.faults.live_agent import LOST, LiveAgent, descriptors, memory_mb, seconds_to
from benchmarks.faults.measured import Measured
from drivers.camera import Camera, CameraOptions
from drivers.driver import DriverError

AWAY_S = 10.0
BACK_S = 2.0
CYCLES = 40


def run() -> Measured:
    """Kill ffmpeg, which is the camera."""
    bar = (
        f"pictures {BACK_S:g} s after its return; at most a line of log an attempt; no descriptors or memory per cycle"
    )
    if absent := missing("ffmpeg"):
        return Measured(bar, absent, met=False)
    with (
        MjpegServer(width=160, height=120) as source,
        LiveAgent(
            {"camera": {"type": "camera", "source": source.url, "rate_hz": 15}, "imu": {"type": "synthetic_imu"}}
        ) as live,
    ):
        mark = live.settle()
        killed_ns = time.time_ns()
        source.stop()
        lost_s = seconds_to(live.turns("camera", [LOST], mark), killed_ns)
        time.sleep(max(0.0, AWAY_S - (time.time_ns() - killed_ns) / 1e9))
        lines = len(live.agent.stderr.splitlines())
        back = live.subscriber.mark()
        source.start()
        back_ns = time.time_ns()
        back_s = seconds_to(live.shows("camera", back), back_ns)
        missed = live.missed(mark, {"imu"})
        opened, grown_mb = _cycles(source)
    return Measured(
        bar,
        f"told after {lost_s:.2f} s; pictures {back_s:.2f} s after its return; {lines} lines of log in {AWAY_S:g} s; "
        f"others missed {missed}; {CYCLES} cycles: {opened:+} descriptors, {grown_mb:+.1f} MB",
        back_s <= BACK_S and lines <= AWAY_S and not missed and opened <= 0 and grown_mb < 10,
    )


def _cycles(source: MjpegServer) -> tuple[int, float]:
    """Connect and lose the camera again and again; what a cycle leaves open, and in memory."""
    clock, pid = RunClock.start(), os.getpid()
    opened, before_mb = 0, 0.0
    for cycle in range(CYCLES):
        camera = Camera(CameraOptions(source.url), clock)
        try:
            camera.connect()
            camera.read(5.0)
        except DriverError:
            pass  # ffmpeg serves one client at a time and starts anew for each
        camera.close()
        source.restart()
        if cycle == CYCLES // 4:
            opened, before_mb = descriptors(pid), memory_mb(pid)
    return descriptors(pid) - opened, memory_mb(pid) - before_mb
