"""A live agent whose model hangs, fails or is too slow says so, and refuses what would wait for nothing."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import agent.embedding.condition
from agent.client import Client, ClientError
from agent.config.parse import Config, parse
from agent.embedding.budget import Budget
from agent.embedding.embedder import Embedder
from agent.embedding.model import Embedded
from agent.embedding.reduction import LEFT_OUT
from agent.run import build
from agent.run.run import Run
from agent.run.serving import serving
from agent.windows.window import Tick
from protos import perception_pb2 as pb

DEADLINE_S = 90.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Trouble:
    """What an embedder does to ticks instead of embedding them, when told so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.open.set()
        self.held = threading.Event()
        """Set once a tick waits."""
        self.error: Exception | None = None
        embed = Embedder.embed

        def troubled(embedder: Embedder, ticks: Sequence[Tick], budget: Budget | None = None) -> list[Embedded]:
            if not self.open.is_set():
                self.held.set()
                assert self.open.wait(DEADLINE_S)
            if self.error is not None:
                raise self.error
            return embed(embedder, ticks, budget)

        monkeypatch.setattr(Embedder, "embed", troubled)


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    trouble = Trouble(monkeypatch)
    yield trouble
    trouble.open.set()


def config(weights: Path) -> Config:
    sensors = {"imu": {"type": "synthetic_imu"}, "eye": {"type": "synthetic_camera", "width": 64, "height": 64}}
    model = {"weights": str(weights), "device": "cpu"}
    return parse({"model": model, "sensors": sensors, "windows": {"hop_s": 0.2}})


