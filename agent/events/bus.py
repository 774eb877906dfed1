"""Events from whoever publishes to whoever subscribes. Publishing is possible on any thread.

Every event gets the next `seq` of the run. Listeners are parts of the agent's own process: they are handed every event
itself, in order of seq, by the thread that publishes. Subscribers take when they like what their filter lets through,
as events or as bytes: serialised when the first of them takes it, once for each View. A history of bounded size is
kept, from which a subscriber that was away is resumed.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from agent.events.filters import EventFilter, View
from agent.events.finite import non_finite
from agent.events.messages import gap
from agent.events.outbox import Lost, Outbox
from agent.faults import Faults
from protos import perception_pb2 as pb

log = logging.getLogger(__name__)

HISTORY_EVENTS = 4096
HISTORY_BYTES = 32 * 2**20
MAX_ALERTS = 256
MAX_OTHERS = 64
"""16 s of embeddings and audio sources at the default hop; older ones are stale."""
_RECENT = 64
"""Number of the newest events that keep their serialised bytes for subscribers that are a little behind."""

_STAMP_BYTES = 48
"""Bytes that the run's id (32 letters), seq and time of publishing add to an event."""

Listener = Callable[[pb.Event], None]

ALERTS_OVERFLOW = "alerts were not read"
FAULT = "a fault of the agent's own, of which its log says more"


class PublishedEvent:
    """An event, its number once it has one, and its serialised forms, made when first asked for and shared."""

    __slots__ = ("_event", "_kind", "_serialized", "is_alert", "publish_ns", "seq", "size")

    def __init__(self, event: pb.Event) -> None:
        self._event = event
        self._kind = event.WhichOneof("event") or ""
        self._serialized: dict[object, bytes] | None = {}
        self.seq = 0
        self.publish_ns = 0
        self.is_alert = self._kind == "alert"
        self.size = event.ByteSize() + _STAMP_BYTES

    def stamp(self, run_id: str, seq: int, publish_ns: int) -> None:
        """Give it its place in the run."""
        self._event.run_id, self._event.seq, self._event.publish_ns = run_id, seq, publish_ns
        self.seq, self.publish_ns = seq, publish_ns

    def shown(self, view: View) -> pb.Event:
        """Return what a view shows; not to be changed."""
        return view.apply(self._event)

    def admitted_by(self, event_filter: EventFilter) -> bool:
        """Return whether a filter lets it through."""
        return event_filter.admits(self._event)

    def serialize(self, view: View) -> bytes:
        """Return the bytes that a view shows."""
        serialized = self._serialized  # a publisher may forget the bytes meanwhile
        key = view.key(self._kind)
        data = serialized.get(key) if serialized is not None else None
        if data is None:
            data = view.apply(self._event).SerializeToString()
            if serialized is not None:
                serialized[key] = data
        return data

    def forget_bytes(self) -> None:
        """Free the serialised forms, and keep no more: from here on each is made anew when asked for."""
        self._serialized = None


@dataclass(frozen=True, slots=True)
class Resume:
    """From where a subscriber wants to go on."""

    run_id: str
    after_seq: int


