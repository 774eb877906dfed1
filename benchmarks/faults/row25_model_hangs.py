"""The model does not come back from a tick for 12 s, while clients ask for queries and embeddings."""

from __future__ import annotations

import asyncio
import time

import grpc

from agent.client import ClientError
from benchmarks.faults.measured import Measured
from benchmarks.faults.troubled_model import Watched, told, troubled_agent
from protos import perception_pb2 as pb

LASTS_S = 12.0


def run() -> Measured:
    """Inject it, and end it."""
    return asyncio.run(_measure())


async def _measure() -> Measured:
    async with troubled_agent() as (agent, trouble):
        mark, began = len(agent.events), time.monotonic()
        trouble.open.clear()
        await asyncio.sleep(1.0)
        waiting = asyncio.create_task(_refused(agent))
        hung_s = 1.0 + await agent.until(told(pb.ModelState.STATE_HUNG), mark)
        await agent.until_serves(False)
        waited = await waiting
        asked = time.monotonic()
        refused = await _refused(agent)
        refused_ms = (time.monotonic() - asked) * 1e3
        reason = (await agent.client.status()).model_state.reason
        await asyncio.sleep(max(0.0, began + LASTS_S - time.monotonic()))
        exact = await agent.accounted()
        mark = len(agent.events)
        trouble.open.set()
        back_s = await agent.until(lambda e: e.HasField("embedding"), mark)
        serving_s = await agent.until_serves(True)
    found = (
        f"HUNG told after {hung_s:.1f} s ({reason!r}), then NOT_SERVING; what waited "
        f"{'refused' if waited else 'NOT refused'}, a new call {'refused' if refused else 'NOT refused'} in "
        f"{refused_ms:.0f} ms; sum {'exact' if exact else 'NOT exact'}; ticks again after {back_s:.1f} s, SERVING "
        f"{serving_s:.1f} s later"
    )
    most_ms = max(e.embedding.inference_ms for e in agent.events if e.HasField("embedding"))
    met = (
        hung_s < max(5.0, 3 * most_ms / 1e3) + 1.5
        and waited
        and refused
        and refused_ms < 1000
        and exact
        and back_s < 2
        and serving_s < 2
    )
    return Measured("told, NOT_SERVING and calls refused within 3 x p99 inference, 5 s at least", found, met)


async def _refused(agent: Watched) -> bool:
    try:
        await agent.client.add_query("a dog")
    except ClientError as error:
        return error.code == grpc.StatusCode.UNAVAILABLE
    return False
