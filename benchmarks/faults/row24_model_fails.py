"""The model raises CUDA out of memory on every tick for 8 s, in the agent's own process."""

from __future__ import annotations

import asyncio

import torch

from benchmarks.faults.measured import Measured
from benchmarks.faults.troubled_model import told, troubled_agent
from protos import perception_pb2 as pb

LASTS_S = 8.0


def run() -> Measured:
    """Inject it, and end it."""
    return asyncio.run(_measure())


async def _measure() -> Measured:
    async with troubled_agent() as (agent, trouble):
        before = await agent.client.status()
        mark = len(agent.events)
        trouble.error = torch.OutOfMemoryError("CUDA out of memory")
        failing_s = await agent.until(told(pb.ModelState.STATE_FAILING), mark)
        unhealthy_s = failing_s + await agent.until_serves(False)
        await asyncio.sleep(max(0.0, LASTS_S - unhealthy_s))
        exact = await agent.accounted()
        mark, trouble.error = len(agent.events), None
        back_s = await agent.until(lambda e: e.HasField("embedding"), mark)
        await agent.until(told(pb.ModelState.STATE_OK, pb.ModelState.STATE_OVERLOADED), mark)
        healthy_s = await agent.until_serves(True)
        after = await agent.client.status()
    lost = after.ticks_shed["model error"] - before.ticks_shed["model error"]
    found = (
        f"FAILING told after {failing_s:.1f} s, NOT_SERVING after {unhealthy_s:.1f} s; {lost} ticks shed "
        f"'model error', sum {'exact' if exact else 'NOT exact'}; next tick {back_s:.1f} s after the end, SERVING "
        f"{healthy_s:.1f} s later"
    )
    met = exact and failing_s < 7 and unhealthy_s < 8 and back_s < 2
    return Measured("told and NOT_SERVING within 7 s; ticks accounted for; ticks at once when it ends", found, met)
