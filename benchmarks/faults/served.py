"""An agent that runs as a process of its own on the synthetic scene, for faults to be injected into."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent.client import Client, ClientError
from protos import perception_pb2 as pb

MB = 1e6
_BEGIN = [sys.executable, "-c", "from agent.cli import main; main()", "run", "--listen", "127.0.0.1:0"]


@dataclass(frozen=True, slots=True)
class Served:
    """The agent's process and where it listens."""

    pid: int
    address: str

    async def status(self) -> pb.Status:
        """Its status now, asked for over a connection of its own."""
        async with Client(self.address) as client:
            return await client.status()

    async def answers(self) -> bool:
        """Whether it tells its status."""
        try:
            await self.status()
        except ClientError:
            return False
        return True

    def resident_mb(self) -> float:
        """Memory that it holds, in MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MB

    def open_files(self) -> int:
        """Descriptors that it holds."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@asynccontextmanager
async def served(config: Mapping[str, Any] | None = None, *, open_files: int | None = None) -> AsyncIterator[Served]:
    """Run an agent with the model loaded, on a config or the synthetic scene, with so many files allowed."""
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            *_command(config, Path(folder), open_files), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            address = (await process.stdout.readline()).decode().removeprefix("sensebind listens at ").strip()
            begun = await process.stdout.readline()
            if not begun.startswith(b"sensebind runs "):
                raise RuntimeError(f"the agent did not begin: {begun!r}")
            yield Served(process.pid, address)
        finally:
            process.terminate()
            await process.communicate()


async def seconds_until(holds: Callable[[], Awaitable[bool]], longest_s: float) -> float:
    """Seconds until something holds, asked ten times a second; infinity when it does not in time."""
    begun = time.monotonic()
    while not await holds():
        if time.monotonic() - begun > longest_s:
            return math.inf
        await asyncio.sleep(0.1)
    return time.monotonic() - begun


def _command(config: Mapping[str, Any] | None, folder: Path, open_files: int | None) -> list[str]:
    command = ["prlimit", f"--nofile={open_files}", *_BEGIN] if open_files else list(_BEGIN)
    if config is not None:
        path = folder / "agent.yaml"
        path.write_text(yaml.safe_dump(dict(config)))
        command += ["--config", str(path)]
    return command
