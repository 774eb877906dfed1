from __future__ import annotations

import asyncio
import struct
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable

import grpc
import pytest
from fake_agent import FakeAgent, reason, serving, until, violations

import agent.server.requests
import agent.server.servicer
from agent.embedding.worker import WorkerError
from agent.server.interface import EmbedError
from agent.server.server import Limits
from agent.server.servicer import MAX_EMBED_CALLS
from agent.server.subscribers import Subscribers
from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub
from protos.sensors_pb2 import Image

A_DOG = pb.EmbedRequest(texts=["a dog"])


@pytest.fixture
def agent_() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
async def stub(agent_: FakeAgent) -> AsyncIterator[PerceptionStub]:
    async with (
        serving(agent_, Limits(queries=5)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield PerceptionStub(channel)


async def refusal(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


async def add_at_once(agent_: FakeAgent, stub: PerceptionStub, texts: list[str]) -> list[pb.Query | BaseException]:
    """Add queries while the agent is busy with the first of them."""
    agent_.adds.clear()
    adding = asyncio.gather(*(stub.AddQuery(pb.AddQueryRequest(text=text)) for text in texts), return_exceptions=True)
    await until(lambda: agent_.ready_calls == len(texts))
    agent_.adds.set()
    return await adding


async def test_equal_queries_at_once_get_ids_of_their_own(agent_: FakeAgent, stub: PerceptionStub) -> None:
    added = await add_at_once(agent_, stub, ["a dog"] * 5)
    assert {query.id for query in added if isinstance(query, pb.Query)} == {
        "a-dog",
        "a-dog-2",
        "a-dog-3",
        "a-dog-4",
        "a-dog-5",
    }


async def test_the_limit_of_queries_holds_for_those_added_at_once(agent_: FakeAgent, stub: PerceptionStub) -> None:
    answers = await add_at_once(agent_, stub, [f"thing {i}" for i in range(8)])
    refused = [reason(answer) for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert refused == ["TOO_MANY_QUERIES"] * 3
    assert len(agent_.standing) == 5


async def test_what_the_model_cannot_take_is_the_fault_of_the_request(
    agent_: FakeAgent, stub: PerceptionStub, caplog: pytest.LogCaptureFixture
) -> None:
    agent_.embed_error = EmbedError("image: 10 x 1000 is too long", "images[2]")
    refused = await refusal(stub.Embed(A_DOG))
    assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert violations(refused) == {"images[2]": "image: 10 x 1000 is too long"}
    assert caplog.text == ""


async def test_a_worker_that_takes_no_more_is_no_fault(
    agent_: FakeAgent, stub: PerceptionStub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent_.embed_error = WorkerError("256 requests wait for the model already; ask again later")
    busy = await refusal(stub.Embed(A_DOG))
    assert (busy.code(), reason(busy)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MODEL_BUSY")
    assert busy.details() == str(agent_.embed_error)
    monkeypatch.setattr(Subscribers, "stopping", True)
    stops = await refusal(stub.Embed(A_DOG))
    assert (stops.code(), reason(stops)) == (grpc.StatusCode.UNAVAILABLE, "AGENT_STOPS")
    assert caplog.text == ""


async def test_embed_calls_are_limited(agent_: FakeAgent, stub: PerceptionStub) -> None:
    agent_.embeds.clear()
    calls = [asyncio.ensure_future(stub.Embed(A_DOG)) for _ in range(MAX_EMBED_CALLS)]
    await until(lambda: agent_.embed_calls == MAX_EMBED_CALLS)
    refused = await refusal(stub.Embed(A_DOG, timeout=5))
    assert (refused.code(), reason(refused)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_EMBED_CALLS")
    agent_.embeds.set()
    assert [response.model for response in await asyncio.gather(*calls)] == ["fake"] * MAX_EMBED_CALLS
    assert (await stub.Embed(A_DOG)).model == "fake"


async def test_calls_wait_for_the_model_but_not_for_long(
    agent_: FakeAgent, stub: PerceptionStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent_.loaded.clear()
    waiting = asyncio.ensure_future(stub.Embed(A_DOG))
    await until(lambda: agent_.ready_calls == 1)
    assert agent_.embed_calls == 0
    agent_.loaded.set()
    assert (await waiting).model == "fake"
    agent_.loaded.clear()
    monkeypatch.setattr(agent.server.servicer, "LOADING_PATIENCE_S", 0.05)
    calls = (
        stub.AddQuery(pb.AddQueryRequest(text="a dog"), timeout=5),
        stub.RemoveQuery(pb.RemoveQueryRequest(id="a-dog"), timeout=5),
        stub.Embed(A_DOG, timeout=5),
    )
    for call in calls:
        refused = await refusal(call)
        assert (refused.code(), reason(refused)) == (grpc.StatusCode.UNAVAILABLE, "MODEL_LOADING")
        assert refused.details() == "the model is loading; try again"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int) -> Image:
    """A header without pixels: 57 bytes that claim to be any size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return Image(encoding=Image.ENCODING_PNG, data=b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b""))


def jpeg(width: int, height: int) -> Image:
    frame = struct.pack(">HHBHHB", 0xFFC0, 11, 8, height, width, 1) + b"\1\x11\0"
    return Image(encoding=Image.ENCODING_JPEG, data=b"\xff\xd8" + frame + b"\xff\xd9")


def rgb8(width: int, height: int) -> Image:
    return Image(encoding=Image.ENCODING_RGB8, width=width, height=height)


@pytest.mark.parametrize(
    "images",
    [[png(5000, 5000)] * 3, [jpeg(5000, 5000)] * 3, [rgb8(5000, 5000)] * 3, [png(4000, 8000), jpeg(8000, 4001)]],
)
async def test_pictures_that_are_too_large_together_are_not_decoded(
    stub: PerceptionStub, images: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[str] = Counter()
    monkeypatch.setattr(agent.server.requests, "decode_colour", lambda _: decoded.update(["picture"]))
    refused = await refusal(stub.Embed(pb.EmbedRequest(images=images)))
    assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "megapixels together; at most 64 are allowed in a call" in violations(refused)["images"]
    assert not decoded


async def test_every_picture_at_fault_is_named(stub: PerceptionStub, caplog: pytest.LogCaptureFixture) -> None:
    refused = await refusal(stub.Embed(pb.EmbedRequest(images=[png(8, 8), rgb8(8, 8), Image()])))
    assert set(violations(refused)) == {"images[0]", "images[1]", "images[2]"}
    assert caplog.text == ""
