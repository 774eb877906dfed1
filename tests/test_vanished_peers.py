from __future__ import annotations

import asyncio
import signal
import time

import grpc
import pytest
from fake_agent import FakeAgent, serving, until

from agent.client import Client, ClientError
from agent.server.limits import Limits
from benchmarks.faults.partition import Partition
from benchmarks.faults.subscriber import subscriber
from protos import perception_pb2 as pb

# Left to its defaults gRPC holds a silent peer for a minute, three times as long as `until` waits.
LIMITS = Limits(ping_after_s=0.5, ping_timeout_s=0.5)
TIMES = {"ping_after_s": 0.5, "ping_timeout_s": 0.5}


async def test_a_frozen_subscriber_is_let_go() -> None:
    agent = FakeAgent()
    async with serving(agent, LIMITS) as address, subscriber(address) as process:
        assert agent.bus.subscribers == 1
        process.send_signal(signal.SIGSTOP)
        await until(lambda: agent.bus.subscribers == 0)


async def test_both_sides_of_a_cut_network_notice() -> None:
    agent = FakeAgent()
    async with (
        serving(agent, LIMITS) as address,
        Partition(address) as partition,
        Client(partition.address, **TIMES) as client,
    ):
        reading = asyncio.ensure_future(anext(client.subscribe()))
        await until(lambda: agent.bus.subscribers == 1)
        partition.cut()
        await until(reading.done)
        with pytest.raises(ClientError, match="no agent at") as gone:
            await reading
        assert gone.value.code == grpc.StatusCode.UNAVAILABLE
        await until(lambda: agent.bus.subscribers == 0)


async def test_after_a_cut_the_subscription_is_resumed() -> None:
    agent = FakeAgent()
    received: asyncio.Queue[pb.Event] = asyncio.Queue()

    async def follow(address: str) -> None:
        async with Client(address, **TIMES) as client:
            async for event in client.subscribe(reconnect=True):
                received.put_nowait(event)

    async with serving(agent, LIMITS) as address, Partition(address) as partition:
        following = asyncio.create_task(follow(partition.address))
        await until(lambda: agent.bus.subscribers == 1)
        agent.publish_alert(1)
        assert (await received.get()).seq == 1
        partition.cut()
        agent.publish_alert(2)
        await until(lambda: agent.bus.subscribers == 0)
        agent.publish_alert(3)
        partition.heal()
        healed = time.monotonic()
        await until(lambda: received.qsize() == 2)
        # gRPC's own patience with a connection that is being made is 20 s.
        assert time.monotonic() - healed < 10
        assert [received.get_nowait().seq for _ in range(2)] == [2, 3]
        following.cancel()
        await asyncio.wait([following])
