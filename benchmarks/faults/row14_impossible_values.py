"""Samples are NaN, infinite, 3e38, full scale throughout or zero throughout, pushed to sensors of another process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from agent.client.client import vector_of
from benchmarks.faults.live_agent import LiveAgent, present
from benchmarks.faults.measured import Measured
from drivers.driver import Modality, Sample

VALUES = {"NaN": np.nan, "infinite": np.inf, "3e38": 3e38, "zero": 0.0}
LASTS_S = 4.0
RATE_HZ = 10.0
Pushed = tuple[str, Modality, Sample]


def run() -> Measured:
    """Push each kind for a while, then sound values again."""
    sensors = {
        "depth": {"type": "remote", "modality": "depth", "rate_hz": RATE_HZ, "width": 64, "height": 48},
        "thermal": {"type": "remote", "modality": "thermal", "rate_hz": RATE_HZ, "width": 64, "height": 48},
        "imu": {"type": "remote", "modality": "imu", "rate_hz": 100.0},
        "camera": {"type": "synthetic_camera"},
    }
    pushed = set(sensors) - {"camera"}
    with LiveAgent(sensors) as live:
        wrong, present_while, refused = 0, [], 0
        live.agent.ask(lambda client: client.ingest(_samples(None, 7.0)))
        begin = live.subscriber.mark()
        for name, value in VALUES.items():
            mark = live.subscriber.mark()
            report = live.agent.ask(lambda client, value=value: client.ingest(_samples(value, LASTS_S)))
            refused += sum(report.rejected.values())
            late = [e for e in live.subscriber.since(mark) if e.HasField("embedding")][-3:]
            if any(present(event) & (pushed - {"thermal"} if name == "zero" else pushed) for event in late):
                present_while.append(name)
        back = live.subscriber.mark()
        live.agent.ask(lambda client: client.ingest(_samples(None, 7.0)))
        recovered = any(present(event) >= pushed for event in live.subscriber.since(back))
        for event in live.subscriber.since(begin):
            for window in event.embedding.windows:
                wrong += window.present and not np.isfinite(vector_of(window.vector)).all()
        missed = live.missed(begin, {"camera"})
        events = len([e for e in live.subscriber.since(begin) if e.HasField("embedding")])
    return Measured(
        "no vector that is not finite; such windows are missing with a reason; sound values are taken again",
        f"{wrong} such vectors in {events} ticks; {refused} samples refused at the door; present all the same: "
        f"{', '.join(present_while) or 'none'}; {'taken' if recovered else 'not taken'} again; others missed {missed}",
        not wrong and not present_while and recovered and not missed,
    )


async def _samples(value: float | None, seconds: float) -> AsyncIterator[Pushed]:
    """At the pace of the clock; None: sound ones."""
    rng = np.random.default_rng(2)
    for _ in range(round(seconds * RATE_HZ)):
        plane = (2 + rng.random((48, 64))).astype(np.float32)
        rows = rng.normal([0, 0, 9.8, 0, 0, 0], 0.05, (10, 6)).astype(np.float32)
        if value is not None:
            plane[:], rows[:] = value, value
        yield "depth", "depth", Sample(0, plane)
        yield "thermal", "thermal", Sample(0, plane * 10)
        yield "imu", "imu", Sample(0, rows, 100.0)
        await asyncio.sleep(1 / RATE_HZ)
