from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from fake_agent import FakeAgent, reason, serving, until, violations

from agent.client import Client, ClientError
from agent.server.limits import Limits
from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub

PATIENT = Limits(write_timeout_s=50.0, request_timeout_s=50.0)
IMPATIENT = Limits(write_timeout_s=0.5, request_timeout_s=0.5)
QUEUE = 64
"""Embeddings that the bus keeps for a subscriber."""


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
def limits() -> Limits:
    return PATIENT


impatient = pytest.mark.parametrize("limits", [IMPATIENT], ids=["impatient"])


@pytest.fixture
async def address(agent: FakeAgent, limits: Limits) -> AsyncIterator[str]:
    async with serving(agent, limits) as address:
        yield address


@pytest.fixture
async def stub(address: str) -> AsyncIterator[PerceptionStub]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield PerceptionStub(channel)


async def watch(stub: PerceptionStub, max_unread: int, **filters: object) -> grpc.aio.StreamStreamCall:
    call = stub.Watch()
    request = pb.SubscribeRequest(**filters)  # type: ignore[arg-type]
    await call.write(pb.WatchRequest(subscribe=request, max_unread=max_unread))
    await call.initial_metadata()
    return call


async def read(call: grpc.aio.StreamStreamCall, count: int) -> list[pb.Event]:
    return [await call.read() for _ in range(count)]


async def acknowledge(call: grpc.aio.StreamStreamCall, seq: int) -> None:
    await call.write(pb.WatchRequest(read_seq=seq))


async def end_of(call: grpc.aio.StreamStreamCall) -> grpc.aio.AioRpcError:
    async def drain() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await drain()
    return ended.value


async def test_no_more_than_was_asked_for_is_on_its_way(agent: FakeAgent, stub: PerceptionStub) -> None:
    call = await watch(stub, 3)
    for number in range(10):
        agent.publish_alert(number)
    assert [event.seq for event in await read(call, 3)] == [1, 2, 3]
    fourth = asyncio.ensure_future(call.read())
    await asyncio.wait([fourth], timeout=0.1)
    assert not fourth.done()
    await acknowledge(call, 2)
    assert [(await fourth).seq, (await call.read()).seq] == [4, 5]
    await acknowledge(call, 5)
    assert [event.seq for event in await read(call, 3)] == [6, 7, 8]
    call.cancel()


async def test_what_was_dropped_meanwhile_is_told_and_the_newest_come(agent: FakeAgent, stub: PerceptionStub) -> None:
    call = await watch(stub, 2)
    published = [agent.publish_embedding(tick) for tick in range(2)]
    assert [event.seq for event in await read(call, 2)] == published
    newest = [agent.publish_embedding(tick) for tick in range(2, 302)][-1]
    await acknowledge(call, 2)
    gap, following = await read(call, 2)
    assert (gap.gap.first_seq, gap.gap.last_seq, gap.gap.events) == (3, newest - QUEUE, 300 - QUEUE)
    assert gap.gap.reason == "slow subscriber"
    assert following.seq == newest - QUEUE + 1
    call.cancel()


