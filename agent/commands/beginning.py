"""The first seconds of a run, on stderr: at a terminal each sensor as it comes, everywhere what takes long."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

from agent.clock import RunClock
from agent.commands.telling import tell
from common.errors import UserFault
from common.printable import printable
from models.files import store
from protos import perception_pb2 as pb

if TYPE_CHECKING:
    from agent.run.run import Run

LOOK_S: Final = 0.25
SLOW_S: Final = 20.0
"""Time between two lines on what is waited for."""
PATIENCE_S: Final = 60.0
"""Time after which a sensor is no longer looked at: `sensebind status` shows it."""


def described(run: Run) -> str:
    """Return the weights of a run by name, with their size if they are there."""
    name = run.config.model.weights
    try:
        path = store.find(name)
        size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.glob("*.safetensors")))
    except (OSError, UserFault):  # whoever loads them says so
        return name
    return f"{name} ({size / 1e6:,.0f} MB)" if size else name


async def tell_beginning(run: Run) -> None:
    """Tell of the sensors and the weights until all are there. Of a replay, of the weights alone."""
    clock = RunClock.start()
    awaited = [] if run.replay else list(run.streams)
    said_s, lost = 0.0, set[str]()
    while awaited or not run.loaded.done():
        await asyncio.sleep(LOOK_S)
        now_s = (clock.now_ns() - clock.start_ns) / 1e9
        streams = {stream.sensor: stream for stream in run.status().streams} if awaited else {}
        for sensor in [name for name in awaited if name in streams]:
            stream = streams[sensor]
            if stream.samples:
                awaited.remove(sensor)
                _at_a_terminal(f"{sensor} gives samples after {now_s:.1f} s")
            elif stream.state == pb.StreamHealth.STATE_LOST and sensor not in lost:
                lost.add(sensor)
                _at_a_terminal(f"{sensor} is lost: {stream.reason}")
        if now_s - said_s >= SLOW_S:
            waiting = [] if run.loaded.done() else [f"{described(run)} to be loaded"]
            waiting += [f"samples of {sensor}" for sensor in awaited if not said_s]  # once
            said_s = now_s
            if waiting:
                tell(printable(f"sensebind waits for {', '.join(waiting)}: {now_s:.0f} s by now"), sys.stderr)
        if now_s >= PATIENCE_S:
            awaited = []


def _at_a_terminal(line: str) -> None:
    if sys.stderr.isatty():
        tell(printable(f"sensebind: {line}"), sys.stderr)
