"""Subscribe calls: each pumps its subscription into its gRPC stream, and none can hold up another."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import grpc

from agent.events.bus import MAX_ALERTS, MAX_OTHERS, Bus, Subscription
from agent.events.filters import EventFilter
from agent.server.refusal import Refusal, too_many
from agent.server.requests import check_subscribe
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
        """Have an event set soon."""
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
    """All Subscribe calls of a server. `write_timeout_s`: how long a subscriber may leave an event unread."""

    def __init__(
        self,
        bus: Bus,
        streams: Streams,
        *,
        limit: int,
        write_timeout_s: float,
        max_alerts: int = MAX_ALERTS,
        max_others: int = MAX_OTHERS,
    ) -> None:
        self._bus, self._streams = bus, streams
        self._limit, self._write_timeout_s = limit, write_timeout_s
        self._max_alerts, self._max_others = max_alerts, max_others
        self._waker = Waker(asyncio.get_running_loop())
        self._subscriptions: set[Subscription] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._subscriptions)

    @property
    def stopping(self) -> bool:
        """Whether the server stops, and answers no more."""
        return self._stopping

    def refuse(self) -> None:
        """Take no more subscribers."""
        self._stopping = True

    def stop(self) -> None:
        """End every call once what waits for it is written."""
        self.refuse()
        for subscription in self._subscriptions:
            subscription.end(AGENT_STOPS)

    async def serve(self, request: pb.SubscribeRequest, context: grpc.aio.ServicerContext) -> None:
        """Write events until the client leaves. Raises Refusal with the reason when the server ends it."""
        resume = check_subscribe(request, self._streams, self._bus)
        if self._stopping:
            raise stopping()
        if len(self._subscriptions) >= self._limit:
            raise too_many("subscribers", self._limit, "end one, or try again later")
        some = asyncio.Event()
        subscription = self._bus.subscribe(
            EventFilter(request),
            lambda: self._waker.wake(some),
            resume=resume,
            max_alerts=self._max_alerts,
            max_others=self._max_others,
        )
        self._subscriptions.add(subscription)
        try:
            # Tells the client that it is subscribed: what is published from here on reaches it.
            await context.send_initial_metadata(())
            await self._pump(subscription, some, context)
        finally:
            self._subscriptions.discard(subscription)
            subscription.close()
        raise _ended(subscription.ended)

    async def _pump(self, subscription: Subscription, some: asyncio.Event, context: grpc.aio.ServicerContext) -> None:
        while True:
            some.clear()
            event = subscription.take()
            if event is not None:
                try:
                    async with asyncio.timeout(self._write_timeout_s):
                        await context.write(event)
                except TimeoutError:
                    subscription.end(f"nothing was read for {self._write_timeout_s:g} s")
                    return
                except grpc.aio.InternalError:
                    # The client has gone, and gRPC has not said so yet.
                    subscription.end("the client has gone")
                    return
            elif subscription.ended:
                return
            else:
                await some.wait()


def stopping() -> Refusal:
    """Why a call is refused at the end of a run."""
    return Refusal(grpc.StatusCode.UNAVAILABLE, AGENT_STOPS, "AGENT_STOPS")


def _ended(reason: str) -> Refusal:
    if reason == AGENT_STOPS:
        return stopping()
    message = f"subscription ended: {reason}; read faster, or ask for less"
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, message, "SLOW_SUBSCRIBER")
