from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial

import grpc
import numpy as np
import pytest
from fake_agent import D, FakeAgent, serving, until

from agent.client.client import Client, ClientError, heat_map_of, vector_of
from agent.log.replay.control import ReplayControl, ReplayOptions
from agent.vectors import heat_map_message, vector_message
from drivers.codec import encode_sample
from drivers.driver import Modality, Sample
from protos import perception_pb2 as pb


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
async def client(agent: FakeAgent) -> AsyncIterator[Client]:
    async with serving(agent) as address, Client(address) as client:
        yield client


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def collect(events: AsyncIterator[pb.Event], count: int) -> list[pb.Event]:
    collected: list[pb.Event] = []
    async for event in events:
        collected.append(event)
        if len(collected) == count:
            break
    return collected


async def test_subscribe_yields_events_with_vectors(agent: FakeAgent, client: Client) -> None:
    reading = asyncio.create_task(collect(client.subscribe(vectors=True, kinds=["embedding"], sensors=["eye"]), 1))
    await until(lambda: agent.bus.subscribers == 1)
    agent.publish_alert()
    agent.publish_embedding(5)
    [event] = await reading
    assert event.embedding.tick == 5
    vector = vector_of(event.embedding.windows[0].vector)
    assert vector.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vector), 1.0, atol=1e-3)
    assert len(vector) == D


async def test_resume_and_filters(agent: FakeAgent, client: Client) -> None:
    for number in range(5):
        agent.publish_alert(number, "dog" if number % 2 else "cat")
    events = await collect(client.subscribe(query_ids=["cat"], resume=("run", 1)), 2)
    assert [event.alert.alert_id for event in events] == [2, 4]


async def test_queries(client: Client) -> None:
    added = await client.add_query("a dog barking", modalities=["audio"], threshold_on=0.6, cooldown_s=1)
    assert (added.id, added.threshold_on, added.cooldown_s) == ("a-dog-barking", pytest.approx(0.6), 1)
    assert await client.list_queries() == [added]
    await client.remove_query(added.id)
    assert await client.list_queries() == []


async def test_a_refusal_is_one_line_with_its_fields(client: Client) -> None:
    with pytest.raises(ClientError) as refused:
        await client.add_query("", threshold_on=0.5)
    assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.reason == "BAD_REQUEST"
    assert [field for field, _ in refused.value.violations] == ["text"]
    assert "\n" not in str(refused.value)
    with pytest.raises(ClientError, match="'dance' is not a kind of event; they are embedding"):
        await collect(client.subscribe(kinds=["dance"]), 1)
    with pytest.raises(ClientError, match="'nose' is not a sensor"):
        await collect(client.subscribe(sensors=["nose"]), 1)


async def test_embed_and_status(client: Client) -> None:
    image = np.full((4, 4, 3), 7, np.uint8)
    found = await client.embed(texts=["abc"], images=[image], audio=[(np.full((160, 1), 0.5, np.float32), 16000)])
    np.testing.assert_array_equal(found.texts, [[3, 1]])
    np.testing.assert_array_equal(found.images, [[7, 1]])
    np.testing.assert_array_equal(found.audio, [[0.5, 1]])
    assert found.model == "fake"
    status = await client.status()
    assert (status.run_id, status.queries, status.subscribers) == ("run", 0, 0)


async def test_control_replay(agent: FakeAgent, client: Client) -> None:
    with pytest.raises(ClientError, match="this agent captures live") as refused:
        await client.control_replay(paused=True)
    assert refused.value.code == grpc.StatusCode.FAILED_PRECONDITION
    agent.replay = ReplayControl(0, 60 * 10**9, ReplayOptions(lasting=True), agent.clock)
    state = await client.control_replay(paused=True, speed=2)
    assert (state.paused, state.speed, state.duration_s) == (True, 2, 60)
    assert await client.control_replay() == state
    with pytest.raises(ClientError, match=r"seek_s: is 61\.000 s from the start; 0\.000 to 60\.000 s are replayed"):
        await client.control_replay(seek_s=61)
    with pytest.raises(ClientError, match="step_ticks is -1; a replay steps forward only"):
        await client.control_replay(step_ticks=-1)
    assert not (await client.control_replay(step_ticks=1)).paused


