"""The run's clock: the only file that reads the system's.

Time is integer nanoseconds: the monotonic clock plus an offset to UNIX time that is fixed when the run starts, so
it never steps, whatever happens to the wall clock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunClock:
    """The clock of a live run. Plain data, so that a capture process can be given the same one."""

    offset_ns: int
    start_ns: int

    @classmethod
    def start(cls, *, grid_ns: int = 1) -> RunClock:
        """Begin a run now, or at the last multiple of `grid_ns`."""
        offset_ns = time.time_ns() - time.monotonic_ns()
        return cls(offset_ns, (time.monotonic_ns() + offset_ns) // grid_ns * grid_ns)

    def now_ns(self) -> int:
        """Nanoseconds since the UNIX epoch, by the monotonic clock."""
        return time.monotonic_ns() + self.offset_ns

    def sleep_until(self, t_ns: int) -> None:
        """Return at `t_ns`, at once when it is past."""
        ahead_ns = t_ns - self.now_ns()
        if ahead_ns > 0:
            time.sleep(ahead_ns / 1e9)


class ManualClock:
    """A clock that stands until it is moved: for tests, and for replay on a log's clock."""

    def __init__(self, start_ns: int = 0) -> None:
        self.start_ns = start_ns
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """The time it was last moved to."""
        return self._now_ns

    def sleep_until(self, t_ns: int) -> None:
        """Jump to `t_ns`; never back."""
        self._now_ns = max(self._now_ns, t_ns)
