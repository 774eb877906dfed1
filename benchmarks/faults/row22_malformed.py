"""200 Embed calls and 20 queries of 15 MB, half of them refused; claims of 4 GB, too large messages, random bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable

import grpc
import numpy as np

from agent.server.servicer import SERVICE
from benchmarks.faults.large_calls import grown as grown_by_large_calls
from benchmarks.faults.measured import Measured
from benchmarks.faults.served import Served, seconds_until, served
from drivers.codec import encode_audio
from protos import perception_pb2 as pb

BAR = "all refused, 0 internal errors, agent alive, RSS within 60 MB of before 5 s later"
SPARE_MB, LATER_S = 60.0, 5.0
LARGE = 15_000_000
SMALL = 100_000
"""Bytes of a request up to which its memory is not worth waiting for."""


def run() -> Measured:
    """One kind after the other."""
    return asyncio.run(_run())


async def _run() -> Measured:
    kinds: dict[str, tuple[str, Callable[[], bytes], int]] = {
        "sound that is not finite": ("Embed", _bad_sound, 30),
        "17 MB": ("Embed", lambda: bytes(17 * 2**20), 10),
        "claims of 4 GB": ("Embed", lambda: b"\x0a\xff\xff\xff\xff\x0f" + b"x" * 1000, 50),
        "random bytes": ("", lambda: b"", 100),
    }
    grown: dict[str, float] = {}
    codes: Counter[str] = Counter()
    async with served() as agent:
        await _send(agent, "Embed", _bad_sound(), 1)  # what is needed for any request is there from here on
        await asyncio.sleep(LATER_S)
        grown["large calls"], large = await grown_by_large_calls(agent)
        for kind, (method, body, count) in kinds.items():
            before_mb = agent.resident_mb()
            sent = body()
            codes += await _send(agent, method, sent, count)
            await asyncio.sleep(LATER_S if len(sent) > SMALL else 0.5)
            grown[kind] = agent.resident_mb() - before_mb
        await asyncio.to_thread(_talk_nonsense, agent.address)
        alive = await seconds_until(agent.answers, 30) < 30
    told = ", ".join(f"{kind} {mb:+.0f}" for kind, mb in grown.items())
    found = f"{'alive' if alive else 'DEAD'}; {dict(codes)}; RSS in MB: {told}; {large}"
    return Measured(BAR, found, alive and max(grown.values()) < SPARE_MB and not codes["INTERNAL"] + codes["UNKNOWN"])


async def _send(agent: Served, method: str, sent: bytes, count: int) -> Counter[str]:
    """How the calls ended. Without a method: any, with bytes at random."""
    rng = np.random.default_rng(22)
    codes: Counter[str] = Counter()
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(agent.address, options=options) as channel:
        for _ in range(count):
            name = method or SERVICE.methods[rng.integers(len(SERVICE.methods))].name
            raw = sent if method else rng.bytes(int(rng.integers(1, 200)))
            call = channel.stream_stream(f"/{SERVICE.full_name}/{name}")(iter([raw]), timeout=5)
            try:
                await call.read()
                codes["answered"] += 1
                call.cancel()
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] += 1
    return codes


def _bad_sound() -> bytes:
    rows = np.full((LARGE // 4, 1), np.nan, np.float32)
    return pb.EmbedRequest(audio=[encode_audio(rows, 100_000.0)]).SerializeToString()


def _talk_nonsense(address: str) -> None:
    """Open connections and say what is not HTTP/2, or begins so and breaks off."""
    rng = np.random.default_rng(23)
    host, _, port = address.rpartition(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for i in range(200):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall((preface if i % 2 else b"") + rng.bytes(int(rng.integers(1, 2000))))
