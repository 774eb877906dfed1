"""A running agent for tests: `sensebind run` as a process of its own, and what a subscriber gets from it."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import yaml

from agent.client import Client
from protos import perception_pb2 as pb

SENSEBIND = [sys.executable, "-c", "from agent.cli import main; main()"]
DEADLINE_S = 90.0
"""For whatever takes a second on an idle machine; the machine may be anything but idle."""

Answer = TypeVar("Answer")


def busy_factor() -> float:
    """By how much longer than on an idle machine things may take: the processes that want a core, per core."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class RunningAgent:
    """`sensebind run` on a configuration, listening at a port of its own choice, with the model loaded."""

    def __init__(
        self, config: Mapping[str, Any], directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        path = directory / "agent.yaml"
        path.write_text(yaml.safe_dump(dict(config), sort_keys=False))
        self._errors = (directory / "stderr.txt").open("w+b")
        self.process = subprocess.Popen(
            [*SENSEBIND, "run", "--config", str(path), "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        try:
            self.address = self._line("sensebind listens at ")
            self.model = self._line("sensebind runs ")
        except BaseException:
            self.stop()
            raise

    @property
    def stderr(self) -> str:
        """What it has printed there so far."""
        self._errors.seek(0)
        return self._errors.read().decode()

    def ask(self, question: Callable[[Client], Coroutine[Any, Any, Answer]]) -> Answer:
        """The answer of one call."""

        async def ask() -> Answer:
            async with Client(self.address, timeout_s=DEADLINE_S) as client:
                return await question(client)

        return asyncio.run(ask())

    def status(self) -> pb.Status:
        """Its status now."""
        return self.ask(lambda client: client.status())

    def end(self, by: signal.Signals) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(by)
        return self.process.wait(DEADLINE_S)

    def stop(self) -> None:
        """End it in any case; may be called again."""
        self.process.terminate()
        try:
            self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _line(self, begins: str) -> str:
        """The rest of the next line on stdout, which must begin so."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(DEADLINE_S), f"nothing printed within {DEADLINE_S:g} s; stderr: {self.stderr}"
        line = self.process.stdout.readline().decode()
        assert line.startswith(begins), f"printed {line!r}; stderr: {self.stderr}"
        return line.removeprefix(begins).strip()


class Subscriber:
    """Collects the events of an agent in a thread."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._events: list[pb.Event] = []
        self._changed = threading.Condition()
        self._ended: BaseException | None = None
        self._subscribing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def events(self) -> Sequence[pb.Event]:
        """All so far."""
        with self._changed:
            return list(self._events)

    def mark(self) -> int:
        """A place in the stream of events: the number of those that came so far."""
        with self._changed:
            return len(self._events)

    def wait(
        self, what: str, wanted: Callable[[pb.Event], bool], after: int = 0, timeout_s: float = DEADLINE_S
    ) -> pb.Event:
        """The first event after a mark that is wanted; fails the test when none comes in time."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for index in range(after, len(self._events)):
                    if wanted(self._events[index]):
                        return self._events[index]
                after = max(after, len(self._events))
                left_s = deadline - time.monotonic()
                assert self._ended is None, f"{what}: the subscription ended: {self._ended}"
                assert left_s > 0, f"{what}: not within {timeout_s:g} s; the last event: {self._events[-1:]}"
                self._changed.wait(left_s)

    def since(self, mark: int, until: pb.Event | None = None) -> list[pb.Event]:
        """The events after a mark, up to one that is among them."""
        events = self.events[mark:]
        return events if until is None else events[: events.index(until) + 1]

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._subscribing.wait(DEADLINE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(RuntimeError):  # the loop is closed: the agent has ended the subscription
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._follow())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  (told to whoever waits)
            with self._changed:
                self._ended = error
                self._changed.notify_all()

    async def _follow(self) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        async with Client(self._address) as client:
            self._subscribing.set()
            async for event in client.subscribe(vectors=True, heat_maps=True):
                with self._changed:
                    self._events.append(event)
                    self._changed.notify_all()
