"""An agent on this machine for the rows of the table: `sensebind run` as users start it, and a subscriber."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from running_agent import RunningAgent, Subscriber

from protos import perception_pb2 as pb

LIVES = (pb.StreamHealth.STATE_OK, pb.StreamHealth.STATE_DEGRADED)
LOST = pb.StreamHealth.STATE_LOST
SETTLES_S = 45.0
"""Until every sensor is in a tick: an inertial window is 5 s long, and the model is loaded first."""


class LiveAgent:
    """A running agent with these sensors."""

    def __init__(
        self, sensors: Mapping[str, Mapping[str, Any]], environment: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        self.sensors = set(sensors)
        self._config = {"sensors": {name: dict(options) for name, options in sensors.items()}, **settings}
        self._environment = environment
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self.agent = stack.enter_context(RunningAgent(self._config, self.folder, self._environment))
            self.subscriber = stack.enter_context(Subscriber(self.agent.address))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def settle(self) -> int:
        """Wait until every sensor is in a tick; returns a mark in the events."""
        after = self.subscriber.mark()
        self.subscriber.wait(
            "every sensor in one tick", lambda event: present(event) == self.sensors, after, timeout_s=SETTLES_S
        )
        return self.subscriber.mark()

    def turns(self, sensor: str | None, states: Iterable[int], after: int, timeout_s: float = 30.0) -> pb.Event:
        """The next event that says that a sensor, or any, is in one of these states."""
        wanted = tuple(states)
        return self.subscriber.wait(
            f"{sensor or 'a sensor'} in state {wanted}",
            lambda e: e.HasField("health") and e.health.state in wanted and sensor in (None, e.health.sensor),
            after,
            timeout_s,
        )

    def shows(self, sensor: str, after: int, timeout_s: float = 30.0) -> pb.Event:
        """The next tick with a window of this sensor."""
        return self.subscriber.wait(f"a window of {sensor}", lambda e: sensor in present(e), after, timeout_s)

    def missed(self, after: int, sensors: Iterable[str]) -> int:
        """How many windows of these are missing from the ticks since a mark."""
        ticks = [event for event in self.subscriber.since(after) if event.HasField("embedding")]
        return sum(len(set(sensors) - present(tick)) for tick in ticks)

    def stream(self, sensor: str) -> pb.StreamHealth:
        """What the agent says of a sensor now."""
        return next(stream for stream in self.agent.status().streams if stream.sensor == sensor)

    def children(self) -> list[int]:
        """Its processes, one for each sensor that is read by one."""
        return children_of(self.agent.process.pid)


def present(event: pb.Event) -> set[str]:
    """The sensors that a tick has a window of."""
    return {window.sensor for window in event.embedding.windows if window.present}


def seconds_to(event: pb.Event, since_ns: int) -> float:
    """From a time of `time.time_ns()` to when an event was published."""
    return (event.publish_ns - since_ns) / 1e9


def children_of(pid: int) -> list[int]:
    """The child processes of a process, whichever of its threads started them."""
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for text in lists for child in text.split()]


def memory_mb(pid: int, key: str = "VmRSS") -> float:
    """What a process holds in memory; `VmHWM`: what it held at most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    return 0.0


def descriptors(pid: int) -> int:
    """How many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def holder_of(pids: Sequence[int], path: Path) -> int:
    """The process that has a file open."""
    target = path.resolve()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if link.exists() and link.resolve() == target:
                return pid
    raise LookupError(f"{path}: no process has it open")


def wait_until(what: str, condition: Any, timeout_s: float = 30.0) -> float:
    """Wait for a condition; returns after how many seconds it held."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > timeout_s:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.01)
    return time.monotonic() - began_s
