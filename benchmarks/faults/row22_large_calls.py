"""200 Embed calls of 15 MB each, every second one with pictures that the model refuses; and 20 queries of 15 MB."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import yaml

from benchmarks.faults.measured import Measured
from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub
from protos.sensors_pb2 import Image

CALLS = 200
QUERIES = 20
PICTURES = 5
PIXELS = 1_000_000
"""Of a picture: 3 MB."""
SETTLES_S = 5.0
MOST_MB = 60.0
_AGENT = [sys.executable, "-c", "from agent.cli import main; main()", "run", "--listen", "127.0.0.1:0", "--config"]


def run() -> Measured:
    """Send them, and compare the memory before with that 5 s after."""
    config = {"model": {"device": "cpu"}, "sensors": {"eye": {"type": "synthetic_camera"}}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.yaml"
        path.write_text(yaml.safe_dump(config))
        with subprocess.Popen([*_AGENT, str(path)], stdout=subprocess.PIPE, text=True) as agent:
            assert agent.stdout is not None
            address = agent.stdout.readline().split()[-1]
            agent.stdout.readline()  # once the model is loaded
            try:
                return asyncio.run(_measure(address, agent.pid))
            finally:
                agent.terminate()


async def _measure(address: str, pid: int) -> Measured:
    async with grpc.aio.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        stub = PerceptionStub(channel)
        await asyncio.sleep(SETTLES_S)
        before_mb, most_mb, codes = resident_mb(pid), 0.0, dict[str, int]()
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
            most_mb = max(most_mb, resident_mb(pid))
        took_s = time.monotonic() - began
        await asyncio.sleep(SETTLES_S)
        after_mb = resident_mb(pid)
    found = (
        f"{codes} in {took_s:.0f} s; resident {before_mb:.0f} MB before, {most_mb:.0f} at most, {after_mb:.0f} MB "
        f"{SETTLES_S:g} s after the last: {after_mb - before_mb:+.0f} MB"
    )
    return Measured(f"memory within {MOST_MB:g} MB of before", found, after_mb - before_mb <= MOST_MB)


def _pictures(*, refused: bool) -> pb.EmbedRequest:
    side = 100_000 if refused else 1000  # the model takes none so much longer than wide
    image = Image(encoding=Image.ENCODING_RGB8, width=side, height=PIXELS // side, data=os.urandom(PIXELS * 3))
    return pb.EmbedRequest(images=[image] * PICTURES)


def resident_mb(pid: int) -> float:
    """Memory that a process holds, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
