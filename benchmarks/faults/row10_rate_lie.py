"""A microphone behind Ingest gives 1.01 times the rows that it says, through arrivals that jitter; others are sound."""

from __future__ import annotations

import threading
import time

import numpy as np

from benchmarks.faults.capture_only import CaptureOnly
from benchmarks.faults.measured import Measured
from drivers.driver import Sample

RATE_HZ = 16_000
FASTER = 1.01
ROWS = 320
TOLD_S = 10.0
WITHIN_PPM = 100.0
JITTER_S = 0.004
LASTS_S = 30.0
SENSORS = {
    "fast": {"type": "remote", "modality": "audio", "rate_hz": RATE_HZ},
    "sound": {"type": "remote", "modality": "audio", "rate_hz": RATE_HZ},
    "depth": {"type": "synthetic_depth", "rate_hz": 10.0},
}


def run() -> Measured:
    """Push at two rates."""
    stopping = threading.Event()
    with CaptureOnly(SENSORS) as agent:
        threads = [
            threading.Thread(target=_push, args=(agent, name, faster, stopping))
            for name, faster in (("fast", FASTER), ("sound", 1.0))
        ]
        for thread in threads:
            thread.start()
        began_s = time.monotonic()
        told_s, stream = agent.wait_for("fast", "skewed", 2 * TOLD_S)
        accused = 0
        while time.monotonic() - began_s < LASTS_S:
            accused += any("skewed" in agent.stream(name).reason for name in ("sound", "depth"))
            time.sleep(0.25)
        final = agent.stream("fast").skew_ppm
        stopping.set()
        for thread in threads:
            thread.join()
    off_ppm = abs(final - (FASTER - 1) * 1e6)
    return Measured(
        f"told within {TOLD_S:g} s, the skew within {WITHIN_PPM:g} ppm after {LASTS_S:g} s; sound ones never accused",
        f"told after {told_s:.1f} s ({stream.skew_ppm:+.0f} ppm then, {final:+.0f} ppm after {LASTS_S:g} s of "
        f"{(FASTER - 1) * 1e6:+.0f}); sound ones accused in {accused} looks",
        told_s <= TOLD_S and off_ppm <= WITHIN_PPM and not accused,
    )


def _push(agent: CaptureOnly, sensor: str, faster: float, stopping: threading.Event) -> None:
    rng = np.random.default_rng(len(sensor))
    began_s, number = time.monotonic(), 0
    while not stopping.is_set():
        number += 1
        due_s = began_s + number * ROWS / RATE_HZ / faster + rng.exponential(JITTER_S)
        stopping.wait(max(0.0, due_s - time.monotonic()))
        rows = rng.normal(0, 0.05, (ROWS, 1)).astype(np.float32)
        agent.push(sensor, "audio", Sample(0, rows, float(RATE_HZ)))
