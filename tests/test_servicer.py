from __future__ import annotations

import asyncio
import gc
import struct
import weakref
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
import pytest
from fake_agent import FakeAgent, reason, serving, until, violations

import agent.server.requests
import agent.server.servicer
from agent.embedding.requests import EmbedError
from agent.embedding.worker import WorkerError
from agent.log.replay.control import ReplayControl, ReplayOptions
from agent.server.server import Limits, Share
from agent.server.subscribers import Subscribers
from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub
from protos.sensors_pb2 import Image

EMBED_CALLS = 3
A_DOG = pb.EmbedRequest(texts=["a dog"])


@pytest.fixture
def agent_() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
async def stub(agent_: FakeAgent) -> AsyncIterator[PerceptionStub]:
    async with (
        serving(agent_, Limits(queries=5, embeds=Share(EMBED_CALLS))) as address,
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


@pytest.mark.parametrize("refused", [True, False])
async def test_what_a_call_brought_is_free_once_it_is_answered(
    agent_: FakeAgent, stub: PerceptionStub, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    brought: list[weakref.ref[Any]] = []
    embed = agent_.embed

    async def note(texts: Any, images: Any, audio: Any) -> Any:
        brought.extend(weakref.ref(image) for image in images)
        if refused:
            raise EmbedError("image: is too long", "images[0]")
        return await embed(texts, images, audio)

    monkeypatch.setattr(agent_, "embed", note)
    pictures = pb.EmbedRequest(images=[Image(encoding=Image.ENCODING_RGB8, width=8, height=8, data=bytes(192))] * 2)
    gc.collect()
    gc.disable()
    try:
        if refused:
            assert (await refusal(stub.Embed(pictures))).code() == grpc.StatusCode.INVALID_ARGUMENT
        else:
            assert len((await stub.Embed(pictures)).images) == 2
        await until(lambda: len(brought) == 2 and not any(picture() is not None for picture in brought))
    finally:
        gc.enable()


async def test_embed_calls_are_limited(agent_: FakeAgent, stub: PerceptionStub) -> None:
    agent_.embeds.clear()
    calls = [asyncio.ensure_future(stub.Embed(A_DOG)) for _ in range(EMBED_CALLS)]
    await until(lambda: agent_.embed_calls == EMBED_CALLS)
    refused = await refusal(stub.Embed(A_DOG, timeout=5))
    assert (refused.code(), reason(refused)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_EMBED_CALLS")
    agent_.embeds.set()
    assert [response.model for response in await asyncio.gather(*calls)] == ["fake"] * EMBED_CALLS
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


START_NS = 1_700_000_000_000_000_000
S = 1_000_000_000


@pytest.fixture
def replay(agent_: FakeAgent) -> ReplayControl:
    options = ReplayOptions(from_ns=START_NS + 10 * S, to_ns=START_NS + 50 * S, lasting=True)
    agent_.replay = ReplayControl(START_NS, START_NS + 60 * S, options, agent_.clock)
    return agent_.replay


async def test_a_live_agent_cannot_be_replayed(stub: PerceptionStub) -> None:
    refused = await refusal(stub.ControlReplay(pb.ControlReplayRequest(paused=True)))
    assert (refused.code(), reason(refused)) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_A_REPLAY")
    assert "sensebind replay --serve" in refused.details()


async def test_a_replay_is_controlled(stub: PerceptionStub, replay: ReplayControl) -> None:
    state = await stub.ControlReplay(pb.ControlReplayRequest())
    assert (state.start_ns, state.duration_s, state.from_s, state.to_s) == (START_NS, 60, 10, 50)
    assert (state.position_s, state.speed, state.paused, state.stretch) == (10, 0, False, 1)
    state = await stub.ControlReplay(pb.ControlReplayRequest(paused=True, speed=2.5))
    assert (state.paused, state.speed) == (True, 2.5)
    state = await stub.ControlReplay(pb.ControlReplayRequest(paused=False, speed=0))
    assert (state.paused, state.speed) == (False, 0)
    state = await stub.ControlReplay(pb.ControlReplayRequest(step_ticks=3))
    replay.ticked(3)
    assert (await stub.ControlReplay(pb.ControlReplayRequest())).paused


@pytest.mark.parametrize("where", [{"seek_s": 30.0}, {"seek_ns": START_NS + 30 * S}])
async def test_a_seek_is_answered_once_it_is_done(
    stub: PerceptionStub, replay: ReplayControl, where: dict[str, float]
) -> None:
    asked = asyncio.ensure_future(stub.ControlReplay(pb.ControlReplayRequest(**where)))  # type: ignore[arg-type]
    await until(lambda: replay.state().position_ns == START_NS + 30 * S)
    assert replay.jump() == START_NS + 30 * S
    assert not asked.done()
    assert replay.jump() is None
    state = await asked
    assert (state.position_s, state.stretch) == (30, 2)


async def test_a_client_that_gives_up_its_seek_leaves_the_others_theirs(
    stub: PerceptionStub, replay: ReplayControl
) -> None:
    refused = await refusal(stub.ControlReplay(pb.ControlReplayRequest(seek_s=30), timeout=0.1))
    assert refused.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    asked = asyncio.ensure_future(stub.ControlReplay(pb.ControlReplayRequest(seek_s=40)))
    await until(lambda: replay.state().position_ns == START_NS + 40 * S)
    assert replay.jump() == START_NS + 40 * S
    replay.jump()
    assert (await asked).position_s == 40


async def test_a_seek_that_the_end_of_the_agent_overtakes(stub: PerceptionStub, replay: ReplayControl) -> None:
    asked = asyncio.ensure_future(stub.ControlReplay(pb.ControlReplayRequest(seek_s=30)))
    await until(lambda: replay.state().position_ns == START_NS + 30 * S)
    replay.close()
    refused = await refusal(asked)
    assert (refused.code(), reason(refused)) == (grpc.StatusCode.UNAVAILABLE, "AGENT_STOPS")


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (pb.ControlReplayRequest(speed=0.01), {"speed"}),
        (pb.ControlReplayRequest(speed=-1), {"speed"}),
        (pb.ControlReplayRequest(speed=float("inf")), {"speed"}),
        (pb.ControlReplayRequest(speed=float("nan"), seek_s=float("nan")), {"speed", "seek_s"}),
        (pb.ControlReplayRequest(seek_s=9.9), {"seek_s"}),
        (pb.ControlReplayRequest(seek_s=50.1), {"seek_s"}),
        (pb.ControlReplayRequest(seek_s=1e300), {"seek_s"}),
        (pb.ControlReplayRequest(seek_ns=0), {"seek_ns"}),
        (pb.ControlReplayRequest(step_ticks=1, paused=False), {"step_ticks"}),
        (pb.ControlReplayRequest(step_ticks=2**32 - 1), {"step_ticks"}),
    ],
)
async def test_what_a_replay_cannot_do_is_refused_by_field(
    stub: PerceptionStub, replay: ReplayControl, request_: pb.ControlReplayRequest, fields: set[str]
) -> None:
    before = replay.state()
    refused = await refusal(stub.ControlReplay(request_))
    assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert set(violations(refused)) == fields
    assert replay.state() == before
