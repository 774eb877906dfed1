"""Playing a recording as if it were a device: when its samples are due, where to join it, when to begin again.

Time zero of every recording is the start of the run, so files that were recorded together stay together.
"""

from __future__ import annotations

from drivers.driver import Clock, EndOfStream, Pace, ReadTimeout

CATCH_UP_S = 2.0
"""A player that starts this late or less (a process takes time to start) plays from the beginning and catches up;
a later one, as after a restart in the middle of a run, joins where the recording is by then."""


def wait_until_due(clock: Clock, pace: Pace, due_ns: int, timeout_s: float, source: str) -> None:
    """Return when a sample captured at `due_ns` may be handed out; raises ReadTimeout when that is too far off."""
    if pace == "fast":
        return
    limit_ns = clock.now_ns() + round(timeout_s * 1e9)
    clock.sleep_until(min(due_ns, limit_ns))
    if due_ns > limit_ns:
        raise ReadTimeout(f"{source}: the next sample is due {(due_ns - limit_ns) / 1e9:.3f} s after the time allowed")


def late_ns(clock: Clock, pace: Pace) -> int:
    """Return the nanoseconds of the recording that are over when the player joins it; 0 for one who plays it all."""
    late = clock.now_ns() - clock.start_ns
    return late if pace == "real" and late > CATCH_UP_S * 1e9 else 0


def rows_to_skip(clock: Clock, pace: Pace, rate_hz: float) -> int:
    """Return the number of rows or frames that are over when the player joins the recording."""
    return int(late_ns(clock, pace) / 1e9 * rate_hz)


class Playhead:
    """The position in a recording of `length` evenly spaced rows or frames, which loops or ends."""

    def __init__(self, clock: Clock, length: int, rate_hz: float, loop: bool, source: str) -> None:
        self._clock = clock
        self._length = length
        self._rate_hz = rate_hz
        self._loop = loop
        self._source = source
        self.played = 0
        """Rows since time zero, over all laps."""

    @property
    def index(self) -> int:
        """Position of the next row in the recording; raises EndOfStream behind the last."""
        if self.played >= self._length and not self._loop:
            raise EndOfStream(f"{self._source}: the end of the recording")
        return self.played % self._length

    @property
    def left_in_lap(self) -> int:
        """Rows up to the end of the recording."""
        return self._length - self.index

    def t_ns(self, ahead: int = 0) -> int:
        """The capture time of the row `ahead` rows after the next one."""
        return self._clock.start_ns + round((self.played + ahead) * 1e9 / self._rate_hz)
