from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import grpc
import pytest
from fake_agent import FakeAgent, reason, serving, until, violations
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from agent.server.limits import Limits, Share
from agent.server.server import ListenError, Server
from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub

SMALL = Share(6, host=5, connection=3)
LIMITS = Limits(
    subscribers=SMALL,
    ingests=SMALL,
    changes=SMALL,
    looks=SMALL,
    watches=SMALL,
    request_timeout_s=30.0,
    connections=30,
    handshake_s=0.5,
    idle_connection_s=1.0,
)
SERVING = health_pb2.HealthCheckResponse.SERVING
FIRST_WORDS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""With which an HTTP/2 client begins: the preface and empty settings."""
SETTINGS_TAKEN = bytes([0, 0, 0, 4, 1, 0, 0, 0, 0])


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
async def address(agent: FakeAgent) -> AsyncIterator[str]:
    async with serving(agent, LIMITS) as address:
        yield address


@asynccontextmanager
async def connection(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


async def answers(address: str) -> bool:
    """Whether health and status are told to somebody who connects now."""
    async with connection(address) as channel:
        try:
            check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            status = PerceptionStub(channel).GetStatus(pb.GetStatusRequest(), timeout=10)
            return (await check).status == SERVING and (await status).run_id == "run"
        except grpc.aio.AioRpcError:
            return False


async def refusal_of(call: grpc.aio.Call) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read() if hasattr(call, "read") else await call
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    return f"{reason(refused.value)}: {refused.value.details()}"


async def test_idle_ingests_leave_health_status_and_subscriptions_alone(address: str) -> None:
    async with connection(address) as flood, connection(address) as more:
        calls = [PerceptionStub(channel).Ingest() for channel in (flood, more) for _ in range(40)]
        await until(lambda: sum(call.done() for call in calls) == 80 - SMALL.host)
        told = {(await refusal_of(call)) for call in calls if call.done()}
        advice = "are allowed, and all are in use; push several sensors in one call, or end one"
        assert told == {
            f"TOO_MANY_INGEST_CALLS: 3 Ingest calls over one connection {advice}",
            f"TOO_MANY_INGEST_CALLS: 5 Ingest calls of one host {advice}",
        }
        assert await answers(address)
        async with connection(address) as newcomer:
            call = PerceptionStub(newcomer).Subscribe(pb.SubscribeRequest())
            await call.initial_metadata()
            assert not call.done()
            call.cancel()


async def test_one_connection_does_not_take_all_subscriptions(agent: FakeAgent, address: str) -> None:
    async with connection(address) as greedy, connection(address) as newcomer:
        calls = [PerceptionStub(greedy).Subscribe(pb.SubscribeRequest()) for _ in range(400)]
        await until(lambda: sum(call.done() for call in calls) == 400 - SMALL.connection)
        late = PerceptionStub(newcomer).Subscribe(pb.SubscribeRequest())
        await late.initial_metadata()
        assert not late.done()
        assert agent.bus.subscribers == SMALL.connection + 1
        assert await answers(address)


@pytest.mark.parametrize("method", ["AddQuery", "GetStatus", "Embed", "Subscribe", "Watch"])
async def test_calls_without_their_request_leave_health_alone(address: str, method: str) -> None:
    async with connection(address) as channel:
        calls = [channel.stream_stream(f"/sensebind.v1.Perception/{method}")() for _ in range(200)]
        await until(lambda: sum(call.done() for call in calls) >= 200 - 4)
        assert await answers(address)


async def test_watchers_of_health_and_reflection_have_a_share(address: str) -> None:
    async with connection(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        watchers = [watch(health_pb2.HealthCheckRequest()) for _ in range(10)]
        clients = [reflect() for _ in range(10)]
        await until(lambda: sum(call.done() for call in watchers) == 10 - SMALL.connection)
        await until(lambda: sum(call.done() for call in clients) == 10 - SMALL.connection)
        for calls, what in ((watchers, "health watchers"), (clients, "reflection calls")):
            told = {await refusal_of(call) for call in calls if call.done()}
            assert [line.partition(":")[0] for line in told] == [f"TOO_MANY_{what.upper().replace(' ', '_')}"]
        assert await answers(address)


def connect(stack: ExitStack, address: str, count: int, words: bytes = b"") -> list[socket.socket]:
    """Open TCP connections and say no more than `words`."""
    host, _, port = address.rpartition(":")
    opened = []
    for _ in range(count):
        opened.append(stack.enter_context(socket.create_connection((host, int(port)))))
        opened[-1].sendall(words)
        opened[-1].setblocking(False)
    return opened


def open_among(sockets: list[socket.socket]) -> int:
    """How many the other side has not closed."""
    return sum(map(is_open, sockets))


def is_open(connection: socket.socket) -> bool:
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


@pytest.mark.parametrize("words", [b"", FIRST_WORDS, FIRST_WORDS + SETTINGS_TAKEN], ids=["mute", "begun", "idle"])
async def test_idle_connections_are_closed(address: str, words: bytes) -> None:
    with ExitStack() as stack:
        sockets = await asyncio.to_thread(connect, stack, address, 100, words)
        await until(lambda: open_among(sockets) <= LIMITS.connections)
        await until(lambda: open_among(sockets) == 0)
        assert await answers(address)


async def test_a_listener_of_its_own_answers_while_all_connections_are_taken() -> None:
    server = Server(FakeAgent(), Limits(connections=20, handshake_s=60.0, health_connections=5))
    address = await server.start("127.0.0.1:0", health_address="127.0.0.1:0")
    await server.set_serving(True)
    with ExitStack() as stack:
        await asyncio.to_thread(connect, stack, address, 100)
        assert not await answers(address)
        assert await answers(server.health_address)
        async with connection(server.health_address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await PerceptionStub(channel).ListQueries(pb.ListQueriesRequest())
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    await server.stop(0)


async def test_a_busy_address_for_health_is_one_line(address: str) -> None:
    with pytest.raises(ListenError, match="another program listens there"):
        await Server(FakeAgent()).start("127.0.0.1:0", health_address=address)
    with pytest.raises(ListenError, match="other machines could watch and listen"):
        await Server(FakeAgent()).start("127.0.0.1:0", health_address="0.0.0.0:0")


@pytest.mark.parametrize(
    ("request_", "field", "words"),
    [
        (pb.SubscribeRequest(query_ids=["x" * 65]), "query_ids", "has 65 characters; no id has more than 64"),
        (pb.SubscribeRequest(query_ids=["x"] * 1001), "query_ids", "are 1001; at most 1000 are allowed"),
        (pb.SubscribeRequest(query_ids=["x" * 15_000] * 1000), "request", "has at most 131072"),
        (pb.SubscribeRequest(sensors=["eye"] * 50_000), "request", "has at most 131072"),
        (pb.SubscribeRequest(resume_run_id="r" * 65, resume_after_seq=1), "resume_run_id", "has 65 characters"),
        (pb.SubscribeRequest(max_age_s=float("nan")), "max_age_s", "is nan"),
    ],
)
async def test_filters_are_measured(address: str, request_: pb.SubscribeRequest, field: str, words: str) -> None:
    async with connection(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await PerceptionStub(channel).Subscribe(request_).read()
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in violations(refused.value)[field]
    assert len(refused.value.details()) < 400
