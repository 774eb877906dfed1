"""The time base of blocks of rows: counted in rows, held to the clock slowly.

Rows leave a device far more evenly (its crystal is off by some 100 ppm) than their blocks arrive here (milliseconds
of jitter). So time is counted in rows, and a second-order loop with a long time constant holds phase and spacing to
the measured times. Rows that never came show as a jump of the measured times that lasts.
"""

from __future__ import annotations

from drivers.driver import FormatMismatch

SETTLED_BLOCKS = 64
"""The loop's time constant in blocks; before that many have come, the phase is the mean of all so far."""

CONFIRM_BLOCKS = 3
"""A jump must last this many blocks to be a gap: a block that merely comes late is followed by blocks in time."""

SPACING_LIMIT = 0.5
"""The spacing of rows stays within this share of the nominal one, whatever is measured."""

LEAST_SHARE, MOST_SHARE = 0.6, 1.5
"""Shares of the nominal rate between which a measured one is taken for it: less, and more, is another setting."""


class RowClock:
    """Stamps blocks of rows of one nominal rate."""

    def __init__(self, rate_hz: float, gap_rows: int, *, confirm_s: float = 0.0) -> None:
        """`gap_rows`: a jump beyond this many rows, which lasts for `confirm_s` at least, means that rows were lost."""
        self._confirm_ns = confirm_s * 1e9
        self._late_from_ns = 0
        self._nominal_ns = self._row_ns = 1e9 / rate_hz
        self._gap_ns = gap_rows * self._nominal_ns
        self._next_ns: float | None = None
        self._blocks = 0
        self._late_ns: list[float] = []
        self._last_t_ns = 0

    def stamp(self, rows: int, first_row_ns: int, lost: int = 0) -> tuple[int, int]:
        """Return (`t_ns` of the first row, rows lost before it) for a block measured to start at `first_row_ns`.

        `lost` counts rows already known to be missing before this block. `t_ns` never decreases,
        and is at most `gap_rows` ahead of `first_row_ns`.
        """
        t_ns = first_row_ns if self._next_ns is None else self._next_ns + lost * self._row_ns
        error_ns = first_row_ns - t_ns
        if error_ns <= self._gap_ns:
            self._late_ns = []
        else:
            self._late_from_ns = self._late_from_ns if self._late_ns else first_row_ns
            self._late_ns = [*self._late_ns, error_ns][-CONFIRM_BLOCKS:]
        if len(self._late_ns) == CONFIRM_BLOCKS and first_row_ns - self._late_from_ns >= self._confirm_ns:
            missing = round(min(self._late_ns) / self._row_ns)
            self._late_ns = []
            t_ns += missing * self._row_ns
            lost += missing
        elif not self._late_ns:
            self._blocks = min(self._blocks + 1, SETTLED_BLOCKS)
            t_ns += self._follow(max(error_ns, -self._gap_ns), rows)
            # more rows than the rate allows must not lead into the future
            t_ns = min(t_ns, first_row_ns + self._gap_ns)
        self._last_t_ns = max(round(t_ns), self._last_t_ns)
        self._next_ns = t_ns + rows * self._row_ns
        return self._last_t_ns, lost

    def _follow(self, error_ns: float, rows: int) -> float:
        """Correct the spacing by the error of one block, and return by how much to correct the phase."""
        gain = 1.0 / self._blocks
        if self._blocks == SETTLED_BLOCKS:  # critically damped: the square of half the phase gain
            self._row_ns += (gain / 2) ** 2 * error_ns / rows
            low, high = (1 - SPACING_LIMIT) * self._nominal_ns, (1 + SPACING_LIMIT) * self._nominal_ns
            self._row_ns = min(max(self._row_ns, low), high)
        return gain * error_ns


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
            raise FormatMismatch(self._device, "rate_hz", f"{self._rate_hz:g}", f"{got_hz:.3g}")