class Agent:
    """A served pipeline, and what a subscriber has got of it."""

    def __init__(self, pipeline: Run, client: Client, health: health_pb2_grpc.HealthStub) -> None:
        self.pipeline, self.client, self._health = pipeline, client, health
        self.events: list[pb.Event] = []

    async def follow(self) -> None:
        async for event in self.client.subscribe(kinds=["model", "query", "embedding"]):
            self.events.append(event)

    async def health(self) -> int:
        return int((await self._health.Check(health_pb2.HealthCheckRequest())).status)

    async def until_health(self, status: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while await self.health() != status:  # noqa: ASYNC110  (it is asked, it does not tell)
                await asyncio.sleep(0.05)

    async def event(self, wanted: Callable[[pb.Event], bool], after: int = 0) -> pb.Event:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for event in self.events[after:]:
                    if wanted(event):
                        return event
                await asyncio.sleep(0.02)

    async def state(self, state: pb.ModelState.State.ValueType, after: int = 0) -> pb.ModelState:
        return (await self.event(lambda e: e.HasField("model") and e.model.state == state, after)).model


@asynccontextmanager
async def running(weights: Path) -> AsyncIterator[Agent]:
    pipeline = build.live(config(weights))
    async with (
        serving(pipeline, "127.0.0.1:0") as server,
        Client(server.address, timeout_s=DEADLINE_S) as client,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        agent_ = Agent(pipeline, client, health_pb2_grpc.HealthStub(channel))
        assert (await client.status()).model_state.state == pb.ModelState.STATE_LOADING
        following = asyncio.create_task(agent_.follow())
        await server.loaded
        await agent_.event(lambda e: e.HasField("embedding"))
        await agent_.until_health(SERVING)
        try:
            yield agent_
        finally:
            following.cancel()
            await asyncio.wait([following])


async def test_a_model_that_hangs_is_told_and_asked_nothing(
    nano_weights: Path, trouble: Trouble, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agent.embedding.condition, "HUNG_S", 2.0)
    caplog.set_level(logging.INFO)
    async with running(nano_weights) as agent_:
        trouble.open.clear()
        await asyncio.to_thread(trouble.held.wait, DEADLINE_S)
        waiting = asyncio.create_task(agent_.client.embed(texts=["a dog"]))
        hung = await agent_.state(pb.ModelState.STATE_HUNG)
        assert "has not come back for" in hung.reason
        assert "from tick" in hung.reason
        await agent_.until_health(NOT_SERVING)
        status = await agent_.client.status()
        assert status.model_state.state == pb.ModelState.STATE_HUNG
        assert status.ticks_produced == (
            status.ticks_delivered + sum(status.ticks_shed.values()) + status.ticks_in_flight
        )
        # What waited before and what comes now are refused at once.
        for call in (waiting, agent_.client.embed(texts=["a cat"]), agent_.client.add_query("a dog")):
            with pytest.raises(ClientError, match="has not come back") as refused:
                await call
            assert refused.value.code == grpc.StatusCode.UNAVAILABLE
        mark = len(agent_.events)
        trouble.open.set()
        await agent_.event(lambda e: e.HasField("embedding"), mark)
        await agent_.until_health(SERVING)
        assert (await agent_.client.add_query("a dog")).text == "a dog"
    lines = [record.message for record in caplog.records if record.message.startswith("the model is hung")]
    assert len(lines) == 1


async def test_a_model_that_fails_on_every_tick_is_told(
    nano_weights: Path, trouble: Trouble, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agent.embedding.condition, "FAILING_S", 1.0)
    async with running(nano_weights) as agent_:
        trouble.error = MemoryError("CUDA out of memory")
        failing = await agent_.state(pb.ModelState.STATE_FAILING)
        assert failing.reason.endswith("the last one on: CUDA out of memory")
        await agent_.until_health(NOT_SERVING)
        mark = len(agent_.events)
        trouble.error = None
        await agent_.event(lambda e: e.HasField("embedding"), mark)
        await agent_.until_health(SERVING)
        assert (await agent_.client.status()).ticks_shed["model error"] > 2
    assert len([r for r in caplog.records if r.message.startswith("the model is failing")]) == 1


async def test_a_delivery_that_fails_on_every_tick_counts_as_well(
    nano_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent.embedding.condition, "FAILING_S", 1.0)
    async with running(nano_weights) as agent_:

        def fail(_: Embedded) -> None:
            raise RuntimeError("nowhere to put it")

        monkeypatch.setattr(agent_.pipeline.loaded.result().perceiving.perception, "perceive", fail)
        assert "nowhere to put it" in (await agent_.state(pb.ModelState.STATE_FAILING)).reason
        await agent_.until_health(NOT_SERVING)


async def test_queries_that_come_and_go_are_told_to_all(nano_weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running(nano_weights) as agent_:
        query = await agent_.client.add_query("a dog", query_id="dog")
        await agent_.client.remove_query("dog")

        def told(change: pb.QueryChange.Change.ValueType) -> Callable[[pb.Event], bool]:
            return lambda e: e.HasField("query") and e.query.change == change

        added = await agent_.event(told(pb.QueryChange.CHANGE_ADDED))
        removed = await agent_.event(told(pb.QueryChange.CHANGE_REMOVED))
        assert added.query.query == removed.query.query == query
        assert added.seq < removed.seq
    assert "query dog 'a dog' is added" in caplog.messages
    assert "query dog 'a dog' is removed" in caplog.messages


async def test_a_machine_that_is_too_slow_leaves_out_and_says_what(
    nano_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, slow = Embedder._run, threading.Event()

    def slowly(embedder: Embedder, *given: object, **named: object) -> object:
        if slow.is_set():
            threading.Event().wait(0.2)  # a hop for each of two sensors: twice what the machine can do
        return run(embedder, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Embedder, "_run", slowly)
    async with running(nano_weights) as agent_:
        slow.set()
        overloaded = await agent_.state(pb.ModelState.STATE_OVERLOADED)
        assert overloaded.reduced
        assert overloaded.reason.endswith("left out: " + "; ".join(overloaded.reduced))
        assert await agent_.health() == SERVING

        def left_out(event: pb.Event) -> bool:
            return any(window.missing_reason == LEFT_OUT for window in event.embedding.windows)

        event = await agent_.event(left_out)
        assert not any(w.present for w in event.embedding.windows if w.missing_reason == LEFT_OUT)
        mark = len(agent_.events)
        slow.clear()
        assert not (await agent_.state(pb.ModelState.STATE_OK, mark)).reduced
