"""A run that is served until a signal comes, for the verbs `run`, `record` and `replay`."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.commands.signals import ending

if TYPE_CHECKING:
    from agent.run.run import Run


async def serve_run(run: Run, address: str, *, insecure: bool) -> None:
    """Serve a run until a signal comes, or a fault."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    with ending.calling(lambda: loop.call_soon_threadsafe(stop.set)):
        await _until(stop, run, address, insecure=insecure)


async def _until(stop: asyncio.Event, run: Run, address: str, *, insecure: bool) -> None:
    from agent.run.serving import serving

    async with serving(run, address, insecure=insecure) as server:
        tell(f"sensebind listens at {server.address}")
        stopping = asyncio.create_task(stop.wait())
        # After the end of all recordings queries and requests are still answered: only a signal or a fault ends this.
        for milestone in (server.loaded, server.ended):
            await asyncio.wait({stopping, server.ended, milestone}, return_when=asyncio.FIRST_COMPLETED)
            if server.ended.done():
                server.ended.result()
            if server.loaded.done() and milestone is server.loaded:
                tell(f"sensebind runs {server.loaded.result().name}")
                _tell_limits(run)
        await stopping


def _tell_limits(run: Run) -> None:
    from agent.run.known import limits_of

    if limits := limits_of(run.config):
        with suppress(OSError):
            print(f"sensebind: note: {limits}", file=sys.stderr, flush=True)


def tell(line: str) -> None:
    """Print a line, which an agent does not end for when nobody reads it any more."""
    with suppress(OSError):
        print(line, flush=True)
