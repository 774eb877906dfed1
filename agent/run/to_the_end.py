"""A run from its start to its end, and what is said meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from agent.events.filters import EventFilter
from agent.run.run import Run
from protos import perception_pb2 as pb

QUEUE_EVENTS = 4096
_WAKE_S = 0.2


def events_of(
    run: Run, request: pb.SubscribeRequest | None = None, *, max_waiting: int = QUEUE_EVENTS
) -> Iterator[pb.Event]:
    """Start a run whose model is loaded, and give its events, all or those asked for, until it has ended.

    They are not to be changed. The run does not wait for who takes them: beyond `max_waiting` the oldest are lost, and
    a Gap comes instead. Whoever calls stops the run. Raises what ended it.
    """
    some = threading.Event()
    wanted = EventFilter(request or pb.SubscribeRequest())
    subscription = run.bus.subscribe(wanted, some.set, max_alerts=max_waiting, max_others=max_waiting)
    run.start()
    ended = False
    while not ended:
        ended = run.wait(timeout_s=0.0)
        some.clear()
        yield from iter(subscription.take_event, None)
        if not ended:
            some.wait(_WAKE_S)
