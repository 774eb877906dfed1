"""A subscriber as a process of its own, in plain gRPC: prints the seq of every event that it reads.

python -m benchmarks.faults.subscriber ADDRESS
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from protos import perception_pb2 as pb
from protos.perception_pb2_grpc import PerceptionStub


@asynccontextmanager
async def subscriber(address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run one, subscribed by the time it is there. SIGSTOP freezes it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.faults.subscriber", address, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"subscribed\n"
        yield process
    finally:
        process.kill()
        await process.communicate()


def main() -> None:
    """Read until the agent ends it."""
    with grpc.insecure_channel(sys.argv[1]) as channel:
        call = PerceptionStub(channel).Subscribe(pb.SubscribeRequest(vectors=True))
        call.initial_metadata()
        print("subscribed", flush=True)
        for event in call:
            print(event.seq, flush=True)


if __name__ == "__main__":
    main()
