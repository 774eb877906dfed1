from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
from fake_agent import FakeAgent, reason, serving, until, violations
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from agent.server.server import Limits, ListenError, Server, Share
from agent.server.servicer import SERVICE
from drivers.codec import encode_sample
from drivers.driver import Sample
from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub
from protos.sensors_pb2 import MODALITY_TEXT, Image, SensorSample

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


async def test_queries_come_and_go(stub: PerceptionStub) -> None:
    first = await stub.AddQuery(pb.AddQueryRequest(text="A dog barking!", threshold_on=0.2))
    assert (first.id, first.text, list(first.warnings)) == ("a-dog-barking", "A dog barking!", [])
    assert (first.threshold_on, first.threshold_off) == (pytest.approx(0.2), pytest.approx(0.12))
    second = await stub.AddQuery(pb.AddQueryRequest(text="a dog barking frobnicate", id="mine", modalities=[2]))
    assert (second.id, list(second.modalities), len(second.warnings)) == ("mine", [2], 1)
    listed = await stub.ListQueries(pb.ListQueriesRequest())
    assert list(listed.queries) == [first, second]
    await stub.RemoveQuery(pb.RemoveQueryRequest(id="mine"))
    again = await stub.AddQuery(pb.AddQueryRequest(text="a DOG barking"))
    assert again.id == "a-dog-barking-2"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.AddQuery(pb.AddQueryRequest(text="one too many"))
    assert reason(refused.value) == "TOO_MANY_QUERIES"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.RemoveQuery(pb.RemoveQueryRequest(id="never"))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


async def test_an_id_in_use_is_refused(stub: PerceptionStub) -> None:
    await stub.AddQuery(pb.AddQueryRequest(text="a dog", id="dog"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.AddQuery(pb.AddQueryRequest(text="another dog", id="dog"))
    assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.AddQueryRequest(), "text"),
        (pb.AddQueryRequest(text=" \t"), "text"),
        (pb.AddQueryRequest(text="x" * 10_000), "text"),
        (pb.AddQueryRequest(text="a\nb"), "text"),
        (pb.AddQueryRequest(text="a", id="no spaces"), "id"),
        (pb.AddQueryRequest(text="a", modalities=[MODALITY_TEXT]), "modalities"),
        (pb.AddQueryRequest(text="a", modalities=[1, 1]), "modalities"),
        (pb.AddQueryRequest(text="a", threshold_on=1.5), "threshold_on"),
        (pb.AddQueryRequest(text="a", threshold_on=1e-40), "threshold_on"),
        (pb.AddQueryRequest(text="a", threshold_on=0.5, threshold_off=0.0009), "threshold_off"),
        (pb.AddQueryRequest(text="a", threshold_on=float("nan")), "threshold_on"),
        (pb.AddQueryRequest(text="a", threshold_on=0.4, threshold_off=0.6), "threshold_off"),
        (pb.AddQueryRequest(text="a", min_duration_s=-1), "min_duration_s"),
        (pb.AddQueryRequest(text="a", cooldown_s=float("inf")), "cooldown_s"),
    ],
)
async def test_an_absurd_query_is_refused_by_field(
    agent: FakeAgent, stub: PerceptionStub, request_: pb.AddQueryRequest, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.AddQuery(request_)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations(refused.value)) == [field]
    assert not agent.standing


async def test_embed_names_every_fault(stub: PerceptionStub) -> None:
    request = pb.EmbedRequest(texts=["a dog", " "], images=[Image(encoding=Image.ENCODING_JPEG, data=b"no")])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Embed(request)
    assert set(violations(refused.value)) == {"texts[1]", "images[0]"}
    with pytest.raises(grpc.aio.AioRpcError, match="1 to 64"):
        await stub.Embed(pb.EmbedRequest())


async def test_an_unexpected_fault_is_internal_and_logged(
    agent: FakeAgent, stub: PerceptionStub, caplog: pytest.LogCaptureFixture
) -> None:
    agent.fails = True
    with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.GetStatus(pb.GetStatusRequest())
    assert failed.value.code() == grpc.StatusCode.INTERNAL
    assert "RuntimeError; the agent's log says more" in failed.value.details()
    assert "the fake fails on purpose" in caplog.text
    agent.fails = False
    status = await stub.GetStatus(pb.GetStatusRequest())
    assert (status.model, dict(status.faults)) == ("fake", {"calls": 1})


def audio(t_ns: int, **changes: object) -> SensorSample:
    message = encode_sample("far_ear", "audio", Sample(t_ns, np.zeros((800, 1), np.float32), rate_hz=8000.0))
    message.MergeFrom(SensorSample(**changes))  # type: ignore[arg-type]
    return message


