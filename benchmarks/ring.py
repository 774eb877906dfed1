"""What a camera frame costs on its way from one process to another.

    python benchmarks/ring.py [--frames 2000] [--width 640] [--height 480]

Prints, for frames that another process writes into the ring: the time to write one, the time to read one as a view of
its slot and as a copy, and the time from the begin of the write to its reader having it, beside the floor, which is one
copy of the frame. Every third frame finds both views taken, so that it is copied.
"""

from __future__ import annotations

import argparse
import os
import select
import subprocess
import sys
import time

import numpy as np
from numpy.typing import NDArray

from agent.capture.ring import Ring
from drivers.driver import Sample

DEPTH = 8
VIEWS = 2
PACE_S = 0.002
SHARES = (10, 50, 99)
"""Percentiles; the tenth tells the cost where other programs use the machine."""

WRITER = """
import sys, time
import numpy as np
from agent.capture.ring import Ring
from drivers.driver import Sample
memory_fd, event_fd, depth, frames, height, width = map(int, sys.argv[1:7])
image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
ring = Ring(memory_fd, event_fd, depth, image.nbytes, "vision", int(sys.argv[8]))
spent = []
for _ in range(frames):
    time.sleep(float(sys.argv[7]))
    start_ns = time.monotonic_ns()
    ring.write(Sample(start_ns, image))
    spent.append(time.monotonic_ns() - start_ns)
print(*np.percentile(spent, (10, 50, 99)))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Microseconds per frame through the shared-memory ring.")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    arguments = parser.parse_args()
    image = np.zeros((arguments.height, arguments.width, 3), np.uint8)
    floor = _copy_ns(image)
    ring = Ring.create(DEPTH, image.nbytes, "vision", VIEWS)
    numbers = [*ring.fds, DEPTH, arguments.frames, arguments.height, arguments.width, PACE_S, VIEWS]
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, *map(str, numbers)], pass_fds=ring.fds, stdout=subprocess.PIPE, text=True
    )
    views, copies, totals = _read(ring, arguments.frames)
    written, _ = writer.communicate()
    write = np.array(written.split(), float)
    view, copy, total = (np.percentile(times, SHARES) for times in (views, copies, totals))
    print(f"{arguments.width} x {arguments.height} RGB, {image.nbytes / 1e3:.0f} kB, {arguments.frames} frames")
    print(f"{'microseconds':36} {'p10':>8} {'p50':>8} {'p99':>8}")
    rows = {"floor: one copy": floor, "write": write, "read, a view": view, "read, a copy": copy}
    rows["begin of write -> view of the other"] = total
    for name, row in rows.items():
        print(f"{name:36} " + " ".join(f"{value / 1e3:8.1f}" for value in row))
    print(f"lost: {ring.lapped}")
    ring.close()


def _read(ring: Ring, frames: int) -> tuple[list[int], list[int], list[int]]:
    """Wait for and read every frame; nanoseconds of reads as views, as copies, and from each write's begin to its
    view.
    """
    poll = select.poll()
    poll.register(ring.event_fd, select.POLLIN)
    views: list[int] = []
    copies: list[int] = []
    totals: list[int] = []
    kept: list[Sample] = []
    while len(views) + len(copies) + ring.lapped < frames:
        poll.poll(1000)
        start_ns = time.monotonic_ns()
        while (sample := ring.read()) is not None:
            end_ns = time.monotonic_ns()
            if len(kept) == VIEWS:
                copies.append(end_ns - start_ns)
                kept.clear()
            else:
                views.append(end_ns - start_ns)
                totals.append(end_ns - sample.t_ns)
                kept.append(sample)
            start_ns = time.monotonic_ns()
    return views, copies, totals


def _copy_ns(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Nanoseconds of a copy into slots as far apart in time and memory as those of the ring."""
    slots = np.ones((DEPTH + 1, *image.shape), np.uint8)
    spent = []
    for number in range(500):
        time.sleep(PACE_S)
        start_ns = time.monotonic_ns()
        np.copyto(slots[number % len(slots)], image)
        spent.append(time.monotonic_ns() - start_ns)
    return np.percentile(spent, SHARES)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
