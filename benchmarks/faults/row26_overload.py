"""Every window takes 0.2 s longer, so that a tick of five costs two hops of 0.5 s, for 20 s."""

from __future__ import annotations

import asyncio
import time

from agent.embedding.reduction import LEFT_OUT
from benchmarks.faults.measured import Measured
from benchmarks.faults.troubled_model import told, troubled_agent
from protos import perception_pb2 as pb

LASTS_S = 20.0
HOP_S = 0.5
WINDOW_S = 0.2


def run() -> Measured:
    """Inject it, and end it."""
    return asyncio.run(_measure())


async def _measure() -> Measured:
    async with troubled_agent() as (agent, trouble):
        await asyncio.sleep(5.0)
        quiet, mark, began = len(agent.events), len(agent.events), time.monotonic()
        trouble.pass_s = WINDOW_S
        told_s = await agent.until(told(pb.ModelState.STATE_OVERLOADED), mark)
        await asyncio.sleep(max(0.0, began + LASTS_S - time.monotonic()))
        exact = await agent.accounted()
        state = (await agent.client.status()).model_state
        late, mark, trouble.pass_s = agent.events[quiet:], len(agent.events), 0.0
        back_s = await agent.until(told(pb.ModelState.STATE_OK), mark)
        status = await agent.client.status()
    ticks = [event for event in late if event.HasField("embedding")]
    ages = sorted((event.publish_ns - event.capture_ns) / 1e9 / HOP_S for event in ticks)
    windows = [window for event in ticks for window in event.embedding.windows]
    turns = {
        sensor: sum(w.present for w in windows if w.sensor == sensor) for sensor in sorted({w.sensor for w in windows})
    }
    named = all(w.present or w.missing_reason == LEFT_OUT for w in windows)
    found = (
        f"{len(ticks)} ticks told, age p50 {ages[len(ages) // 2]:.2f}, max {ages[-1]:.2f} hops; OVERLOADED after "
        f"{told_s:.1f} s: {'; '.join(state.reduced)}; windows {turns}; {status.ticks_shed['behind']} shed 'behind' in "
        f"all, sum {'exact' if exact else 'NOT exact'}; all back {back_s:.1f} s after the end"
    )
    met = ages[-1] <= 2 and exact and back_s <= 5 and named and min(turns.values()) > 0
    return Measured(
        "at twice the load every event at most 2 hops old, what is left out named, back within 5 s", found, met
    )
