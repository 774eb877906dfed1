from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import Awaitable
from typing import Any

import pytest
from fake_agent import FakeAgent, serving, until
from rich.console import Console

import agent.commands.watching
from agent.client import Client, ClientError
from agent.commands.view import LiveView
from agent.commands.watching import Printer, watch
from protos import perception_pb2 as pb


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class CountingView(LiveView):
    """Counts the statuses that it is given."""

    statuses = 0

    def on_status(self, status: pb.Status, queries: dict[str, str]) -> None:
        self.statuses += 1
        super().on_status(status, queries)


@pytest.mark.parametrize("terminal", [True, False])
async def test_watching_outlives_the_agent(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.commands.watching, "STATUS_PERIOD_S", 0.02)
    monkeypatch.setattr(agent.commands.watching, "PLAIN_STATUS_PERIOD_S", 0.02)
    failures: list[ClientError] = []
    answer = Client._answer

    async def counted(client: Client, call: Awaitable[Any]) -> Any:
        try:
            return await answer(client, call)
        except ClientError as error:
            failures.append(error)
            raise

    monkeypatch.setattr(Client, "_answer", counted)
    address, console = free_address(), Console(file=io.StringIO(), force_terminal=terminal)
    agent_, view = FakeAgent(), CountingView("test")
    seen: list[int] = []
    async with Client(address) as client:
        async with serving(agent_, address=address):
            watching = asyncio.create_task(watch(client, console, view, lambda event: seen.append(event.seq)))
            await until(lambda: agent_.bus.subscribers == 1 and view.statuses > 0)
            agent_.publish_alert()
            await until(lambda: seen == [1])
        await until(lambda: len(failures) > 2 or watching.done())
        agent_.publish_alert()
        before = view.statuses
        async with serving(agent_, address=address):
            await until(lambda: watching.done() or (seen == [1, 2] and view.statuses > before))
            assert not watching.done()
            watching.cancel()
            await asyncio.wait([watching])


async def test_watching_no_agent_is_a_fault() -> None:
    address = free_address()
    async with Client(address) as client:
        with pytest.raises(ClientError, match=f"no agent at {address}"):
            await watch(client, Console(file=io.StringIO()), LiveView("test"))


def test_who_begins_to_watch_is_told_once_why_a_sensor_is_lost_already() -> None:
    screen = io.StringIO()
    printer = Printer(Console(file=screen, width=200))
    lost = pb.StreamHealth(sensor="ear", state=pb.StreamHealth.STATE_LOST, reason="no such device; plug it in")
    for _ in range(2):
        printer.on_status(pb.Status(streams=[lost, pb.StreamHealth(sensor="eye", rate_hz=10)]))
    assert screen.getvalue().splitlines() == [
        "stream ear is lost: no such device; plug it in",
        *["ear 0 Hz, eye 10 Hz; ticks 0 delivered, 0 shed; 0 ms a tick"] * 2,
    ]
