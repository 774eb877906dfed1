"""A live agent without its model: capture, windows and the health of streams, in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from agent.config.parse import parse
from agent.run import build
from agent.server.ingest import Intake
from drivers.codec import encode_sample
from drivers.driver import Modality, Sample
from protos import perception_pb2 as pb


class CaptureOnly:
    """A run of some sensors; health as it is published."""

    def __init__(self, sensors: Mapping[str, Mapping[str, Any]], **settings: Any) -> None:
        tree = {"sensors": {name: dict(options) for name, options in sensors.items()}, **settings}
        self.pipeline = build.live(parse(tree))
        self._ingest = Intake(self.pipeline.remotes, self.pipeline.clock.now_ns)

    def __enter__(self) -> Self:
        self.pipeline.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pipeline.stop()

    def push(self, sensor: str, modality: Modality, sample: Sample) -> None:
        """Push a sample as a client does with Ingest."""
        self._ingest.take(encode_sample(sensor, modality, sample).SerializeToString())

    def stream(self, sensor: str) -> pb.StreamHealth:
        """What the agent says of a sensor now."""
        return next(stream for stream in self.pipeline.status().streams if stream.sensor == sensor)

    def wait_for(self, sensor: str, words: str, timeout_s: float) -> tuple[float, pb.StreamHealth]:
        """Wait until the reason of a sensor's state has these words: after how many seconds, infinity for never."""
        began_s = time.monotonic()
        while (took_s := time.monotonic() - began_s) < timeout_s:
            stream = self.stream(sensor)
            if words in stream.reason:
                return took_s, stream
            time.sleep(0.05)
        return float("inf"), self.stream(sensor)
