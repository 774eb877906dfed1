"""A serial line is flooded with a megabyte of junk a second; another one gives a byte a second."""

from __future__ import annotations

import contextlib
import os
import pty
import tempfile
import threading
import time
import tty
from pathlib import Path

from benchmarks.faults.live_agent import LOST, LiveAgent, holder_of, memory_mb
from benchmarks.faults.measured import Measured

LASTS_S = 10.0
GROWN_MB = 10.0


def run() -> Measured:
    """Write to both."""
    stopping = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        flooded, slow = _line(Path(folder) / "flooded"), _line(Path(folder) / "slow")
        threads = [
            threading.Thread(target=_write, args=(stopping, flooded, os.urandom(10_000), 0.01)),
            threading.Thread(target=_write, args=(stopping, slow, b"7", 1.0)),
        ]
        sensors = {
            "flooded": {"type": "imu_wit", "port": f"{folder}/flooded", "baud": 115_200, "rate_hz": 100},
            "slow": {"type": "imu_csv", "port": f"{folder}/slow", "rate_hz": 100},
            "camera": {"type": "synthetic_camera"},
        }
        with LiveAgent(sensors) as live:
            live.shows("camera", 0)
            pid = holder_of(live.children(), Path(f"{folder}/flooded"))
            for thread in threads:
                thread.start()
            time.sleep(2.0)
            usual_mb, mark = memory_mb(pid), live.subscriber.mark()
            time.sleep(LASTS_S)
            grown_mb = memory_mb(pid) - usual_mb
            lost = live.stream("flooded")
            missed = live.missed(mark, {"camera"})
            stopping.set()
            for thread in threads:
                thread.join()
    return Measured(
        f"the driver takes less than {GROWN_MB:g} MB more, the words are of the baud rate, others miss none",
        f"{grown_mb:+.1f} MB; told {lost.reason[:120]!r}; others missed {missed} windows",
        grown_mb < GROWN_MB and lost.state == LOST and "baud" in lost.reason and not missed,
    )


def _line(link: Path) -> int:
    """A pseudo-terminal under a name; returns the end to write to."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    link.symlink_to(os.ttyname(slave))
    return master


def _write(stopping: threading.Event, descriptor: int, data: bytes, every_s: float) -> None:
    while not stopping.wait(every_s):
        with contextlib.suppress(BlockingIOError):
            os.write(descriptor, data)
