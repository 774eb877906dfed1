"""A run that is served until a signal comes, for the verbs `run`, `record` and `replay`."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.collection import resume_collection
from agent.commands.signals import ending
from agent.commands.telling import tell
from common.printable import printable

if TYPE_CHECKING:
    from agent.run.run import Run


async def serve_run(run: Run, address: str, *, insecure: bool, seconds: float | None = None) -> None:
    """Serve a run until a signal comes, or a fault, or for so many seconds from when it listens."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    with ending.calling(lambda: loop.call_soon_threadsafe(stop.set)):
        await _until(stop, run, address, insecure=insecure, seconds=seconds)


async def _until(stop: asyncio.Event, run: Run, address: str, *, insecure: bool, seconds: float | None) -> None:
    from agent.commands.beginning import described, tell_beginning
    from agent.run.serving import serving

    if sys.stderr.isatty():
        tell(printable(f"sensebind starts {', '.join(run.config.sensors)}, and loads {described(run)}"), sys.stderr)
    async with serving(run, address, insecure=insecure) as server:
        tell(f"sensebind listens at {server.address}")
        stopping = asyncio.create_task(_stopped(stop, seconds))
        beginning = asyncio.create_task(tell_beginning(run))
        # After the end of all recordings queries and requests are still answered: only a signal or a fault ends this.
        for milestone in (server.loaded, server.ended):
            await asyncio.wait({stopping, server.ended, milestone}, return_when=asyncio.FIRST_COMPLETED)
            if server.ended.done():
                server.ended.result()
            if server.loaded.done() and milestone is server.loaded:
                resume_collection()
                tell(f"sensebind runs {server.loaded.result().name}")
                _tell_note_on_weights(run)
        await stopping
        beginning.cancel()
        ending.hurried = not server.loaded.done()


async def _stopped(stop: asyncio.Event, seconds: float | None) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _tell_note_on_weights(run: Run) -> None:
    from agent.run.known import note_on_weights

    if note := note_on_weights(run.config):
        tell(f"sensebind: note: {note}", sys.stderr)
