"""Times of blocks of rows from a device that gives none, and whether its rows come at the rate that was asked."""

from __future__ import annotations

from collections import deque

from drivers.driver import FormatMismatch
from drivers.row_timeline import RowTimeline, arriving

LEAST_SHARE, MOST_SHARE = 0.6, 1.5
"""Shares of the nominal rate between which a measured one is taken for it: less, and more, is another setting."""

LATENESS_BLOCKS = 32
"""Blocks of which the least late one sets the time."""


class RowClock:
    """Stamps blocks of rows of one nominal rate by when they arrive."""

    def __init__(self, rate_hz: float, block_rows: int, *, confirm_s: float = 0.0) -> None:
        """`block_rows` usually come at once. A jump means lost rows only when it lasts for `confirm_s` at least."""
        self._timeline = RowTimeline(rate_hz, arriving(rate_hz, block_rows, confirm_s))
        self._last_t_ns = 0
        self._counted_ns = 0
        """Time of the rows so far by their number alone."""
        self._lateness_ns: deque[int] = deque(maxlen=LATENESS_BLOCKS)
        """By how much the last blocks came after it."""

    def stamp(self, rows: int, first_row_ns: int, lost: int = 0) -> tuple[int, int]:
        """Return (`t_ns` of the first row, rows lost before it) for a block measured to start at `first_row_ns`.

        `lost` counts rows already known to be missing before this block. `t_ns` never decreases, and is not ahead of
        `first_row_ns` unless it would decrease.

        Blocks arrive late by a time that varies, and never early. So the one of the last blocks that was the least late
        by its count of rows tells when they were measured, and their mean only how they drift.
        """
        lost = max(lost, self._timeline.gap(first_row_ns, rows, lost))
        t_ns = self._timeline.take(first_row_ns, rows, lost)
        self._counted_ns += self._timeline.duration_ns(lost)
        self._lateness_ns.append(first_row_ns - self._counted_ns)
        earliest_ns = self._counted_ns + min(self._lateness_ns)
        self._counted_ns += self._timeline.duration_ns(rows)
        self._last_t_ns = max(self._last_t_ns, min(t_ns, earliest_ns))
        return self._last_t_ns, lost


class RateCheck:
    """Compares the rate at which rows really arrive with the nominal one, once, over an unbroken stretch."""

    SPAN_NS = 4_000_000_000
    """Long enough that a terminal's buffer full of older rows (4096 bytes) does not count for much."""
    BREAK_NS = 300_000_000

    def __init__(self, device: str, rate_hz: float) -> None:
        self._device = device
        self._rate_hz = rate_hz
        self._begin_ns: int | None = None
        self._last_ns = 0
        self._rows = 0
        self._damaged = 0.0
        self._done = False

    def count(self, rows: int, now_ns: int, damaged: float = 0.0) -> None:
        """Count rows that arrived at `now_ns`; raises FormatMismatch when far more or fewer come than was asked.

        Lost rows and a wrong `rate_hz` look alike in the long run; over a stretch without a break they do not. Of a
        stretch that lacks no more rows than came `damaged`, or in which nothing could be read, nothing is said.
        """
        if self._done:
            return
        if self._begin_ns is None or now_ns - self._last_ns > self.BREAK_NS:
            self._begin_ns, self._rows, self._damaged = now_ns, 0, 0.0
        else:
            self._rows += rows
            self._damaged += damaged
        self._last_ns = now_ns
        span_ns = now_ns - self._begin_ns
        if span_ns < self.SPAN_NS:
            return
        got_hz, came_hz = (count * 1e9 / span_ns for count in (self._rows, self._rows + self._damaged))
        least_hz, most_hz = LEAST_SHARE * self._rate_hz, MOST_SHARE * self._rate_hz
        if not self._rows or got_hz <= least_hz < came_hz:
            self._begin_ns = None
            return
        self._done = True
        if not least_hz < got_hz < most_hz:
            remedy = f"the device to {self._rate_hz:g}"
            raise FormatMismatch(self._device, "rate_hz", f"{self._rate_hz:g}", f"{got_hz:.3g}", remedy)
