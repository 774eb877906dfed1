"""Subscribe and Watch calls: each pumps its subscription into its gRPC stream, and none can hold up another."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc

from agent.events.bus import FAULT, MAX_ALERTS, MAX_OTHERS, Bus, Subscription
from agent.events.filters import EventFilter
from agent.server.pump import Pump
from agent.server.refusal import Refusal, bad_request
from agent.server.requests import check_subscribe, max_unread_of
from agent.server.unread import Unread
from protos import perception_pb2 as pb

if TYPE_CHECKING:
    from agent.streams import Streams

AGENT_STOPS = "agent is stopping"


class Waker:
    """Sets events of an asyncio loop from any thread; a burst of them costs one wake-up of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._waiting: list[asyncio.Event] = []

    def wake(self, event: asyncio.Event) -> None:
        """Set the event soon, from any thread."""
        with self._lock:
            self._waiting.append(event)
            scheduled = len(self._waiting) > 1
        if not scheduled:
            # A closed loop has no subscribers left to wake.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()


class Subscribers:
    """All Subscribe and Watch calls of a server. `write_timeout_s`: how long one may leave an event unread."""

    def __init__(
        self,
        bus: Bus,
        streams: Streams,
        *,
        write_timeout_s: float,
        max_alerts: int = MAX_ALERTS,
        max_others: int = MAX_OTHERS,
    ) -> None:
        self._bus, self._streams = bus, streams
        self._write_timeout_s = write_timeout_s
        self._max_alerts, self._max_others = max_alerts, max_others
        self._waker = Waker(asyncio.get_running_loop())
        self._subscriptions: set[Subscription] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._subscriptions)

    @property
    def stopping(self) -> bool:
        """True if the server stops, and answers no more."""
        return self._stopping

    def refuse(self) -> None:
        """Take no more subscribers."""
        self._stopping = True

    def stop(self) -> None:
        """End every call once what waits for it is written."""
        self.refuse()
        for subscription in self._subscriptions:
            subscription.end(AGENT_STOPS)

    async def subscribe(self, request: pb.SubscribeRequest, context: grpc.aio.ServicerContext) -> None:
        """Write events until the client leaves. Raises Refusal with the reason when the server ends it."""
        with self._subscription(request) as (subscription, some):
            del request  # it may be large, and the filter holds the needed part
            # Tells the client that it is subscribed: events that are published from here on reach it.
            await context.send_initial_metadata(())
            await Pump(subscription, some, context, self._write_timeout_s).run()
            raise _ended(subscription.ended)

    async def watch(self, request: pb.WatchRequest, context: grpc.aio.ServicerContext) -> None:
        """Stream events like `subscribe`, to a client whose later messages say what it has read."""
        if request.WhichOneof("request") != "subscribe":
            raise bad_request(("subscribe", "is missing; the first message says what to subscribe to"))
        unread = Unread(max_unread_of(request))
        with self._subscription(request.subscribe) as (subscription, some):
            del request
            await context.send_initial_metadata(())
            pump = Pump(subscription, some, context, self._write_timeout_s, unread)
            reading = asyncio.create_task(pump.acknowledge())
            try:
                await pump.run()
            finally:
                reading.cancel()
            raise _ended(subscription.ended)

    @contextlib.contextmanager
    def _subscription(self, request: pb.SubscribeRequest) -> Iterator[tuple[Subscription, asyncio.Event]]:
        resume = check_subscribe(request, self._streams, self._bus)
        if self._stopping:
            raise stopping()
        some = asyncio.Event()
        subscription = self._bus.subscribe(
            EventFilter(request),
            lambda: self._waker.wake(some),
            resume=resume,
            max_age_ns=round(request.max_age_s * 1e9),
            max_alerts=self._max_alerts,
            max_others=self._max_others,
        )
        del request
        self._subscriptions.add(subscription)
        try:
            yield subscription, some
        finally:
            self._subscriptions.discard(subscription)
            subscription.close()


def stopping() -> Refusal:
    """Return the refusal of calls at the end of a run."""
    return Refusal(grpc.StatusCode.UNAVAILABLE, AGENT_STOPS, "AGENT_STOPS")


def _ended(reason: str) -> Refusal:
    if reason == AGENT_STOPS:
        return stopping()
    if reason == FAULT:
        return Refusal(grpc.StatusCode.INTERNAL, f"subscription ended: {FAULT}", "INTERNAL")
    message = f"subscription ended: {reason}; read faster, or ask for less"
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, message, "SLOW_SUBSCRIBER")
