"""A sensor of another host stamps 300 ms behind the clock, another 300 ms ahead of it; a third is sound."""

from __future__ import annotations

import threading
import time

import numpy as np

from benchmarks.faults.capture_only import CaptureOnly
from benchmarks.faults.measured import Measured
from drivers.driver import Sample

TOLD_S = 3.0
WITHIN_S = 0.05
RATE_HZ = 10.0
OFFSETS_S = {"behind": 0.3, "ahead": -0.3, "sound": 0.0}
"""By how much stamps are older than what they are given to."""


def run() -> Measured:
    """Push pictures with such stamps."""
    stopping = threading.Event()
    sensors = {name: {"type": "remote", "modality": "depth", "rate_hz": RATE_HZ} for name in OFFSETS_S}
    with CaptureOnly(sensors) as agent:
        pushing = threading.Thread(target=_push, args=(agent, stopping))
        pushing.start()
        began_s = time.monotonic()
        agent.wait_for("behind", "lag the clock", 10 * TOLD_S)
        agent.wait_for("ahead", "ahead of the clock", 10 * TOLD_S)
        told_s = time.monotonic() - began_s
        behind, ahead, sound = (agent.stream(name) for name in OFFSETS_S)
        stopping.set()
        pushing.join()
    told = "lag" in behind.reason and "ahead" in ahead.reason
    off_s = max(abs(found.delay_s - OFFSETS_S[found.sensor]) for found in (behind, ahead, sound))
    return Measured(
        f"both told within {TOLD_S:g} s, offsets within {WITHIN_S * 1e3:g} ms; the sound sensor is not accused",
        f"told within {told_s:.1f} s: {behind.reason!r}, {ahead.reason!r}; offsets within {off_s * 1e3:.0f} ms; "
        f"the sound one: {sound.reason or 'nothing'}",
        told and told_s <= TOLD_S and off_s < WITHIN_S and not sound.reason,
    )


def _push(agent: CaptureOnly, stopping: threading.Event) -> None:
    rng = np.random.default_rng(1)
    while not stopping.wait(1 / RATE_HZ):
        for name, offset_s in OFFSETS_S.items():
            taken_ns = agent.pipeline.clock.now_ns() - round(offset_s * 1e9)
            agent.push(name, "depth", Sample(taken_ns, rng.uniform(1, 3, (48, 64)).astype(np.float32)))
