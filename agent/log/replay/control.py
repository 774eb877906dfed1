"""Control of a replay: range, speed, pause and jumps. One thread plays, any thread controls.

Time in a log runs with a clock of this machine, `speed` times as fast. Whoever plays asks of every sample whether it is
due. Nothing is ever left out: when what takes the samples is slower than that, the replay falls behind, catches up when
it can, and says by how much it is late.
"""

from __future__ import annotations

import logging
import math
import threading
from concurrent.futures import Future
from dataclasses import dataclass

from agent.log.format import ReplayError
from drivers.driver import Clock

log = logging.getLogger(__name__)

MAX_SPEED = math.inf
"""As fast as samples are taken."""
SPEEDS = (0.1, 1000.0)
"""The slowest, and the fastest that is paced."""
BEHIND_NS = 2_000_000_000
"""A replay that is later than this says so in the program's log, once."""


class ReplayOver(Exception):
    """The replay was closed before what was asked of it was done."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Range, speed and mode of a replay. Times are capture times of the log, in nanoseconds; None is its own start, or
    end.
    """

    speed: float = MAX_SPEED
    """Times the log's own, or MAX_SPEED."""
    from_ns: int | None = None
    to_ns: int | None = None
    loop: bool = False
    """Start over at the end."""
    paused: bool = False
    """Stand at the start until told to go on."""
    lasting: bool = False
    """True: at the end, wait for a seek instead of ending."""


ALL = ReplayOptions()
"""Whole log, as fast as possible."""


@dataclass(frozen=True, slots=True)
class Command:
    """Request to a running replay; a field that is None changes nothing."""

    paused: bool | None = None
    speed: float | None = None
    seek_ns: int | None = None
    step_ticks: int = 0
    """Number of ticks to run before the next pause."""


@dataclass(frozen=True, slots=True)
class ReplayPosition:
    """State of a replay. Times are capture times of the log."""

    start_ns: int
    end_ns: int
    from_ns: int
    to_ns: int
    """The part that is played."""
    loop: bool
    position_ns: int
    """Time up to which the log has been read."""
    speed: float
    paused: bool
    ended: bool
    """All was read, and what follows from it has been said."""
    behind_s: float
    """Lateness of the last sample, by this machine's clock."""
    stretch: int
    """1 at first, one more after every jump."""


