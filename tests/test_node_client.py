from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fake_agent import FakeAgent, serving, until

from agent.scores import Scores, put_scores
from protos import perception_pb2 as pb
from protos.sensors_pb2 import MODALITY_AUDIO

CLIENT = Path(__file__).parent.parent / "clients" / "node"
pytestmark = [
    pytest.mark.hardware,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (CLIENT / "node_modules" / "@grpc" / "grpc-js").is_dir(),
        reason="the node client's packages are missing: run `npm install` in clients/node",
    ),
]


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        "node", "watch.js", *arguments, cwd=CLIENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


async def finish(watch: asyncio.subprocess.Process) -> tuple[int | None, Sequence[str], str]:
    try:
        out, err = await asyncio.wait_for(watch.communicate(), 30)
    except TimeoutError:
        watch.kill()
        raise
    return watch.returncode, out.decode().splitlines(), err.decode()


async def test_node_prints_events() -> None:
    agent = FakeAgent()
    async with serving(agent) as address:
        watch = await start(address, "--count", "40")
        await until(lambda: agent.bus.subscribers == 1)
        agent.publish_embedding(7)
        agent.publish_alert(1)
        body = pb.AudioSource(state=pb.SOURCE_STATE_NOT_IN_VIEW, direction=pb.Direction(azimuth_deg=-42.5))
        agent.bus.publish(pb.Event(capture_ns=1_700_000_000_500_000_000, audio_source=body))
        health = pb.StreamHealth(
            sensor="ear", modality=MODALITY_AUDIO, state=pb.StreamHealth.STATE_DEGRADED, rate_hz=8, reason="slow"
        )
        agent.bus.publish(pb.Event(health=health))
        # More than may be on their way at a time: the client says that it has read those before.
        for number in range(36):
            agent.publish_alert(number)
        code, lines, errors = await finish(watch)
    assert (code, errors) == (0, "")
    embedding, alert, source, degraded, *alerts = lines
    assert [int(line.split()[0]) for line in alerts] == list(range(5, 41))
    assert embedding.startswith("1 ")
    assert embedding.endswith("embedding tick 7 eye=[0.04 0.04 ...] ear=[0.04 0.04 ...]")  # 512 equal numbers
    assert alert.endswith('alert begin "a dog" by audio')
    assert source == "3 2023-11-14T22:13:20.500Z audio_source not_in_view azimuth -42.5 deg"
    assert degraded.endswith("health ear degraded 8.0 Hz slow")


async def test_node_prints_how_much_of_a_window_never_came() -> None:
    agent = FakeAgent()
    async with serving(agent) as address:
        watch = await start(address, "--count", "1")
        await until(lambda: agent.bus.subscribers == 1)
        windows = [pb.WindowEmbedding(sensor="ear", present=True, filled=0.125)]
        agent.bus.publish(pb.Event(embedding=pb.Embedding(tick=7, windows=windows)))
        code, lines, errors = await finish(watch)
    assert (code, errors) == (0, "")
    assert lines[0].endswith("embedding tick 7 ear=present(12.5% filled)")


async def test_node_prints_the_best_scores_in_whichever_form_they_come() -> None:
    agent = FakeAgent()
    body = pb.Embedding(tick=3)
    put_scores(Scores(("dog", "cat"), ("vision", "audio"), np.array([[0.25, 0.5], [0.75, 1]], np.float32)), body)
    table, messages = pb.Embedding(), pb.Embedding()
    table.CopyFrom(body)
    table.ClearField("scores")
    messages.CopyFrom(body)
    messages.ClearField("score_table")
    async with serving(agent) as address:
        watch = await start(address, "--count", "2")
        await until(lambda: agent.bus.subscribers == 1)
        agent.bus.publish(pb.Event(embedding=table))
        agent.bus.publish(pb.Event(embedding=messages))
        code, lines, errors = await finish(watch)
    assert (code, errors) == (0, "")
    told = "embedding tick 3 dog=0.50 (audio) cat=1.00 (audio)"
    assert all(line.endswith(told) for line in lines)
    assert len(lines) == 2


async def test_node_filters_by_kind_and_shows_why_it_ended() -> None:
    agent = FakeAgent()
    async with serving(agent) as address:
        watch = await start(address, "--kind", "alert")
        await until(lambda: agent.bus.subscribers == 1)
        agent.publish_embedding()
        agent.publish_alert()
    code, lines, errors = await finish(watch)
    assert code == 1
    assert [line.split()[2] for line in lines] == ["alert"]
    assert errors == f"{address}: UNAVAILABLE: agent is stopping\n"


async def test_node_ends_quietly_when_nobody_reads_it_any_more() -> None:
    agent = FakeAgent()
    async with serving(agent) as address:
        reading, writing = os.pipe()
        watch = await asyncio.create_subprocess_exec(
            "node", "watch.js", address, cwd=CLIENT, stdout=writing, stderr=subprocess.PIPE
        )
        os.close(writing)
        await until(lambda: agent.bus.subscribers == 1)
        os.close(reading)
        agent.publish_alert()
        _, errors = await asyncio.wait_for(watch.communicate(), 30)
    assert (watch.returncode, errors) == (0, b"")
