"""Policy of a run that cannot keep up: a live run drops the oldest waiting item, an offline run takes longer.

One of the two objects goes to every part that has a queue or looks at a clock, so that none asks which kind of run it
is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition
from typing import Protocol, TypeVar

from drivers.driver import Clock

T = TypeVar("T")


class Policy(Protocol):
    """Treatment of full queues, clocks and the order of work in a run."""

    @property
    def in_order(self) -> bool:
        """True if every item is seen through by itself, so that what follows depends on the items alone."""
        ...

    def wait_for_room(self, changed: Condition, has_room: Callable[[], bool]) -> None:
        """Wait, or not, until a queue guarded by `changed` has room for one more."""
        ...

    def too_many(self, queue: deque[T], full: Callable[[], bool]) -> Iterator[T]:
        """Remove and give what has to leave a queue while it is too full."""
        ...

    def clock_of(self, clock: Clock) -> Clock | None:
        """The clock that stamps are compared with; None: the stamps themselves are the clock."""
        ...


class Live:
    """Nothing waits for what comes after it: the oldest is lost, and counted by whoever holds the queue."""

    in_order = False

    def wait_for_room(self, changed: Condition, has_room: Callable[[], bool]) -> None:
        """Return at once: the caller drops the oldest."""

    def too_many(self, queue: deque[T], full: Callable[[], bool]) -> Iterator[T]:
        """Remove the oldest, one after the other; the newest stays however large it is."""
        while full() and len(queue) > 1:
            yield queue.popleft()

    def clock_of(self, clock: Clock) -> Clock | None:
        """Return the machine's clock."""
        return clock


class Lossless:
    """Nothing is lost: who is too quick waits, and no clock has a say in what comes out."""

    in_order = True

    def wait_for_room(self, changed: Condition, has_room: Callable[[], bool]) -> None:
        """Wait until there is room."""
        changed.wait_for(has_room)

    def too_many(self, queue: deque[T], full: Callable[[], bool]) -> Iterator[T]:  # noqa: ARG002  as Policy has it
        """Nothing has to leave."""
        return iter(())

    def clock_of(self, clock: Clock) -> Clock | None:  # noqa: ARG002  as Policy has it
        """None: a run must not depend on how fast it goes."""
        return None


LIVE, LOSSLESS = Live(), Lossless()