async def samples(sensor: str, count: int) -> AsyncIterator[tuple[str, Modality, Sample]]:
    for i in range(count):
        yield sensor, "audio", Sample(0, np.full((80, 1), i / 100, np.float32), rate_hz=8000.0)


async def test_ingest(agent: FakeAgent, client: Client) -> None:
    report = await client.ingest(samples("far_ear", 3), partial(encode_sample, encoding="raw"))
    assert (report.accepted, report.rejected) == (3, {})
    assert [float(agent.far_ear.read(1.0).data[0, 0]) for _ in range(3)] == pytest.approx([0, 0.01, 0.02])
    with pytest.raises(ClientError, match="'eye' is not a remote sensor; the remote sensors are: far_ear"):
        await client.ingest(samples("eye", 1000))


async def test_no_agent_is_one_line() -> None:
    address = free_address()
    async with Client(address) as client:
        for call in (client.status(), collect(client.subscribe(reconnect=True), 1), client.ingest(samples("x", 2))):
            with pytest.raises(ClientError) as failed:
                await call
            assert str(failed.value) == f"no agent at {address}: is `sensebind run` running?"


async def test_a_bad_address_is_one_line() -> None:
    with pytest.raises(ClientError, match="'nowhere' is not an address; write host:port"):
        async with Client("nowhere"):
            pass
    with pytest.raises(ClientError, match="is not open"):
        await Client().status()


async def test_closing_the_client_ends_its_subscription(agent: FakeAgent) -> None:
    async with serving(agent) as address:
        client = await Client(address).__aenter__()
        reading = asyncio.create_task(collect(client.subscribe(), 1))
        await until(lambda: agent.bus.subscribers == 1)
        await client.close()
        assert await asyncio.wait_for(reading, 10) == []
        await client.close()


async def test_an_agent_that_stops_says_so(agent: FakeAgent) -> None:
    address = free_address()
    async with Client(address) as client:
        async with serving(agent, address=address):
            reading = asyncio.create_task(collect(client.subscribe(), 1))
            await until(lambda: agent.bus.subscribers == 1)
        with pytest.raises(ClientError, match="agent is stopping") as ended:
            await reading
        assert ended.value.code == grpc.StatusCode.UNAVAILABLE


async def test_reconnect_resumes_the_run_and_then_another(agent: FakeAgent) -> None:
    received: asyncio.Queue[pb.Event] = asyncio.Queue()
    address = free_address()

    async def follow() -> None:
        async with Client(address) as client:
            async for event in client.subscribe(reconnect=True):
                received.put_nowait(event)

    async with serving(agent, address=address):
        following = asyncio.create_task(follow())
        await until(lambda: agent.bus.subscribers == 1)
        agent.publish_alert(1)
        assert (await received.get()).seq == 1
    agent.publish_alert(2)
    agent.publish_alert(3)
    async with serving(agent, address=address):
        assert [(await received.get()).seq for _ in range(2)] == [2, 3]
    other = FakeAgent("another")
    other.publish_alert(1)
    async with serving(other, address=address):
        gap, first = [await received.get() for _ in range(2)]
        assert (gap.gap.reason, gap.run_id) == ("another run", "another")
        assert (first.run_id, first.seq) == ("another", 1)
        following.cancel()
        await asyncio.wait([following])


def test_vectors_and_heat_maps_come_back() -> None:
    vector = np.array([0.5, -0.25, 0.125], np.float32)
    for dtype in ("float16", "float32"):
        np.testing.assert_array_equal(vector_of(vector_message(vector, dtype)), vector)
    assert vector_of(pb.Vector()).shape == (0,)
    with pytest.raises(ValueError, match="dtype 0"):
        vector_of(pb.Vector(data=b"1234"))
    heat = np.arange(6, dtype=np.float32).reshape(2, 3) / 8
    np.testing.assert_array_equal(heat_map_of(heat_map_message(heat)), heat)
    assert heat_map_of(pb.HeatMap()).shape == (0, 0)


def test_the_client_needs_no_torch() -> None:
    code = "import sys, agent.client; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
