from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from fake_agent import FakeAgent, serving, until

from agent.server.limits import Limits
from drivers.codec import encode_audio
from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub

CALLS, CALL_MB, SPARE_MB = 40, 15, 60
CLIENT = """
import asyncio, sys
import grpc
async def main():
    body = sys.stdin.buffer.read()
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(sys.argv[1], options=options) as channel:
        for _ in range(int(sys.argv[3])):
            try:
                await channel.unary_unary("/sensebind.v1.Perception/" + sys.argv[2])(body)
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
            else:
                raise AssertionError("was answered")
asyncio.run(main())
"""


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def refused(address: str, method: str, body: bytes, calls: int) -> None:
    """Make calls, each of which must be refused, from another process."""
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, address, method, str(calls), stdin=subprocess.PIPE
    )
    await client.communicate(body)
    assert client.returncode == 0


def embed_of_nan() -> bytes:
    rows = np.full((CALL_MB * 250_000, 1), np.nan, np.float32)
    return pb.EmbedRequest(audio=[encode_audio(rows, 100_000.0)]).SerializeToString()


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("Embed", embed_of_nan),
        ("AddQuery", lambda: pb.AddQueryRequest(text="x" * (CALL_MB * 10**6)).SerializeToString()),
    ],
    ids=["bad-sound", "endless-text"],
)
async def test_what_a_refused_request_held_comes_back(method: str, body: object) -> None:
    assert callable(body)
    async with serving(FakeAgent()) as address:
        sent = body()
        await refused(address, method, sent, 1)
        before_mb = resident_mb()
        await refused(address, method, sent, CALLS)
        await until(lambda: resident_mb() < before_mb + SPARE_MB)


async def test_filters_too_large_leave_nothing_behind() -> None:
    request = pb.SubscribeRequest(query_ids=["x" * 15_000] * 1000)
    async with serving(FakeAgent(), Limits()) as address, grpc.aio.insecure_channel(address) as channel:
        before_mb = resident_mb()
        for _ in range(5):
            with pytest.raises(grpc.aio.AioRpcError, match="15003000 bytes are too many"):
                await PerceptionStub(channel).Subscribe(request).read()
        await until(lambda: resident_mb() < before_mb + SPARE_MB)