class ReplayControl:
    """The state of one replay. `clock` is what it is paced by; it sleeps, while `control` may be called at any time."""

    def __init__(self, start_ns: int, end_ns: int, options: ReplayOptions, clock: Clock) -> None:
        """Control the replay of a log from `start_ns` to `end_ns`. Raises ReplayError for a range outside of it."""
        self.start_ns, self.end_ns = start_ns, end_ns
        self.from_ns, self.to_ns = _part(start_ns, end_ns, options)
        self.loop, self.lasting = options.loop, options.loop or options.lasting
        self._clock = clock
        self._lock = threading.Lock()
        self._speed = checked_speed(options.speed)
        self._paused = options.paused
        self._steps = 0
        self._ended = False
        self._stretch = 1
        self._position_ns = self._next_ns = self.from_ns
        self._base_ns = self.from_ns
        """Log time at `_since_ns` of the clock, the begin of the present speed."""
        self._since_ns = clock.now_ns()
        self._behind_ns = 0
        self._told_behind = False
        self._seek_ns: int | None = None
        self._asked: list[Future[ReplayPosition]] = []
        """Futures of those who wait for a seek to be done."""
        self._closed = False

    def ask(self, command: Command) -> Future[ReplayPosition]:
        """Carry out a command; the future holds the state after it, or after the seek. May be called on any thread.

        The future raises ReplayOver when the replay is closed before.
        """
        future: Future[ReplayPosition] = Future()
        with self._lock:
            self._change_pace(command)
            if command.seek_ns is not None:
                self._seek_ns = command.seek_ns
                self._asked.append(future)
            else:
                future.set_result(self._state())
            asked = self._take_asked() if self._closed else []
        _refuse(asked)
        return future

    def state(self) -> ReplayPosition:
        """Return the state of the replay; may be called on any thread."""
        with self._lock:
            return self._state()

    def close(self) -> None:
        """Release everyone who waits for a seek; may be called again."""
        with self._lock:
            self._closed = True
            asked = self._take_asked()
        _refuse(asked)

    # The methods below are for the thread that plays.

    def start(self) -> None:
        """Start the clock of the log."""
        with self._lock:
            self._since_ns = self._clock.now_ns()

    def jump(self) -> int | None:
        """Return the time of a requested jump, or None. The jump counts as done with the next call."""
        with self._lock:
            if self._seek_ns is None:
                asked, state = self._take_asked(), self._state()
            else:
                seek_ns, self._seek_ns = self._seek_ns, None
                self._begin(seek_ns)
                return seek_ns
        for future in asked:
            if future.set_running_or_notify_cancel():
                future.set_result(state)
        return None

    def skip(self, t_ns: int) -> None:
        """Continue at `t_ns`, because the log holds nothing before."""
        with self._lock:
            self._begin(t_ns)

    def due(self, t_ns: int, timeout_s: float) -> bool:
        """Return whether it is time for what was captured at `t_ns`; waits up to `timeout_s` and says no before."""
        with self._lock:
            now_ns = self._clock.now_ns()
            self._next_ns = t_ns
            ahead_ns = self._ahead_ns(t_ns, now_ns)
            if ahead_ns <= 0:
                self._position_ns = max(self._position_ns, t_ns)
                self._note_lateness(-ahead_ns)
                return True
        self._clock.sleep_until(now_ns + math.ceil(min(ahead_ns, timeout_s * 1e9)))
        return False

    def ticked(self, ticks: int) -> None:
        """Count the ticks that followed from the samples: the last of a step pauses."""
        with self._lock:
            if self._steps:
                self._steps = max(0, self._steps - ticks)
                if not self._steps:
                    self._rebase()
                    self._paused = True

    def end(self, *, start_over: bool) -> None:
        """All was read; a loop starts over, if `start_over` says that there is something to play."""
        with self._lock:
            self._steps = 0
            if self.loop and start_over and self._seek_ns is None:
                self._seek_ns = self.from_ns

    def through(self) -> None:
        """Note that everything that follows from the samples is published."""
        with self._lock:
            self._ended = True

    def wait(self, timeout_s: float) -> None:
        """Pass the time at the end."""
        self._clock.sleep_until(self._clock.now_ns() + round(timeout_s * 1e9))

    def _change_pace(self, command: Command) -> None:
        if command.speed is None and command.paused is None and not command.step_ticks:
            return
        self._rebase()
        self._behind_ns = 0
        if command.speed is not None:
            self._speed = checked_speed(command.speed)
        if command.paused is not None:
            self._paused, self._steps = command.paused, 0
        if command.step_ticks:
            self._paused, self._steps = False, command.step_ticks

    def _begin(self, t_ns: int) -> None:
        """Start another stretch at a capture time of the log."""
        self._position_ns = self._next_ns = self._base_ns = t_ns
        self._since_ns = self._clock.now_ns()
        self._behind_ns = 0
        self._ended = False
        self._stretch += 1

    def _ahead_ns(self, t_ns: int, now_ns: int) -> float:
        """Nanoseconds of the clock until `t_ns` is due, for ever while paused; below 0 when it is late."""
        if self._paused:
            return math.inf
        if self._speed == MAX_SPEED or self._steps:
            return 0.0
        return (t_ns - self._base_ns) / self._speed - (now_ns - self._since_ns)

    def _rebase(self) -> None:
        """Keep the log's time continuous when the speed changes or the replay pauses."""
        now_ns = self._clock.now_ns()
        if not self._paused:
            ran_ns = self._position_ns
            if self._speed != MAX_SPEED and not self._steps:
                ran_ns = self._base_ns + round((now_ns - self._since_ns) * self._speed)
            # Not beyond the next sample: a replay that is late stands there.
            self._base_ns = max(self._position_ns, min(ran_ns, self._next_ns))
        self._since_ns = now_ns

    def _note_lateness(self, late_ns: float) -> None:
        self._behind_ns = round(late_ns)
        if late_ns > BEHIND_NS and not self._told_behind:
            self._told_behind = True
            log.warning(
                "the replay is %.0f s behind speed %g: the model is slower than that; nothing is left out",
                late_ns / 1e9,
                self._speed,
            )

    def _state(self) -> ReplayPosition:
        position_ns = min(self._position_ns, self.end_ns) if self._seek_ns is None else self._seek_ns
        return ReplayPosition(
            self.start_ns,
            self.end_ns,
            self.from_ns,
            self.to_ns,
            self.loop,
            position_ns,
            self._speed,
            self._paused,
            self._ended,
            self._behind_ns / 1e9,
            self._stretch,
        )

    def _take_asked(self) -> list[Future[ReplayPosition]]:
        asked, self._asked = self._asked, []
        return asked


def _refuse(asked: list[Future[ReplayPosition]]) -> None:
    for future in asked:
        if future.set_running_or_notify_cancel():
            future.set_exception(ReplayOver("the replay is closed"))


def checked_speed(speed: float) -> float:
    """Return a speed that can be played. Raises ReplayError."""
    slowest, fastest = SPEEDS
    if speed != MAX_SPEED and not slowest <= speed <= fastest:
        raise ReplayError(
            f"speed {speed:g} is not {slowest:g} to {fastest:g} times the log's own, nor as fast as possible"
        )
    return speed


def _part(start_ns: int, end_ns: int, options: ReplayOptions) -> tuple[int, int]:
    """Return the range to play. Raises ReplayError."""
    from_ns = start_ns if options.from_ns is None else options.from_ns
    to_ns = max(end_ns, from_ns) if options.to_ns is None else min(options.to_ns, end_ns)
    length_s, from_s, to_s = ((t_ns - start_ns) / 1e9 for t_ns in (end_ns, from_ns, to_ns))
    if from_s < 0 or (from_s > length_s and options.from_ns is not None):
        raise ReplayError(f"from {from_s:.3f} s: the log is {length_s:.3f} s long; begin between 0 and that")
    if to_s <= from_s and options.to_ns is not None:
        raise ReplayError(f"to {to_s:.3f} s: the replay begins at {from_s:.3f} s; end after that")
    return from_ns, to_ns
