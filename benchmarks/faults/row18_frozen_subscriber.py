"""One subscriber is frozen (SIGSTOP); by plain gRPC, and by Watch without a word of what it has read."""

from __future__ import annotations

import asyncio
import signal
import time
from itertools import pairwise

import grpc
import numpy as np

from agent.client import Client
from benchmarks.faults.measured import Measured
from benchmarks.faults.served import Served, seconds_until, served
from benchmarks.faults.subscriber import subscriber
from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub

BAR = "frozen one freed <= 20 s, silent Watch ended 10 s after its window is full; others 0 gaps; RSS +< 20 MB"
FREED_S, ENDED_S, LEAST_MB = 20.0, 14.0, 20.0
LONGEST_S = 80.0
SETTLES_S = 8.0


def run() -> Measured:
    """Freeze one, and watch another that goes on."""
    return asyncio.run(_run())


async def _run() -> Measured:
    async with served() as agent, Client(agent.address) as client:
        seen: list[tuple[int, float]] = []
        other = asyncio.create_task(_follow(client, seen))
        async with subscriber(agent.address) as frozen:
            # The first windows of every sensor bring libraries and buffers that nobody's stall is to answer for.
            await asyncio.sleep(SETTLES_S)
            before_mb = agent.resident_mb()
            frozen.send_signal(signal.SIGSTOP)
            stopped = time.monotonic()
            begun = len(seen)
            silent = asyncio.create_task(_silent_watch(agent))
            ended_s = await silent

            async def is_freed() -> bool:
                return (await agent.status()).subscribers == 1

            await seconds_until(is_freed, LONGEST_S)
            freed_s = time.monotonic() - stopped
            grown_mb = agent.resident_mb() - before_mb
        other.cancel()
        await asyncio.wait([other])
    seqs = [seq for seq, _ in seen]
    gaps = sum(b - a != 1 for a, b in pairwise(seqs))
    late_ms = np.percentile([late_ms for _, late_ms in seen[begun:]], 99)
    found = (
        f"frozen one freed after {freed_s:.1f} s, silent Watch ended after {ended_s:.1f} s; the other: "
        f"{len(seen) - begun} events, {gaps} gaps, p99 {late_ms:.0f} ms after publishing; RSS {grown_mb:+.0f} MB"
    )
    met = freed_s <= FREED_S and ended_s <= ENDED_S and gaps == 0 and grown_mb < LEAST_MB
    return Measured(BAR, found, met)


async def _follow(client: Client, seen: list[tuple[int, float]]) -> None:
    """Note seq and delay in ms of every event."""
    async for event in client.subscribe(vectors=True):
        late_ms = (time.time_ns() - event.publish_ns) / 1e6
        seen.append((event.seq, late_ms))


async def _silent_watch(agent: Served) -> float:
    """Seconds until a Watch call that acknowledges nothing is ended."""
    begun = time.monotonic()
    async with grpc.aio.insecure_channel(agent.address) as channel:
        call = PerceptionStub(channel).Watch()
        await call.write(pb.WatchRequest(subscribe=pb.SubscribeRequest(vectors=True), max_unread=1))
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError:
            pass
    return time.monotonic() - begun
