"""Queue of one subscriber, and its losses. Pure: no threads, no clock.

Two bounded queues in one order of seq:
- alerts: never dropped. One that does not fit overflows the outbox, which ends the subscription with a reason.
- the rest (embeddings, audio sources, health): the oldest is dropped, and reported by one Lost in its place; so is
  an event that has become too old to be of use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Numbered(Protocol):
    """Item of an outbox."""

    @property
    def seq(self) -> int:
        """Its number in the run; grows by one from event to event."""
        ...

    @property
    def is_alert(self) -> bool:
        """True if it must never be dropped."""
        ...


T = TypeVar("T", bound=Numbered)

SLOW = "slow subscriber"
TOO_OLD = "too old"


@dataclass(frozen=True, slots=True)
class Lost:
    """Events that the subscriber misses: `events` of those from `first_seq` to `last_seq`, 0 when not known."""

    first_seq: int
    last_seq: int
    events: int
    reason: str


class Outbox(Generic[T]):
    """The queues of one subscriber.

    `backlog` is what a resumed subscriber gets first. It is bounded by the history that it comes from, not by
    `max_alerts` and `max_others`, so that asking for it does not itself lose anything.
    """

    def __init__(self, max_alerts: int, max_others: int, backlog: Iterable[T | Lost] = ()) -> None:
        self._max_alerts, self._max_others = max_alerts, max_others
        self._backlog: deque[T | Lost] = deque(backlog)
        self._alerts: deque[T] = deque()
        # Each with the number of alerts put before it: two neighbours with an equal number have no alert between them.
        self._others: deque[tuple[T, int]] = deque()
        self._lost: deque[tuple[Lost, int]] = deque()
        self._alerts_put = 0
        self.overflowed = False
        self.dropped = 0

    def __bool__(self) -> bool:
        """Return whether anything waits."""
        return bool(self._backlog or self._alerts or self._others or self._lost)

    def put(self, item: T) -> None:
        """Queue an item with a seq above all before it."""
        if self.overflowed:
            return
        if item.is_alert:
            if len(self._alerts) >= self._max_alerts:
                self.overflowed = True
                self.clear()
                return
            self._alerts.append(item)
            self._alerts_put += 1
            return
        if len(self._others) >= self._max_others:
            self._drop(*self._others.popleft(), SLOW)
        self._others.append((item, self._alerts_put))

    def take(self, too_old: Callable[[T], bool] | None = None) -> T | Lost | None:
        """Return what comes next, in order of seq; None when nothing waits. What is `too_old` is lost, but no alert."""
        if self._backlog:
            return self._take_backlog(too_old)
        while too_old and self._others and too_old(self._others[0][0]):
            self._drop(*self._others.popleft(), TOO_OLD)
        alert_seq = self._alerts[0].seq if self._alerts else None
        # What was lost is older than any other that still waits.
        if self._lost and (alert_seq is None or self._lost[0][0].last_seq < alert_seq):
            return self._lost.popleft()[0]
        if self._others and (alert_seq is None or self._others[0][0].seq < alert_seq):
            return self._others.popleft()[0]
        return self._alerts.popleft() if self._alerts else None

    def clear(self) -> None:
        """Forget everything that waits."""
        for queue in (self._backlog, self._alerts, self._others, self._lost):
            queue.clear()

    def _take_backlog(self, too_old: Callable[[T], bool] | None) -> T | Lost:
        item = self._backlog.popleft()
        if too_old is None or isinstance(item, Lost) or item.is_alert or not too_old(item):
            return item
        first_seq, last_seq, events = item.seq, item.seq, 1
        while self._backlog:
            following = self._backlog[0]
            if isinstance(following, Lost) or following.is_alert or not too_old(following):
                break
            last_seq, events = following.seq, events + 1
            self._backlog.popleft()
        self.dropped += events
        return Lost(first_seq, last_seq, events, TOO_OLD)

    def _drop(self, item: T, alerts_before: int, reason: str) -> None:
        self.dropped += 1
        first_seq, events = item.seq, 1
        if self._lost and self._lost[-1][1] == alerts_before and self._lost[-1][0].reason == reason:
            run, _ = self._lost.pop()
            first_seq, events = run.first_seq, run.events + 1
        self._lost.append((Lost(first_seq, item.seq, events, reason), alerts_before))
