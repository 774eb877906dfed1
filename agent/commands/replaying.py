"""Replays a log through the pipeline and prints what is said, as `replay` on the command line does."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from agent.commands.watching import Printer
from agent.config import Config
from agent.events.filters import EventFilter
from agent.pipeline import Pipeline
from protos import perception_pb2 as pb

QUEUE_EVENTS = 4096


def replay(path: Path, config: Config | None = None) -> pb.Status:
    """Run a log to its end and print its events and what became of the ticks. Raises ReplayError."""
    printer = Printer(Console())
    pipeline = Pipeline.replaying(path, config)
    subscription = pipeline.bus.subscribe(EventFilter(pb.SubscribeRequest()), lambda: None, max_others=QUEUE_EVENTS)
    try:
        pipeline.load_model()
        pipeline.start()
        ended = False
        while not ended:
            ended = pipeline.wait(timeout_s=0.2)
            for data in iter(subscription.take, None):
                printer.on_event(pb.Event.FromString(data))
        status = pipeline.status()
    finally:
        pipeline.stop()
    shed = sum(status.ticks_shed.values())
    printer.print(f"{path}: {status.ticks_produced} ticks, {status.ticks_delivered} delivered, {shed} shed")
    return status
