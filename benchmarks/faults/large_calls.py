"""200 Embed calls of 15 MB each, every second one with pictures that the model refuses; and 20 queries of 15 MB."""

from __future__ import annotations

import asyncio
import os
import time

import grpc

from benchmarks.faults.served import Served
from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub
from protos.sensors_pb2 import Image

CALLS = 200
QUERIES = 20
PICTURES = 5
PIXELS = 1_000_000
"""Of a picture: 3 MB."""
SETTLES_S = 5.0


async def grown(agent: Served) -> tuple[float, str]:
    """Send them; by how many MB the agent holds more 5 s later than before, and the figures as a line."""
    async with grpc.aio.insecure_channel(agent.address, options=[("grpc.max_send_message_length", -1)]) as channel:
        stub = PerceptionStub(channel)
        await asyncio.sleep(SETTLES_S)
        before_mb, most_mb, codes = agent.resident_mb(), 0.0, dict[str, int]()
        began = time.monotonic()
        for i in range(CALLS + QUERIES):
            try:
                if i < CALLS:
                    await stub.Embed(_pictures(refused=bool(i % 2)))
                else:
                    await stub.AddQuery(pb.AddQueryRequest(text="x" * PICTURES * PIXELS * 3))
                code = "OK"
            except grpc.aio.AioRpcError as error:
                code = error.code().name
            codes[code] = codes.get(code, 0) + 1
            most_mb = max(most_mb, agent.resident_mb())
        took_s = time.monotonic() - began
        await asyncio.sleep(SETTLES_S)
        after_mb = agent.resident_mb()
    found = (
        f"{codes} in {took_s:.0f} s; resident {before_mb:.0f} MB before, {most_mb:.0f} at most, {after_mb:.0f} MB "
        f"{SETTLES_S:g} s after the last: {after_mb - before_mb:+.0f} MB"
    )
    return after_mb - before_mb, found


def _pictures(*, refused: bool) -> pb.EmbedRequest:
    side = 100_000 if refused else 1000  # the model takes none so much longer than wide
    image = Image(encoding=Image.ENCODING_RGB8, width=side, height=PIXELS // side, data=os.urandom(PIXELS * 3))
    return pb.EmbedRequest(images=[image] * PICTURES)
