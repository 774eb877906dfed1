"""A log that is replayed behind the server, and what its users do with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fake_agent import until

from agent.client import Client
from agent.clock import RunClock
from agent.config.parse import parse
from agent.log.reading import facts_of
from agent.log.replay.control import ReplayOptions
from agent.run import build
from agent.run.serving import serving
from protos import perception_pb2 as pb

DURATION_S = 8
START_NS = 1_700_000_000_200_000_000
"""A fifth of a second after a tick."""
THERMAL = {"type": "synthetic_thermal", "seed": 7, "width": 64, "height": 64}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, nano_weights: Path) -> Path:
    path = tmp_path_factory.mktemp("log") / "run.mcap"
    sensors = {"thermal": {**THERMAL, "pace": "fast", "duration_s": DURATION_S}}
    model = {"weights": str(nano_weights), "device": "cpu"}
    config = parse({"model": model, "sensors": sensors})
    clock = RunClock(time.time_ns() - time.monotonic_ns(), START_NS)
    pipeline = build.offline(config, log_to=path, clock=clock)
    pipeline.start()
    pipeline.wait()
    pipeline.stop()
    return path


@pytest.fixture
async def client(log: Path) -> AsyncIterator[Client]:
    """Of a replay that stands at its start."""
    pipeline = build.replay(log, parse(facts_of(log).config), options=ReplayOptions(paused=True, lasting=True))
    async with serving(pipeline, "127.0.0.1:0") as server, Client(server.address) as client:
        await server.loaded
        yield client


class Watched:
    """The embeddings that a subscriber gets."""

    def __init__(self, client: Client) -> None:
        self.events: list[pb.Event] = []
        self._following = asyncio.create_task(self._follow(client))

    @property
    def times_s(self) -> list[float]:
        """Capture times, from the first tick."""
        return [(event.capture_ns - self.events[0].capture_ns) / 1e9 for event in self.events]

    async def _follow(self, client: Client) -> None:
        async for event in client.subscribe(kinds=["embedding"]):
            self.events.append(event)

    async def stop(self) -> None:
        self._following.cancel()
        await asyncio.wait([self._following])


async def watched(client: Client) -> Watched:
    watched = Watched(client)
    await until_status(client, lambda status: status.subscribers > 0)
    return watched


async def test_step_by_step_then_on_to_the_end_and_back(client: Client) -> None:
    watching = await watched(client)
    status = await client.status()
    assert status.replay.paused
    assert (status.replay.position_s, status.replay.duration_s) == (0, pytest.approx(DURATION_S, abs=0.2))
    assert status.ticks_shed == {}, "a replay waits for its model"
    for step in (1, 2, 3):
        await client.control_replay(step_ticks=1)
        await until(lambda step=step: len(watching.events) == step)
    assert watching.times_s == [0, 0.5, 1.0]
    await until_status(client, lambda status: status.replay.paused)

    at = (await client.control_replay(seek_s=5.0)).position_s
    assert at == 5.0
    assert (await client.control_replay(step_ticks=1)).speed == 0
    await until(lambda: len(watching.events) == 4)
    start_ns = status.replay.start_ns
    assert 0 < watching.events[3].capture_ns - start_ns - 5 * 10**9 <= 0.5 * 10**9

    await client.control_replay(paused=False)
    await until_ended(client)
    await until(lambda: watching.times_s[-1] > DURATION_S - 1)
    assert len(watching.events) == 4 + 5
    # The server stays, and so does what it is asked.
    query = await client.add_query("a dog barking", threshold_on=0.001, min_duration_s=0)
    assert [found.id for found in await client.list_queries()] == [query.id]
    seen = len(watching.events)
    await client.control_replay(seek_s=0.0)
    await until_ended(client)
    state = await client.control_replay()
    assert (state.stretch, state.ended) == (3, True)
    await until(lambda: len(watching.events) == seen + 2 * DURATION_S)
    assert {score.query_id for score in watching.events[-1].embedding.scores} == {query.id}
    await watching.stop()


async def test_it_keeps_to_the_speed_that_it_is_given(client: Client) -> None:
    """In virtual time elsewhere; here, that a paced replay is not over at once, and goes on at another speed."""
    watching = await watched(client)
    await client.control_replay(paused=False, speed=0.1)
    assert not (await client.control_replay()).ended
    assert (await client.control_replay()).position_s < DURATION_S / 2
    await client.control_replay(speed=0)
    await until_ended(client)
    await until(lambda: len(watching.events) == 2 * DURATION_S)
    await watching.stop()


async def until_ended(client: Client) -> None:
    await until_status(client, lambda status: status.replay.ended)


async def until_status(client: Client, wanted: Callable[[pb.Status], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            if wanted(await client.status()):
                return
            await asyncio.sleep(0.01)
