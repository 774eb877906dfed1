"""Plays a recording as a source: from a time on, at a speed, with jumps; nothing is dropped. What is played is open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from agent.capture.source import CaptureReport, Jump
from agent.clock import ManualClock, RunClock
from agent.log.replay.control import ReplayControl, ReplayOptions
from agent.log.timeline import Timeline
from agent.streams import LONGEST_HOLE_NS
from drivers.driver import Clock
from drivers.remote import Remote

LATEST_NS = 10_000_000_000
"""A sample may stand in the log this much later than the end of the part in which it was captured."""

Item = TypeVar("Item")


class LogClock(ManualClock):
    """A log's clock: stands at what was played last, and goes back only by a jump."""

    def jump(self, t_ns: int) -> None:
        """Continue at `t_ns`, a capture time."""
        self._now_ns = t_ns


@dataclass(frozen=True, slots=True)
class Due(Generic[Item]):
    """Something to be played."""

    item: Item
    t_ns: int
    """Capture time of its beginning."""
    end_ns: int
    """Log time from which it exists, when it is replayed."""
    known_ns: int
    """Time that the log has reached, by the word of the agent that recorded it rather than of the sensor."""


class ReplaySource(ABC, Generic[Item]):
    """Gives the items of a recording one by one, so that what follows from them does not depend on how they are read.

    After a jump nothing of before it comes. A hole of over a minute is a jump: it is not waited through, and no windows
    are cut in it.
    """

    def __init__(self, timeline: Timeline, options: ReplayOptions, pace: Clock | None = None) -> None:
        """`pace` is the clock to keep time by, by default the machine's. Raises ReplayError."""
        self.timeline = timeline
        self.control = ReplayControl(timeline.start_ns, timeline.end_ns, options, pace or RunClock.start())
        self.clock = LogClock(self.control.from_ns)
        self._limit_ns = options.to_ns
        self._lock = Lock()
        """Another thread may call `stop` during a `poll`."""
        self._items: Iterator[Due[Item]] = iter(())
        self._next: Due[Item] | None = None
        self._played = False
        self._ended = False

    def start(self) -> None:
        """Start at the begin of the range."""
        with self._lock:
            self._open(self.control.from_ns)
            self.control.start()

    def poll(self, timeout_s: float) -> list[Item] | Jump:
        """Return the due items, at most one, and move the clock to it; [] when none is due within `timeout_s`."""
        with self._lock:
            seek_ns = self.control.jump()
            if seek_ns is not None:
                self._open(seek_ns)
                self.clock.jump(seek_ns)
                return Jump(seek_ns)
            if self._next is None:
                self._next = next(self._items, None)
            if self._next is None:
                self._end(timeout_s)
                return []
            return self._play(self._next, timeout_s)

    @abstractmethod
    def reports(self) -> dict[str, CaptureReport]:
        """Return the counts of reading, per sensor."""

    @property
    def remotes(self) -> dict[str, Remote]:
        """Return nothing: nobody pushes into a recording."""
        return {}

    @property
    def in_order(self) -> bool:
        """False: a log may hold messages in any order."""
        return False

    @property
    def ended(self) -> bool:
        """True if all was returned. A replay that lasts, or starts over, may go on by a jump."""
        return self._ended

    def stop(self) -> None:
        """Close the log; may be called again."""
        with self._lock:
            self._items, self._next = iter(()), None
            self._ended = True
            self.control.close()

    @abstractmethod
    def _read(self, from_ns: int | None) -> Iterator[Due[Item]]:
        """Start to read: everything, or the samples captured at a time or later, in the order of the log."""

    def _open(self, from_ns: int) -> None:
        self._items = self._within(self._read(from_ns if from_ns > self.timeline.start_ns else None))
        self._next = None
        self._played = self._ended = False

    def _within(self, items: Iterator[Due[Item]]) -> Iterator[Due[Item]]:
        """Yield entries up to the end of the range."""
        for due in items:
            if self._limit_ns is None or due.t_ns < self._limit_ns:
                yield due
            elif due.t_ns >= self._limit_ns + LATEST_NS and self._believed(due):
                return

    def _play(self, due: Due[Item], timeout_s: float) -> list[Item] | Jump:
        now_ns = self.clock.now_ns()
        believed = self._believed(due)
        if believed and due.t_ns > now_ns + LONGEST_HOLE_NS:
            self.control.skip(due.t_ns)
            self.clock.jump(due.t_ns)
            return Jump(due.t_ns, over=True)
        # A stamp that is wrong is for the windows to judge; nothing waits for it.
        if not self.control.due(due.end_ns if believed else now_ns, timeout_s):
            return []
        if believed:
            self.clock.sleep_until(due.end_ns)
        self._next = None
        self._played = True
        return [due.item]

    def _believed(self, due: Due[Item]) -> bool:
        return due.end_ns <= max(self.clock.now_ns(), due.known_ns) + LONGEST_HOLE_NS

    def _end(self, timeout_s: float) -> None:
        if self._ended:
            self.control.wait(timeout_s)
        else:
            self._ended = True
            self.control.end(start_over=self._played)
