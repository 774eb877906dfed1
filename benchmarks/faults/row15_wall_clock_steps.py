"""The wall clock steps forward by an hour and back by ten minutes beyond, while the monotonic clock runs on."""

from __future__ import annotations

import itertools
import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.faults.live_agent import LOST, LiveAgent
from benchmarks.faults.measured import Measured

STEPS_S = (3600, -600)
LASTS_S = 6.0
HOP_S = 0.5

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static volatile long long *shift;
__attribute__((constructor)) static void begin(void) {
    int fd = open(getenv("CLOCK_SHIFT"), O_RDONLY);
    if (fd >= 0) shift = mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
}
static long long now_shift(void) { return shift ? *shift : 0; }
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(id, t);
    if (!status && id == CLOCK_REALTIME) t->tv_sec += now_shift();
    return status;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec s;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &s);
    t->tv_sec = s.tv_sec; t->tv_usec = s.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *t) {
    struct timespec s;
    clock_gettime(CLOCK_REALTIME, &s);
    if (t) *t = s.tv_sec;
    return s.tv_sec;
}
"""
"""Put before the C library: its clocks of wall time, shifted by the seconds that stand in a file."""


def run() -> Measured:
    """Step it under a running agent."""
    bar = "every tick once, none missing, no sensor lost or started anew"
    compiler = shutil.which("cc")
    if compiler is None:
        return Measured(bar, "no C compiler; sudo apt install g++", met=False)
    with tempfile.TemporaryDirectory() as folder:
        source, shim, shift = Path(folder) / "shim.c", Path(folder) / "shim.so", Path(folder) / "shift"
        source.write_text(SHIM)
        shift.write_bytes(struct.pack("<q", 0))
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(shim), str(source), "-ldl"], check=True)
        environment = {**os.environ, "LD_PRELOAD": str(shim), "CLOCK_SHIFT": str(shift)}
        seen = subprocess.run(
            ["date", "+%s"], env={**environment, "CLOCK_SHIFT": str(_shifted(Path(folder), 3600))}, capture_output=True
        )
        works = abs(int(seen.stdout) - time.time() - 3600) < 60
        sensors = {"camera": {"type": "synthetic_camera"}, "imu": {"type": "synthetic_imu"}}
        with LiveAgent(sensors, environment) as live:
            mark, total = live.settle(), 0
            for step_s in STEPS_S:
                total += step_s
                with shift.open("r+b") as file:
                    file.write(struct.pack("<q", total))
                time.sleep(LASTS_S)
            events = live.subscriber.since(mark)
            ticks = [event.capture_ns for event in events if event.HasField("embedding")]
            lost = [event for event in events if event.HasField("health") and event.health.state == LOST]
            missed = live.missed(mark, live.sensors)
            status = live.agent.status()
        gaps = sum(b - a != round(HOP_S * 1e9) for a, b in itertools.pairwise(ticks))
        restarts = sum(stream.restarts for stream in status.streams)
    return Measured(
        bar,
        f"{len(ticks)} ticks in {len(STEPS_S) * LASTS_S:g} s, {gaps} not {HOP_S:g} s after the one before, {missed} "
        f"windows missing, {len(lost)} losses, {restarts} restarts{'' if works else '; the step was not seen'}",
        works and not gaps and not missed and not lost and not restarts and len(ticks) > LASTS_S,
    )


def _shifted(folder: Path, seconds: int) -> Path:
    path = folder / "try"
    path.write_bytes(struct.pack("<q", seconds))
    return path