@impatient
async def test_a_client_that_says_nothing_of_reading_is_ended(agent: FakeAgent, stub: PerceptionStub) -> None:
    call = await watch(stub, 2)
    for number in range(3):
        agent.publish_alert(number)
    ended = await end_of(call)
    assert (ended.code(), reason(ended)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SLOW_SUBSCRIBER")
    assert "nothing was read for 0.5 s" in ended.details()
    assert agent.bus.subscribers == 0


@impatient
async def test_a_client_for_which_nothing_waits_is_not_ended(agent: FakeAgent, stub: PerceptionStub) -> None:
    call = await watch(stub, 2)
    agent.publish_alert(1)
    agent.publish_alert(2)
    assert [event.seq for event in await read(call, 2)] == [1, 2]
    ended = asyncio.ensure_future(call.read())
    await asyncio.wait([ended], timeout=2 * IMPATIENT.write_timeout_s)
    assert not ended.done()
    await acknowledge(call, 2)
    agent.publish_alert(3)
    assert (await ended).seq == 3
    call.cancel()


@pytest.mark.parametrize(
    ("requests", "field", "words"),
    [
        ([pb.WatchRequest(read_seq=1)], "subscribe", "the first message says what to subscribe to"),
        ([pb.WatchRequest(subscribe=pb.SubscribeRequest(), max_unread=5000)], "max_unread", "1 to 1024"),
        ([pb.WatchRequest(subscribe=pb.SubscribeRequest(max_age_s=-1))], "max_age_s", "is -1.0"),
        ([pb.WatchRequest(subscribe=pb.SubscribeRequest())] * 2, "read_seq", "only read_seqs come"),
        (
            [pb.WatchRequest(subscribe=pb.SubscribeRequest()), pb.WatchRequest(read_seq=7)],
            "read_seq",
            "is 7, but the newest event that was sent is 0",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused_by_field(
    agent: FakeAgent, stub: PerceptionStub, requests: list[pb.WatchRequest], field: str, words: str
) -> None:
    call = stub.Watch()
    for request in requests:
        await call.write(request)
    ended = await end_of(call)
    assert ended.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in violations(ended)[field]
    await until(lambda: agent.bus.subscribers == 0)


@impatient
async def test_a_call_without_a_request_is_ended(stub: PerceptionStub) -> None:
    ended = await end_of(stub.Watch())
    assert (ended.code(), reason(ended)) == (grpc.StatusCode.DEADLINE_EXCEEDED, "NO_REQUEST")


async def test_what_waited_too_long_is_told_and_alerts_are_sent(agent: FakeAgent, stub: PerceptionStub) -> None:
    call = await watch(stub, 1, max_age_s=60)
    agent.publish_alert(0)
    assert (await call.read()).seq == 1
    for tick in range(3):
        agent.publish_embedding(tick)
    agent.publish_alert(1)
    agent.ahead_ns += 61 * 10**9
    agent.publish_embedding(9)
    received = []
    for seq in (1, 4, 5):
        await acknowledge(call, seq)
        received.append(await call.read())
    gap, alert, newest = received
    assert (gap.gap.first_seq, gap.gap.last_seq, gap.gap.events, gap.gap.reason) == (2, 4, 3, "too old")
    assert (alert.seq, newest.embedding.tick) == (5, 9)
    call.cancel()


async def test_a_reader_that_stalls_is_told_what_it_missed(agent: FakeAgent, address: str) -> None:
    async with Client(address) as client:
        events = client.subscribe(max_unread=4, max_age_s=60)
        first = asyncio.ensure_future(anext(events))
        await until(lambda: agent.bus.subscribers == 1)
        for tick in range(4):
            agent.publish_embedding(tick)
        event, before = await first, 0
        # In one go: what is taken while the clock runs ahead would be told by a Gap of its own each time.
        for tick in range(4, 20):
            agent.ahead_ns += 5 * 10**9
            agent.publish_embedding(tick)
        while event.WhichOneof("event") != "gap":
            before += 1
            assert event.seq == before
            event = await anext(events)
        following = await anext(events)
        assert before <= 4  # what was on its way
        assert (event.gap.first_seq, event.gap.reason) == (before + 1, "too old")
        assert following.seq == event.gap.last_seq + 1
        assert agent.now_ns() - following.publish_ns <= 60e9
        await events.aclose()
    await until(lambda: agent.bus.subscribers == 0)


@impatient
async def test_a_reader_that_stalls_for_long_is_ended(agent: FakeAgent, address: str) -> None:
    async with Client(address) as client:
        events = client.subscribe(max_unread=4)
        first = asyncio.ensure_future(anext(events))
        await until(lambda: agent.bus.subscribers == 1)
        for tick in range(6):
            agent.publish_embedding(tick)
        await first
        await until(lambda: agent.bus.subscribers == 0)
        with pytest.raises(ClientError, match=r"nothing was read for 0\.5 s; read faster, or ask for less"):
            async for _ in events:
                pass


class OlderAgent(grpc.GenericRpcHandler):
    """Offers Subscribe and nothing else."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method != "/sensebind.v1.Perception/Subscribe":
            return None

        async def subscribe(_: bytes, context: grpc.aio.ServicerContext) -> None:
            await context.send_initial_metadata(())
            await context.write(pb.Event(seq=1).SerializeToString())

        return grpc.unary_stream_rpc_method_handler(subscribe)


async def test_an_agent_that_knows_no_watch_is_subscribed_to() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((OlderAgent(),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with Client(address) as client:
        for _ in range(2):
            assert [event.seq async for event in client.subscribe()] == [1]
    await server.stop(0)
