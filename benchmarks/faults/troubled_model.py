"""A live agent in this process whose embedder is made to hang, to fail or to be slow; served over loopback."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from agent.client import Client
from agent.config.parse import Config, parse
from agent.embedding.budget import Budget
from agent.embedding.embedder import Embedder
from agent.embedding.model import Embedded
from agent.run import build
from agent.run.serving import serving
from agent.windows.window import Tick
from models.files import checkpoint
from models.imagebind import ImageBind, Sizes
from models.transformer import TowerSizes
from protos import perception_pb2 as pb

WAIT_S = 60.0


class Trouble:
    """What happens to ticks instead of, or before, their being embedded; set it at any time."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None
        self.pass_s = 0.0
        """That the pass of one modality takes longer."""

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Every embedder is subject to it."""
        embed, run_pass = Embedder.embed, Embedder._run

        def troubled(embedder: Embedder, ticks: Sequence[Tick], budget: Budget | None = None) -> list[Embedded]:
            self.open.wait(WAIT_S)
            if self.error is not None:
                raise self.error
            return embed(embedder, ticks, budget)

        def slow(embedder: Embedder, *given: Any, **named: Any) -> Any:
            time.sleep(self.pass_s)
            return run_pass(embedder, *given, **named)

        with patch.object(Embedder, "embed", troubled), patch.object(Embedder, "_run", slow):
            try:
                yield
            finally:
                self.open.set()


class Watched:
    """The agent, and what a subscriber has got of it."""

    def __init__(self, client: Client, health: health_pb2_grpc.HealthStub) -> None:
        self.client = client
        self.events: list[pb.Event] = []
        self._health = health

    async def follow(self) -> None:
        """Collect events until cancelled."""
        async for event in self.client.subscribe(kinds=["embedding", "model", "query"]):
            self.events.append(event)

    async def until(self, wanted: Callable[[pb.Event], bool], after: int = 0) -> float:
        """Wait for an event; in how many seconds it came."""
        began = time.monotonic()
        while not any(wanted(event) for event in self.events[after:]):
            if time.monotonic() - began > WAIT_S:
                raise TimeoutError("the awaited event did not come")
            await asyncio.sleep(0.01)
        return time.monotonic() - began

    async def serves(self) -> bool:
        """What the health service says."""
        answer = await self._health.Check(health_pb2.HealthCheckRequest())
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def until_serves(self, serves: bool) -> float:
        """Wait until the health service says so; in how many seconds it did."""
        began = time.monotonic()
        while await self.serves() != serves:
            if time.monotonic() - began > WAIT_S:
                raise TimeoutError(f"health does not become {serves}")
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def accounted(self) -> bool:
        """Whether every tick is delivered, shed or in flight."""
        status = await self.client.status()
        known = status.ticks_delivered + sum(status.ticks_shed.values()) + status.ticks_in_flight
        return bool(status.ticks_produced == known)


@asynccontextmanager
async def troubled_agent() -> AsyncIterator[tuple[Watched, Trouble]]:
    """Run and serve an agent with five sensors; it has told of a window of each, and is sound."""
    trouble = Trouble()
    with trouble.in_place(), tempfile.TemporaryDirectory() as folder:
        config = small_agent(Path(folder))
        pipeline = build.live(config)
        async with (
            serving(pipeline, "127.0.0.1:0") as server,
            Client(server.address) as client,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            watched = Watched(client, health_pb2_grpc.HealthStub(channel))
            following = asyncio.create_task(watched.follow())
            try:
                await server.loaded
                for sensor in config.sensors:
                    await watched.until(shows(sensor))
                await watched.until_serves(True)
                yield watched, trouble
            finally:
                trouble.open.set()
                following.cancel()
                await asyncio.wait([following])


def small_agent(folder: Path) -> Config:
    """Five sensors, and a model with random weights: both cost little beside what is injected."""
    tower = TowerSizes(32, 1, 2)
    weights = folder / "tiny.safetensors"
    checkpoint.save(ImageBind(Sizes(16, *[tower] * 6)), weights, {"trained_on": "nothing"})
    picture = {"width": 64, "height": 64, "rate_hz": 10}
    return parse(
        {
            "model": {"device": "cpu", "weights": str(weights)},
            "sensors": {
                "camera": {"type": "synthetic_camera", **picture},
                "microphone": {"type": "synthetic_microphone", "rate_hz": 16_000},
                "depth": {"type": "synthetic_depth", **picture},
                "thermal": {"type": "synthetic_thermal", **picture},
                "imu": {"type": "synthetic_imu"},
            },
        }
    )


def shows(sensor: str) -> Callable[[pb.Event], bool]:
    """Whether an event is a tick with a window of this sensor."""
    return lambda event: any(w.sensor == sensor and w.present for w in event.embedding.windows)


def told(*states: pb.ModelState.State.ValueType) -> Callable[[pb.Event], bool]:
    """Whether an event tells of one of these states of the model."""
    return lambda event: event.HasField("model") and event.model.state in states
