"""An agent that records while something is done to its disk: `sensebind record`, a subscriber, and what came of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from agent.client import Client, ClientError
from agent.log.timeline import Timeline
from benchmarks.faults.commands import LIMIT_S, PROGRAM, Command
from protos import perception_pb2 as pb

SENSORS = {
    "camera": {"type": "synthetic_camera", "seed": 7, "width": 320, "height": 240, "rate_hz": 15},
    "microphone": {"type": "synthetic_microphone", "seed": 7},
    "imu": {"type": "synthetic_imu", "seed": 7},
}
MODEL = {"device": "cpu"}


class Recorded(Command):
    """`sensebind record` into `log`, with what a subscriber was told."""

    def __init__(self, folder: Path, log: Path, settings: Mapping[str, Any] = {}, program: str = PROGRAM) -> None:
        (folder / "agent.yaml").write_text(yaml.safe_dump({"model": MODEL, "sensors": SENSORS, **settings}))
        words = ["record", "--config", "agent.yaml", "--out", str(log), "--listen", "127.0.0.1:0"]
        super().__init__(words, folder, program)
        self.events: list[pb.Event] = []
        self._address = self.says("sensebind listens at ")
        self._thread = threading.Thread(target=lambda: asyncio.run(self._follow()), daemon=True)
        self._thread.start()
        self.says("sensebind runs")

    async def _follow(self) -> None:
        try:
            async with Client(self._address) as client:
                async for event in client.subscribe():
                    self.events.append(event)
        except ClientError:
            return  # the agent has ended

    def wait(self, what: str, wanted: Callable[[pb.Event], bool], after: int = 0) -> int:
        """Wait for an event; the number of those up to it. Raises RuntimeError."""
        deadline_s = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline_s:
            for number, event in enumerate(self.events[after:], after + 1):
                if wanted(event):
                    return number
            time.sleep(0.02)
        raise RuntimeError(f"{what}: not within {LIMIT_S:g} s")

    def told(self) -> list[pb.Event]:
        """All that the subscriber was told, once the agent has ended."""
        self._thread.join(LIMIT_S)
        return self.events


def is_recording(state: pb.RecordingState.State.ValueType) -> Callable[[pb.Event], bool]:
    """Whether an event says that recording is in a state."""
    return lambda event: event.HasField("recording") and event.recording.state == state


def ticks(events: list[pb.Event]) -> int:
    """Ticks among events, and 0 when one between them is missing."""
    numbers = [event.embedding.tick for event in events if event.HasField("embedding")]
    return len(numbers) if not numbers or numbers[-1] - numbers[0] + 1 == len(numbers) else 0


def messages(paths: list[Path]) -> int:
    """How many messages are read from files of one recording, whole or not."""
    return sum(1 for path in paths for _ in Timeline([path]).read())
