from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import grpc
import pytest
from fake_agent import FakeAgent, reason, serving, until, violations

from agent.events.filters import EventFilter
from agent.server.server import Limits, Server, Share
from agent.server.servicer import SERVICE, Servicer
from agent.server.subscribers import Subscribers, Waker
from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub
from protos.sensors_pb2 import MODALITY_TEXT

LIMITS = Limits(subscribers=Share(4), queries=2, write_timeout_s=0.5)


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
async def channel(agent: FakeAgent) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(agent, LIMITS) as address, grpc.aio.insecure_channel(address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> PerceptionStub:
    return PerceptionStub(channel)


async def subscribed(stub: PerceptionStub, **filters: object) -> grpc.aio.UnaryStreamCall:
    call = stub.Subscribe(pb.SubscribeRequest(**filters))  # type: ignore[arg-type]
    await call.initial_metadata()
    return call


async def read(call: grpc.aio.UnaryStreamCall, count: int) -> list[pb.Event]:
    return [await call.read() for _ in range(count)]


async def end_of(call: grpc.aio.UnaryStreamCall) -> grpc.aio.AioRpcError:
    """Read what is left; the error that the call ends with."""

    async def drain() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await drain()
    return ended.value


async def fill(agent: FakeAgent) -> int:
    """Publish far more than transport and queue hold for a subscriber that does not read; the newest seq."""
    newest = 0
    for _ in range(100):
        for _ in range(40):
            newest = agent.publish_embedding()
        await asyncio.sleep(0)  # lets the server write until the transport takes no more
    return newest


async def test_events_reach_subscribers_as_they_asked(agent: FakeAgent, stub: PerceptionStub) -> None:
    everything = await subscribed(stub, vectors=True)
    alerts = await subscribed(stub, kinds=[pb.EVENT_KIND_ALERT])
    eye = await subscribed(stub, sensors=["eye"], kinds=[pb.EVENT_KIND_EMBEDDING])
    agent.publish_embedding(3)
    agent.publish_alert(7)
    first, second = await read(everything, 2)
    assert (first.seq, first.embedding.tick, len(first.embedding.windows[0].vector.data)) == (1, 3, 1024)
    assert (second.seq, second.alert.alert_id) == (2, 7)
    assert (await read(alerts, 1))[0].alert.alert_id == 7
    [only_eye] = await read(eye, 1)
    assert [window.sensor for window in only_eye.embedding.windows] == ["eye"]
    assert not only_eye.embedding.windows[0].vector.data


async def test_events_published_on_another_thread_arrive(agent: FakeAgent, stub: PerceptionStub) -> None:
    call = await subscribed(stub)
    await asyncio.to_thread(lambda: [agent.publish_alert(number) for number in range(50)])
    assert [event.alert.alert_id for event in await read(call, 50)] == list(range(50))


async def test_resume_is_exact(agent: FakeAgent, stub: PerceptionStub) -> None:
    for number in range(6):
        agent.publish_alert(number)
    call = await subscribed(stub, resume_run_id="run", resume_after_seq=3)
    agent.publish_alert(6)
    assert [event.seq for event in await read(call, 4)] == [4, 5, 6, 7]


async def test_a_subscriber_that_leaves_is_forgotten(agent: FakeAgent, stub: PerceptionStub) -> None:
    call = await subscribed(stub)
    assert agent.bus.subscribers == 1
    call.cancel()
    await until(lambda: agent.bus.subscribers == 0)


async def test_subscribers_that_leave_while_they_are_written_to_are_no_fault(
    agent: FakeAgent, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    stub = PerceptionStub(channel)
    for i in range(100):
        call = await subscribed(stub, vectors=True)
        for _ in range(20):
            agent.publish_embedding()
        for _ in range(i % 10):
            await asyncio.sleep(0)
        call.cancel()
    await until(lambda: agent.bus.subscribers == 0)
    assert caplog.text == ""


class GoneContext:
    """What gRPC gives for a client that vanished a moment ago."""

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def read(self) -> bytes:
        return b""

    async def send_initial_metadata(self, _: object) -> None:
        pass

    async def write(self, _: bytes) -> None:
        raise grpc.aio.InternalError("Failed to execute_batch")

    abort_with_status = write


async def test_a_failed_write_ends_only_its_call(agent: FakeAgent, caplog: pytest.LogCaptureFixture) -> None:
    subscribers = Subscribers(agent.bus, agent.streams, write_timeout_s=1.0)
    handlers = Servicer(agent, subscribers, Limits()).rpc_handlers()
    details = SimpleNamespace(method=f"/{SERVICE.full_name}/Subscribe")
    call = asyncio.create_task(handlers.service(details).stream_stream(None, GoneContext()))
    await until(lambda: agent.bus.subscribers == 1)
    agent.publish_alert()
    await asyncio.wait([call])
    assert call.cancelled()
    assert (len(subscribers), agent.bus.subscribers, caplog.text) == (0, 0, "")


async def test_a_stalled_subscriber_is_ended_and_delays_nobody(agent: FakeAgent, stub: PerceptionStub) -> None:
    stalled = await subscribed(stub, vectors=True)
    other = await subscribed(stub, kinds=[pb.EVENT_KIND_EMBEDDING])
    published = 0
    while agent.bus.subscribers == 2:
        for _ in range(40):
            agent.publish_embedding(published)
            published += 1
        events = await read(other, 40)
        assert [event.embedding.tick for event in events] == list(range(published - 40, published))
        assert published < 100_000
    ended = await end_of(stalled)
    assert ended.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "nothing was read for 0.5 s" in ended.details()
    assert reason(ended) == "SLOW_SUBSCRIBER"


async def test_a_slow_subscriber_is_told_exactly_what_it_missed(agent: FakeAgent) -> None:
    async with serving(agent) as address, grpc.aio.insecure_channel(address) as channel:
        call = await subscribed(PerceptionStub(channel), vectors=True)
        published = await fill(agent)
        received = lost = at = 0
        while at < published:
            event: pb.Event = await call.read()
            if event.WhichOneof("event") == "gap":
                assert event.gap.first_seq == at + 1
                assert event.gap.events == event.gap.last_seq - at
                lost += event.gap.events
                at = event.gap.last_seq
            else:
                assert event.seq == at + 1
                received += 1
                at = event.seq
        assert lost > 0
        assert received + lost == published


async def test_alerts_that_are_not_read_end_the_call(agent: FakeAgent, stub: PerceptionStub) -> None:
    call = await subscribed(stub, kinds=[pb.EVENT_KIND_ALERT])
    # More than transport and queue hold, before the loop may write: the queue alone holds 256.
    for number in range(1000):
        agent.publish_alert(number)
    ended = await end_of(call)
    assert ended.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "alerts were not read" in ended.details()


async def test_subscribers_are_limited(agent: FakeAgent, stub: PerceptionStub) -> None:
    calls = [await subscribed(stub) for _ in range(LIMITS.subscribers.total)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Subscribe(pb.SubscribeRequest()).read()
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(refused.value) == "TOO_MANY_SUBSCRIBERS"
    agent.publish_alert(1)
    assert all([(await call.read()).alert.alert_id == 1 for call in calls])


@pytest.mark.parametrize(
    ("filters", "field", "words"),
    [
        ({"kinds": [9]}, "kinds", "9 is not a kind of event"),
        ({"modalities": [MODALITY_TEXT]}, "modalities", "6 is not a modality of a sensor"),
        ({"sensors": ["nose"]}, "sensors", "'nose' is not a sensor; the sensors are ear, eye, far_ear"),
        ({"query_ids": ["x"] * 1001}, "query_ids", "at most 1000"),
        ({"max_rate_hz": -1.0}, "max_rate_hz", "is -1.0"),
        ({"max_rate_hz": float("nan")}, "max_rate_hz", "is nan"),
        ({"resume_after_seq": 3}, "resume_run_id", "is missing"),
        ({"resume_run_id": "run"}, "resume_after_seq", "is missing"),
        ({"resume_run_id": "run", "resume_after_seq": 3}, "resume_after_seq", "the newest event of this run is 0"),
    ],
)
async def test_a_bad_filter_is_refused_by_field(
    stub: PerceptionStub, filters: dict[str, object], field: str, words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Subscribe(pb.SubscribeRequest(**filters)).read()  # type: ignore[arg-type]
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in violations(refused.value)[field]
    assert field in refused.value.details()


async def test_stop_tells_subscribers_why(agent: FakeAgent) -> None:
    server = Server(agent)
    address = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(address) as channel:
        stub = PerceptionStub(channel)
        call = await subscribed(stub)
        for _ in range(3):
            agent.publish_alert()
        await server.stop()
        assert len(await read(call, 3)) == 3
        ended = await end_of(call)
        assert (ended.code(), ended.details()) == (grpc.StatusCode.UNAVAILABLE, "agent is stopping")
        assert reason(ended) == "AGENT_STOPS"
    await server.stop()
    assert agent.bus.subscribers == 0


@pytest.mark.parametrize("method", ["Watch", "Ingest", "Embed"])
async def test_stop_ends_calls_that_would_go_on(
    agent: FakeAgent, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server = Server(agent, LIMITS)
    address = await server.start("127.0.0.1:0")
    agent.embeds.clear()
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(f"/{SERVICE.full_name}/{method}")()
        if method == "Watch":
            request = pb.WatchRequest(subscribe=pb.SubscribeRequest(), max_unread=1)
            await call.write(request.SerializeToString())
            await call.initial_metadata()
            agent.publish_alert(1)
            agent.publish_alert(2)  # waits for the first to be read, which it never is
        elif method == "Embed":
            await call.write(pb.EmbedRequest(texts=["a dog"]).SerializeToString())
            await until(lambda: agent.embed_calls == 1)
        else:
            await call.write(b"\xff")  # a bad sample, which is counted
        stopping = asyncio.create_task(server.stop(grace_s=0.6))
        ended = await end_of(call)
        assert (ended.code(), ended.details()) == (grpc.StatusCode.UNAVAILABLE, "agent is stopping")
        await stopping
    assert "Traceback" not in capfd.readouterr().err


async def test_stop_does_not_wait_for_who_does_not_read(agent: FakeAgent) -> None:
    server = Server(agent)
    address = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(address) as channel:
        call = await subscribed(PerceptionStub(channel), vectors=True)
        await fill(agent)
        await asyncio.wait_for(server.stop(grace_s=0.2), 10)
        assert agent.bus.subscribers == 0
        call.cancel()


def test_publishing_outlives_the_loop() -> None:
    loop = asyncio.new_event_loop()
    waker = Waker(loop)
    loop.close()
    agent = FakeAgent()
    agent.bus.subscribe(EventFilter(pb.SubscribeRequest()), lambda: waker.wake(asyncio.Event()))
    assert [agent.publish_alert() for _ in range(3)] == [1, 2, 3]
