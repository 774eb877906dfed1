"""The end of a served run: what was perceived last is told and logged, and nothing else is, whatever hangs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from running_agent import DEADLINE_S, busy_factor

from agent.client import Client, ClientError
from agent.config.parse import parse
from agent.embedding.budget import Budget
from agent.embedding.embedder import Embedder
from agent.embedding.model import Embedded
from agent.log.editing.survey import survey
from agent.log.timeline import Timeline
from agent.run import build
from agent.run.serving import serving
from agent.windows.windower import Tick
from protos import perception_pb2 as pb

STOPS_S = 5.0
ALERTS = 40


class Gate:
    """Holds the model up in the first tick in which something is seen, until `open` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        embed = Embedder.embed

        def wait_and_embed(embedder: Embedder, ticks: Sequence[Tick], budget: Budget | None = None) -> list[Embedded]:
            if any(not window.missing for tick in ticks for window in tick.windows.values()):
                self.reached.set()
                assert self.open.wait(DEADLINE_S)
            return embed(embedder, ticks, budget)

        monkeypatch.setattr(Embedder, "embed", wait_and_embed)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


@pytest.mark.parametrize("hangs", [False, True])
async def test_what_is_said_at_the_end_reaches_the_log_and_subscribers_alike(
    hangs: bool, gate: Gate, nano_weights: Path, tmp_path: Path
) -> None:
    query = {"text": "a dog", "threshold_on": 0.002, "threshold_off": 0.001, "min_duration_s": 0}
    tree = {
        "model": {"weights": str(nano_weights), "device": "cpu"},
        "sensors": {"camera": {"type": "synthetic_camera", "width": 96, "height": 96, "rate_hz": 10, "seed": 7}},
        "queries": [{**query, "id": f"q{number}"} for number in range(ALERTS)],
    }
    pipeline = build.live(parse(tree), log_to=tmp_path / "run.mcap")
    told: list[pb.Event] = []

    async def follow(client: Client) -> str:
        try:
            async for event in client.subscribe(kinds=["alert", "recording"]):
                told.append(event)  # noqa: PERF401  (kept when the subscription is ended)
        except ClientError as error:
            return str(error)
        return ""

    async with serving(pipeline, "127.0.0.1:0") as server:
        client = await Client(server.address).__aenter__()
        following = asyncio.create_task(follow(client))
        assert await asyncio.to_thread(gate.reached.wait, DEADLINE_S)
        assert (await client.status()).subscribers == 1
        began_s = time.monotonic()
        if not hangs:
            threading.Timer(0.3, gate.open.set).start()
    assert time.monotonic() - began_s < STOPS_S * busy_factor()
    assert "agent is stopping" in await following
    await client.close()
    gate.open.set()
    logged = [
        pb.Event.FromString(entry.message.data)
        for entry in Timeline([tmp_path / "run.mcap"]).read()
        if entry.topic == "/events"
    ]
    alerts = [event.seq for event in logged if event.HasField("alert")]
    assert alerts == [event.seq for event in told if event.HasField("alert")]
    assert len(alerts) == (0 if hangs else ALERTS)
    assert told[-1].recording.state == pb.RecordingState.STATE_CLOSED
    assert not survey([tmp_path / "run.mcap"]).damages