async def test_ingest_takes_good_samples_and_counts_bad_ones(agent: FakeAgent, stub: PerceptionStub) -> None:
    now_ns = agent.now_ns()
    nan = audio(now_ns)
    nan.audio.data = np.full(800, np.nan, np.float32).tobytes()
    short = audio(now_ns)
    short.audio.data = short.audio.data[:-1]
    picture = encode_sample("far_ear", "vision", Sample(now_ns, np.zeros((4, 4, 3), np.uint8)))
    other_rate = audio(now_ns)
    other_rate.audio.rate_hz = 44100
    sent = [audio(now_ns), audio(0), nan, short, picture, other_rate, audio(now_ns + 5 * 10**9), audio(1)]
    response = await stub.Ingest(iter(sent))
    assert response.accepted == 2
    assert dict(response.rejected) == {
        "not finite": 1,
        "bad data": 2,
        "wrong modality": 1,
        "from the future": 1,
        "too old": 1,
    }
    assert "is not one or more rows of 4 bytes" in response.first_faults["bad data"]
    assert agent.far_ear.read(1.0).t_ns == now_ns
    stamped = agent.far_ear.read(1.0)
    assert now_ns <= stamped.end_ns <= agent.now_ns()


async def test_ingest_names_the_remote_sensors(stub: PerceptionStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Ingest(iter([SensorSample(sensor="eye")]))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    assert refused.value.details() == "'eye' is not a remote sensor; the remote sensors are: far_ear"


async def test_health_follows_the_model() -> None:
    server = Server(FakeAgent())
    address = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        async def status() -> int:
            return (await health.Check(health_pb2.HealthCheckRequest(service="sensebind.v1.Perception"))).status

        assert await status() == health_pb2.HealthCheckResponse.NOT_SERVING
        await server.set_serving(True)
        assert await status() == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stop = asyncio.create_task(server.stop(grace_s=0.5))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await stop


async def test_reflection_lists_and_describes_the_service(channel: grpc.aio.Channel) -> None:
    reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="sensebind.v1.Perception"),
    ]
    listed, described = [response async for response in reflect(iter(requests))]
    names = {service.name for service in listed.list_services_response.service}
    assert {"sensebind.v1.Perception", "grpc.health.v1.Health"} <= names
    assert SERVICE.file.serialized_pb in described.file_descriptor_response.file_descriptor_proto


async def test_a_busy_port_is_one_line(agent: FakeAgent) -> None:
    async with serving(agent) as address:
        with pytest.raises(ListenError) as refused:
            await Server(agent).start(address)
    assert str(refused.value) == f"{address}: another program listens there; stop it, or listen at another port"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ListenError, match="another program listens there"):
            await Server(agent).start(f"127.0.0.1:{taken.getsockname()[1]}")


async def test_insecure_opens_every_address(agent: FakeAgent) -> None:
    server = Server(agent)
    address = await server.start("0.0.0.0:0", insecure=True)
    assert address.startswith("0.0.0.0:")
    await server.stop()


async def test_an_oversized_message_is_refused(stub: PerceptionStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.AddQuery(pb.AddQueryRequest(text="x" * (17 * 2**20)))
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_random_bytes_do_not_hurt(
    agent: FakeAgent, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(11)
    seeds = [
        pb.AddQueryRequest(text="a dog", modalities=[2], threshold_on=0.5).SerializeToString(),
        pb.SubscribeRequest(sensors=["eye"], max_rate_hz=3, resume_run_id="run").SerializeToString(),
        audio(0).SerializeToString()[:200],
    ]
    codes: set[grpc.StatusCode] = set()
    for _ in range(200):
        body = bytearray(seeds[rng.integers(len(seeds))]) if rng.random() < 0.5 else bytearray(rng.bytes(40))
        for at in rng.integers(len(body), size=3):
            body[at] = rng.integers(256)
        method = SERVICE.methods[rng.integers(len(SERVICE.methods))]
        path = f"/{SERVICE.full_name}/{method.name}"
        try:
            if method.name == "Ingest":
                await channel.stream_unary(path)(iter([bytes(body)]), timeout=5)
            elif method.name == "Subscribe":
                call = channel.unary_stream(path)(bytes(body), timeout=5)
                await call.initial_metadata()
                if call.done():
                    await call.read()
                call.cancel()
            else:
                await channel.unary_unary(path)(bytes(body), timeout=5)
        except grpc.aio.AioRpcError as error:
            codes.add(error.code())
    allowed = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "ALREADY_EXISTS", "FAILED_PRECONDITION"}
    assert {code.name for code in codes} <= allowed
    assert grpc.StatusCode.INVALID_ARGUMENT in codes
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    await until(lambda: agent.bus.subscribers == 0)
    assert (await PerceptionStub(channel).GetStatus(pb.GetStatusRequest())).run_id == "run"
