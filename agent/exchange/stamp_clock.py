"""Stamps of a topic on the clock of its recording. Pure.

A bag says of every message when it was recorded, and most messages say when they were captured. Stamps may count from
the boot of a device, step when its clock is set, or be nonsense for the first messages. Recording times never do, but
come late by whatever the network and the disk take. So stamps are used, and recording times judge them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple

APART_NS = 60_000_000_000
"""Topics whose stamps differ by more are of different clocks; a message takes less from the sensor to the disk."""
DAY_NS = 86_400_000_000_000
"""Without recording times to judge by, only so much tells different clocks."""
STEP_NS = 1_000_000_000
"""A smaller change of the delay is not the clock's."""
BACK_NS = 200_000_000
"""Stamps go back by less when messages overtake each other."""
REMEMBERED = 16
"""Messages by whose delays the next is judged."""
STEPPED_MESSAGES = 3
"""Consecutive messages that agree on how far the clock stepped."""


class Stamp(NamedTuple):
    """Stamp of a message, 0 without one, and the time of its recording."""

    stamp_ns: int
    received_ns: int


class StampClock:
    """Capture times of the messages of one topic. Ask for them in the order of recording."""

    def __init__(self, shift_ns: int = 0, delay_ns: int | None = None, *, judges: bool = True) -> None:
        """`shift_ns` is added to all stamps; `delay_ns` is the usual time from a stamp, shifted, to the recording.

        Without `judges`, recording times are not looked at.
        """
        self._shifted = shift_ns != 0
        self._shift_ns = shift_ns
        self._judges = judges
        self._delays: deque[int] = deque([] if delay_ns is None else [delay_ns], maxlen=REMEMBERED)
        """Of the last messages whose stamps are right."""
        self._last_ns: int | None = None
        self._stepped: list[int] = []
        """Delays of the last messages, while they do not fit."""

    def capture_ns(self, stamp: Stamp) -> tuple[int, str]:
        """Return the capture time of a message, and what is to be said of it, if anything."""
        if not stamp.stamp_ns:
            return stamp.received_ns, "messages without a stamp, placed at their recording time"
        t_ns = stamp.stamp_ns + self._shift_ns
        delay_ns = stamp.received_ns - t_ns
        if self._judges and not self._fits(t_ns, delay_ns):
            return self._placed(stamp, delay_ns)
        self._take(t_ns, delay_ns)
        return t_ns, "messages stamped by another clock, shifted to that of the others" if self._shifted else ""

    def copy(self) -> StampClock:
        """Return the clock as it is now."""
        copied = StampClock(self._shift_ns, judges=self._judges)
        copied._delays, copied._last_ns = self._delays.copy(), self._last_ns
        return copied

    def _take(self, t_ns: int, delay_ns: int) -> None:
        self._last_ns = t_ns
        self._delays.append(delay_ns)
        self._stepped = []

    def _fits(self, t_ns: int, delay_ns: int) -> bool:
        """Nothing is recorded before it is captured, nor an hour later; and time goes on."""
        if not self._delays:
            return True
        on_time = min(self._delays) - STEP_NS <= delay_ns
        if self._last_ns is None:
            return on_time and delay_ns <= max(self._delays) + STEP_NS
        return on_time and delay_ns <= max(self._delays) + APART_NS and t_ns >= self._last_ns - BACK_NS

    def _placed(self, stamp: Stamp, delay_ns: int) -> tuple[int, str]:
        """The time of a message whose stamp does not fit. When others agree with it, the clock has stepped."""
        usual_ns = min(self._delays)
        self._stepped = [*self._stepped, delay_ns][-STEPPED_MESSAGES:]
        agree = len(self._stepped) == STEPPED_MESSAGES and max(self._stepped) - min(self._stepped) <= STEP_NS
        if not agree:
            return (
                stamp.received_ns - usual_ns,
                "messages whose stamp is of another time, placed by their recording time",
            )
        step_ns = min(self._stepped) - usual_ns
        self._shift_ns += step_ns
        t_ns = stamp.stamp_ns + self._shift_ns
        self._take(t_ns, stamp.received_ns - t_ns)
        return t_ns, f"step of the clock of its stamps by {-step_ns / 1e9:.1f} s, taken out"


def clocks_of(probed: Mapping[str, Sequence[Stamp]]) -> dict[str, StampClock]:
    """The clocks of topics by the first stamps of each.

    Topics whose stamps are of another clock than most are shifted: their first messages count as captured as long
    before their recording as those of the others.
    """
    delays = {
        topic: median_low([stamp.received_ns - stamp.stamp_ns for stamp in stamps if stamp.stamp_ns])
        for topic, stamps in probed.items()
        if any(stamp.stamp_ns for stamp in stamps)
    }
    judges = _received_as_captured(probed.values())
    if not delays:
        return {topic: StampClock() for topic in probed}
    usual_ns = min(delays.values(), key=lambda own: (-sum(abs(d - own) < APART_NS for d in delays.values()), abs(own)))
    apart_ns = APART_NS if judges else DAY_NS
    clocks = {}
    for topic in probed:
        own_ns = delays.get(topic, usual_ns)
        shift_ns = own_ns - usual_ns if abs(own_ns - usual_ns) >= apart_ns else 0
        clocks[topic] = StampClock(shift_ns, own_ns - shift_ns, judges=judges)
    return clocks


def _received_as_captured(probed: Iterable[Sequence[Stamp]]) -> bool:
    """Return whether messages were recorded while they were captured; a converted bag may have other times."""
    captured_ns = received_ns = 0
    for stamps in probed:
        found = [stamp for stamp in stamps if stamp.stamp_ns]
        steps = [after.stamp_ns - before.stamp_ns for before, after in pairwise(found)]
        captured_ns += sum(step for step in steps if 0 < step < APART_NS)
        received_ns += found[-1].received_ns - found[0].received_ns if found else 0
    return received_ns > captured_ns / 2 or captured_ns < STEP_NS
