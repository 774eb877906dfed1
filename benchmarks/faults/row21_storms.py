"""1,100 idle connections, 320 idle Ingest calls, 1,000 Subscribe calls of one connection, 300 subscribers at once."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import resources

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.faults.measured import Measured
from benchmarks.faults.served import Served, seconds_until, served
from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub

BAR = (
    "with 1,024 files: all alive, health answers (own address: at once; else <= 5 s), a newcomer subscribes, "
    "live ticks < 2 % less, RSS +< 50 MB"
)
QUIET_S, STORM_S = 12.0, 6.0
STORM_NICE = 15
"""The storm is to take the agent's time by what it asks, not as a program on the same cores."""
LOST_TICKS, SPARE_MB, ANSWER_S = 0.02, 50.0, 5.0


@dataclass(frozen=True, slots=True)
class Ticks:
    """Ticks that were due, and of these those that became events."""

    produced: int
    delivered: int

    @staticmethod
    async def of(agent: Served) -> Ticks:
        """How many there were so far."""
        status = await agent.status()
        return Ticks(status.ticks_produced - status.ticks_in_flight, status.ticks_delivered)

    def share_since(self, before: Ticks) -> float:
        """Delivered of produced."""
        return (self.delivered - before.delivered) / max(1, self.produced - before.produced)


def run() -> Measured:
    """One storm after the other."""
    return asyncio.run(_run())


async def _run() -> Measured:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        health = f"127.0.0.1:{free.getsockname()[1]}"
    scene = yaml.safe_load(resources.files("configs").joinpath("synthetic.yaml").read_text())
    async with served({**scene, "server": {"health_listen": health}}, open_files=1024) as agent:
        os.nice(STORM_NICE)
        begun = await Ticks.of(agent)
        await asyncio.sleep(QUIET_S)
        quiet = (await Ticks.of(agent)).share_since(begun)
        before_mb = agent.resident_mb()
        begun = await Ticks.of(agent)
        with ExitStack() as stack:
            await asyncio.to_thread(_connect, stack, agent.address, 1100)
            at_once = await _healthy(health)
            files = agent.open_files()
            answered_s = await seconds_until(lambda: _healthy(agent.address), 30)
        streams = [await _ingests(agent), await _subscriptions(agent), await _subscribers(agent)]
        storm = (await Ticks.of(agent)).share_since(begun)
        grown_mb = agent.resident_mb() - before_mb
    found = (
        f"1,100 connections: {files} files open, health at its own address {'at once' if at_once else 'NOT AT ONCE'}, "
        f"at the other after {answered_s:.1f} s; {'; '.join(line for line, _ in streams)}; ticks delivered "
        f"{storm:.1%} (quiet {quiet:.1%}); RSS {grown_mb:+.0f} MB"
    )
    met = at_once and answered_s <= ANSWER_S and all(sound for _, sound in streams)
    return Measured(BAR, found, met and storm > quiet - LOST_TICKS and grown_mb < SPARE_MB)


async def _ingests(agent: Served) -> tuple[str, bool]:
    async with _connection(agent.address) as flood:
        calls = [PerceptionStub(flood).Ingest() for _ in range(320)]
        await asyncio.sleep(STORM_S)
        refused = sum(call.done() for call in calls)
        sound = refused >= 256 and await _others_are_served(agent)
    return f"320 Ingests: {refused} refused, {'others served' if sound else 'OTHERS NOT SERVED'}", sound


async def _subscriptions(agent: Served) -> tuple[str, bool]:
    async with _connection(agent.address) as flood:
        calls = [PerceptionStub(flood).Subscribe(pb.SubscribeRequest()) for _ in range(1000)]
        await asyncio.sleep(STORM_S)
        refused = sum(call.done() for call in calls)
        sound = refused >= 744 and await _others_are_served(agent)
    return f"1,000 Subscribes: {refused} refused, {'others served' if sound else 'OTHERS NOT SERVED'}", sound


async def _subscribers(agent: Served) -> tuple[str, bool]:
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(_connection(agent.address)) for _ in range(300)]
        calls = [PerceptionStub(channel).Subscribe(pb.SubscribeRequest()) for channel in channels]
        await asyncio.sleep(STORM_S)
        granted = 300 - sum(call.done() for call in calls)
        sound = granted >= 100 and await _healthy(agent.address) and await agent.answers()
    return f"300 subscribers: {granted} served, {'status answered' if sound else 'STATUS NOT ANSWERED'}", sound


async def _others_are_served(agent: Served) -> bool:
    """Whether health, status and a subscription are there for somebody who connects now."""
    async with _connection(agent.address) as channel:
        call = PerceptionStub(channel).Subscribe(pb.SubscribeRequest())
        await call.initial_metadata()
        subscribed = not call.done()
        call.cancel()
    return subscribed and await _healthy(agent.address) and await agent.answers()


async def _healthy(address: str) -> bool:
    async with _connection(address) as channel:
        try:
            check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
            return bool((await check).status == health_pb2.HealthCheckResponse.SERVING)
        except grpc.aio.AioRpcError:
            return False


@asynccontextmanager
async def _connection(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A TCP connection of its own."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


def _connect(stack: ExitStack, address: str, count: int) -> None:
    """Open TCP connections that say nothing."""
    host, _, port = address.rpartition(":")
    for _ in range(count):
        stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
