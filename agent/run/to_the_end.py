"""A replay from its start to its end, and what is said meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from agent.events.filters import EventFilter
from agent.run.run import Pipeline
from protos import perception_pb2 as pb

QUEUE_EVENTS = 4096
_WAKE_S = 0.2


def events_of(
    pipeline: Pipeline, request: pb.SubscribeRequest | None = None, *, max_waiting: int = QUEUE_EVENTS
) -> Iterator[pb.Event]:
    """Start a pipeline whose model is loaded, and give its events, all or those asked for, until it has ended.

    The pipeline does not wait for who takes them: beyond `max_waiting` the oldest are lost, and a Gap comes instead.
    Whoever calls stops the pipeline. Raises what ended it.
    """
    some = threading.Event()
    wanted = EventFilter(request or pb.SubscribeRequest())
    subscription = pipeline.bus.subscribe(wanted, some.set, max_alerts=max_waiting, max_others=max_waiting)
    pipeline.start()
    ended = False
    while not ended:
        ended = pipeline.wait(timeout_s=0.0)
        some.clear()
        for data in iter(subscription.take, None):
            yield pb.Event.FromString(data)
        if not ended:
            some.wait(_WAKE_S)