class Bus:
    """One per run. `now_ns` is the run's clock; `faults` is where what fails for one subscriber is counted."""

    def __init__(
        self,
        run_id: str,
        now_ns: Callable[[], int],
        *,
        faults: Faults | None = None,
        history_events: int = HISTORY_EVENTS,
        history_bytes: int = HISTORY_BYTES,
    ) -> None:
        self.run_id = run_id
        self.refused: Counter[str] = Counter()
        """Events that held a value that is not finite and were not published, by field."""
        self.faults = faults or Faults()
        self._now_ns = now_ns
        self._history_events, self._history_bytes = history_events, history_bytes
        self._lock = threading.Lock()
        self._seq = 0
        self._history: deque[PublishedEvent] = deque()
        self._held_bytes = 0
        self._recent: deque[PublishedEvent] = deque()
        self._subscriptions: list[Subscription] = []
        self._listeners: tuple[Listener, ...] = ()
        self._publishing = threading.RLock()
        """Held while an event is handed on, so that listeners get all in order. A listener may publish as well."""
        self._unheard: deque[pb.Event] = deque()
        """The event that listeners are being told of, and those that they published meanwhile."""

    @property
    def last_seq(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._seq

    @property
    def subscribers(self) -> int:
        """Number of subscriptions."""
        return len(self._subscriptions)

    def publish(self, event: pb.Event) -> int:
        """Number an event and hand it to all that want it; it belongs to the bus from here on.

        Returns its seq, or 0 when it is refused because a value in it is not finite (counted in `refused`). Waits only
        where a listener does.
        """
        if field := non_finite(event):
            self._refuse(field)
            return 0
        with self._publishing:
            seq = self._offer_to_all(PublishedEvent(event))
            self._unheard.append(event)
            if len(self._unheard) == 1:
                self._tell_listeners()
        return seq

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Hand every event from now on to a listener, which must not change it; returns what ends that."""
        with self._publishing:
            self._listeners = (*self._listeners, listener)

        def end() -> None:
            with self._publishing:
                self._listeners = tuple(other for other in self._listeners if other is not listener)

        return end

    def _tell_listeners(self) -> None:
        while self._unheard:
            for listener in self._listeners:
                with self.faults.guard("listeners"):
                    listener(self._unheard[0])
            self._unheard.popleft()

    def _offer_to_all(self, published: PublishedEvent) -> int:
        failed: list[Exception] = []
        with self._lock:
            self._seq += 1
            seq = self._seq
            published.stamp(self.run_id, seq, self._now_ns())
            self._remember(published)
            for subscription in self._subscriptions:
                try:
                    subscription._offer(published)
                except Exception as error:  # noqa: BLE001  it costs that subscriber, and neither publisher nor others
                    failed.append(error)
                    subscription._fail()
        for fault in failed:
            self.faults.count("subscribers", fault)
        return seq

    def subscribe(
        self,
        event_filter: EventFilter,
        wake: Callable[[], None],
        *,
        resume: Resume | None = None,
        max_age_ns: int = 0,
        max_alerts: int = MAX_ALERTS,
        max_others: int = MAX_OTHERS,
    ) -> Subscription:
        """Begin a subscription, with what came after `resume` first.

        Other events than alerts that have waited for longer than `max_age_ns` are lost to it; 0: none is.

        `wake` is called on the publisher's thread, and must not wait, when something is there to take; then no more
        until something is taken.
        """
        with self._lock:
            backlog = self._backlog(event_filter, resume) if resume else []
            outbox = Outbox(max_alerts, max_others, backlog)
            subscription = Subscription(self, event_filter, wake, outbox, max_age_ns)
            self._subscriptions.append(subscription)
            return subscription

    def _refuse(self, field: str) -> None:
        with self._lock:
            self.refused[field] += 1
            first = self.refused[field] == 1
        if first:
            log.warning("an event was not published: %s is not finite; more of them are counted, not logged", field)

    def _remember(self, published: PublishedEvent) -> None:
        self._history.append(published)
        self._held_bytes += published.size
        while len(self._history) > self._history_events or self._held_bytes > self._history_bytes:
            self._held_bytes -= self._history.popleft().size
        self._recent.append(published)
        if len(self._recent) > _RECENT:
            self._recent.popleft().forget_bytes()

    def _backlog(self, event_filter: EventFilter, resume: Resume) -> list[PublishedEvent | Lost]:
        backlog: list[PublishedEvent | Lost] = []
        after_seq = resume.after_seq
        if resume.run_id != self.run_id:
            backlog.append(Lost(0, 0, 0, "another run"))
            after_seq = 0
        oldest_seq = self._history[0].seq if self._history else self._seq + 1
        if after_seq + 1 < oldest_seq:
            backlog.append(Lost(after_seq + 1, oldest_seq - 1, 0, "no longer held"))
        for published in self._history:
            if published.seq > after_seq:
                if published.admitted_by(event_filter):
                    backlog.append(published)
            elif published.is_alert:
                published.admitted_by(event_filter)  # so that it knows the alerts that the subscriber has seen begin
        return backlog


class Subscription:
    """One subscriber's end of the bus. `take` and `close` are for one thread."""

    def __init__(
        self,
        bus: Bus,
        event_filter: EventFilter,
        wake: Callable[[], None],
        outbox: Outbox[PublishedEvent],
        max_age_ns: int,
    ) -> None:
        self._bus = bus
        self._filter = event_filter
        self._wake = wake
        self._outbox = outbox
        self._max_age_ns = max_age_ns
        self._woken = False
        self.ended = ""
        """Reason for the end of the subscription; empty before it."""
        self.taken_seq = 0
        """The seq of what was taken last."""
        self.took_gap = False
        """True if that was a Gap."""

    @property
    def dropped(self) -> int:
        """Events that this subscriber was too slow for."""
        return self._outbox.dropped

    @property
    def waits(self) -> bool:
        """True if something is there to take."""
        return bool(self._outbox)

    def take(self) -> bytes | None:
        """Return the next event, serialised; None when nothing waits."""
        item = self._next()
        if item is None or isinstance(item, pb.Event):
            return None if item is None else item.SerializeToString()
        return item.serialize(self._filter.view)

    def take_event(self) -> pb.Event | None:
        """Return the next event, which others may hold as well; None when nothing waits."""
        item = self._next()
        return item if item is None or isinstance(item, pb.Event) else item.shown(self._filter.view)

    def _next(self) -> PublishedEvent | pb.Event | None:
        """Return the next event of the bus, or a Gap."""
        with self._bus._lock:
            self._woken = False
            item = self._outbox.take(self._too_old())
        if isinstance(item, Lost):
            self.taken_seq, self.took_gap = item.last_seq, True
            return self._gap(item)
        if item is None:
            return None
        self.taken_seq, self.took_gap = item.seq, False
        return item

    def end(self, reason: str) -> None:
        """Let no more come, for a reason; what waits can still be taken."""
        with self._bus._lock:
            self._end(reason)

    def close(self) -> None:
        """Leave the bus; any number of times."""
        with self._bus._lock:
            if self in self._bus._subscriptions:
                self._bus._subscriptions.remove(self)
            self._outbox.clear()

    def _offer(self, published: PublishedEvent) -> None:
        if self.ended or not published.admitted_by(self._filter):
            return
        self._outbox.put(published)
        if self._outbox.overflowed:
            self._end(ALERTS_OVERFLOW)
        self._signal()

    def _end(self, reason: str) -> None:
        self.ended = self.ended or reason
        self._signal()

    def _fail(self) -> None:
        """End for a fault of the agent's own. What waited may be what fails, and goes."""
        self._outbox.clear()
        self._woken = False
        with contextlib.suppress(Exception):  # waking may be what fails; whoever waits is ended with the call
            self._end(FAULT)

    def _too_old(self) -> Callable[[PublishedEvent], bool] | None:
        if not self._max_age_ns:
            return None
        oldest_ns = self._bus._now_ns() - self._max_age_ns
        return lambda published: published.publish_ns < oldest_ns

    def _signal(self) -> None:
        if not self._woken:
            self._woken = True
            self._wake()

    def _gap(self, lost: Lost) -> pb.Event:
        return gap(lost, self._bus.run_id, self._bus._now_ns())
