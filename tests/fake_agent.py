"""A small agent for the tests of the server and its clients: a real bus and a real clock, no model, no devices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from numpy.typing import NDArray

from agent.clock import RunClock
from agent.embedding.requests import EmbedAnswer, Sound
from agent.events.bus import Bus
from agent.log.replay.control import ReplayControl
from agent.query import Query, StandingQuery
from agent.server.server import Limits, Server
from agent.streams import Stream
from agent.vectors import vector_message
from drivers.driver import Modality
from drivers.remote import Remote, RemoteOptions
from protos import perception_pb2 as pb
from protos.sensors_pb2 import MODALITY_AUDIO, MODALITY_VISION

D = 512
VECTOR = vector_message(np.full(D, D**-0.5, np.float32))


def stream(sensor: str, modality: Modality) -> Stream:
    return Stream(sensor, modality, 10.0, 10.0, 1000, 1.0, "latest", 8, 0.2)


class FakeAgent:
    """Satisfies `agent.server.interface.Agent`."""

    def __init__(self, run_id: str = "run") -> None:
        self.clock = RunClock.start()
        self.ahead_ns = 0
        """Time that a test lets pass at once."""
        self.bus = Bus(run_id, self.now_ns)
        self.streams = {"eye": stream("eye", "vision"), "ear": stream("ear", "audio"), "far_ear": stream("x", "audio")}
        self.far_ear = Remote(RemoteOptions("audio", 8000.0, channels=1), self.clock)
        self.far_ear.connect()
        self.remotes = {"far_ear": self.far_ear}
        self.standing: dict[str, StandingQuery] = {}
        self.fails = False
        self.loaded = asyncio.Event()
        self.loaded.set()
        self.ready_calls = 0
        self.adds = asyncio.Event()
        self.adds.set()
        self.embeds = asyncio.Event()
        self.embeds.set()
        self.embed_calls = 0
        self.embed_error: Exception | None = None
        self.replay: ReplayControl | None = None

    def now_ns(self) -> int:
        return self.clock.now_ns() + self.ahead_ns

    async def ready(self) -> None:
        self.ready_calls += 1
        await self.loaded.wait()

    async def add_query(self, query: Query) -> StandingQuery:
        await self.adds.wait()
        warnings = ("no such word: frobnicate",) if "frobnicate" in query.text else ()
        self.standing[query.id] = StandingQuery(query, warnings)
        return self.standing[query.id]

    async def remove_query(self, query_id: str) -> None:
        del self.standing[query_id]

    def list_queries(self) -> Sequence[StandingQuery]:
        return list(self.standing.values())

    async def embed(
        self, texts: Sequence[str], images: Sequence[NDArray[np.uint8]], audio: Sequence[Sound]
    ) -> EmbedAnswer:
        def vectors(numbers: list[float]) -> NDArray[np.float32]:
            return np.array([[number, 1.0] for number in numbers], np.float32).reshape(len(numbers), 2)

        self.embed_calls += 1
        await self.embeds.wait()
        if self.embed_error:
            raise self.embed_error
        return EmbedAnswer(
            vectors([len(text) for text in texts]),
            vectors([float(image.mean()) for image in images]),
            vectors([float(rows.max()) for rows, _ in audio]),
            "fake",
        )

    def status(self) -> pb.Status:
        if self.fails:
            raise RuntimeError("the fake fails on purpose")
        return pb.Status(run_id=self.bus.run_id, model="fake", faults=self.bus.faults.counts())

    def publish_embedding(self, tick: int = 0) -> int:
        windows = [
            pb.WindowEmbedding(sensor="eye", modality=MODALITY_VISION, present=True, vector=VECTOR),
            pb.WindowEmbedding(sensor="ear", modality=MODALITY_AUDIO, present=True, vector=VECTOR),
        ]
        body = pb.Embedding(tick=tick, windows=windows, fused=VECTOR)
        return self.bus.publish(pb.Event(capture_ns=self.now_ns(), embedding=body))

    def publish_alert(self, number: int = 1, query_id: str = "dog") -> int:
        body = pb.AlertTransition(
            query_id=query_id, text="a dog", phase=pb.ALERT_PHASE_BEGIN, alert_id=number, modalities=[MODALITY_AUDIO]
        )
        return self.bus.publish(pb.Event(capture_ns=self.now_ns(), alert=body))


async def until(condition: Callable[[], bool]) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(agent: FakeAgent, limits: Limits | None = None, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Serve an agent and give the address."""
    server = Server(agent, limits or Limits())
    try:
        bound = await server.start(address)
        await server.set_serving(True)
        yield bound
    finally:
        await server.stop(grace_s=1.0)


def violations(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """The fields at fault, from the error's details."""
    for detail in rpc_status.from_call(error).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            return {violation.field: violation.description for violation in bad.field_violations}
    return {}


def reason(error: grpc.aio.AioRpcError) -> str:
    """The constant for programs, from the error's details."""
    info = error_details_pb2.ErrorInfo()
    assert rpc_status.from_call(error).details[0].Unpack(info)
    assert info.domain == "sensebind"
    return info.reason
