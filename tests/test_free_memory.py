"""Free memory goes back to the system after large calls, and only then."""

from __future__ import annotations

import asyncio
import time

import pytest

import agent.server.free_memory
from agent.server.free_memory import FreeMemory


async def test_large_calls_share_one_giving_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.server.free_memory, "QUIET_S", 0.05)
    monkeypatch.setattr(agent.server.free_memory, "LARGE_BYTES", 1000)
    memory, given_back = FreeMemory(), list[float]()
    monkeypatch.setattr(memory, "_trim", lambda _: given_back.append(time.monotonic()))
    memory.note(999)
    began = time.monotonic()
    for _ in range(3):
        memory.note(1000)
    while not given_back:
        assert time.monotonic() < began + 10
        await asyncio.sleep(0.01)
    assert len(given_back) == 1
    assert given_back[0] - began >= 0.05
    memory.note(5000)
    while len(given_back) < 2:
        assert time.monotonic() < began + 10
        await asyncio.sleep(0.01)
