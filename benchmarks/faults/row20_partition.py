"""The network between agent and client is cut for 20 s, then heals; what was connected stays dead for ever."""

from __future__ import annotations

import asyncio
import math
import time
from itertools import pairwise

from agent.client import Client, ClientError
from benchmarks.faults.measured import Measured
from benchmarks.faults.partition import Partition
from benchmarks.faults.served import seconds_until, served
from protos import perception_pb2 as pb

BAR = "client notices <= 15 s, agent frees <= 20 s, resumed <= 2 s after the heal, nothing missing or doubled"
NOTICED_S, FREED_S, RESUMED_S = 15.0, 20.0, 2.0
BEFORE_S = 21.0
"""Connected before the cut: long enough for more pings than gRPC sends by default while nothing else is sent."""
CUT_S = 20.5


def run() -> Measured:
    """Cut, heal, and count what came."""
    return asyncio.run(_run())


async def _run() -> Measured:
    async with served() as agent, Partition(agent.address) as partition:
        events: list[tuple[float, pb.Event]] = []
        noticed = asyncio.create_task(_noticed(partition.address))
        async with Client(partition.address) as client:
            following = asyncio.create_task(_follow(client, events))
            await asyncio.sleep(BEFORE_S)
            partition.cut()
            cut = time.monotonic()

            async def is_freed() -> bool:
                return (await agent.status()).subscribers == 0

            freed_s = await seconds_until(is_freed, CUT_S)
            noticed_s = (await noticed) - cut
            await asyncio.sleep(max(0.0, cut + CUT_S - time.monotonic()))
            partition.heal()
            healed = time.monotonic()

            async def is_resumed() -> bool:
                return events[-1][0] > healed

            await seconds_until(is_resumed, 30)
            resumed_s = next((at for at, _ in events if at > healed), math.inf) - healed
            await asyncio.sleep(1)
            following.cancel()
            await asyncio.wait([following])
    seqs = [event.seq for _, event in events]
    wrong = sum(b - a != 1 for a, b in pairwise(seqs))
    found = (
        f"client noticed after {noticed_s:.1f} s, agent freed after {freed_s:.1f} s, first event "
        f"{resumed_s:.2f} s after the heal; of {len(seqs)} events {wrong} missing or doubled"
    )
    met = noticed_s <= NOTICED_S and freed_s <= FREED_S and resumed_s <= RESUMED_S and not wrong
    return Measured(BAR, found, met)


async def _follow(client: Client, events: list[tuple[float, pb.Event]]) -> None:
    async for event in client.subscribe(reconnect=True):
        received = time.monotonic()
        events.append((received, event))


async def _noticed(address: str) -> float:
    """When a client that does not reconnect is told that its agent is gone."""
    async with Client(address) as client:
        try:
            async for _ in client.subscribe():
                pass
        except ClientError:
            pass
    return time.monotonic()
