"""Single rows of a stream gathered into blocks, and their rate told from their stamps. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.driver import BLOCK_S, Sample
from drivers.forms import MAX_RATE_HZ
from drivers.row_timeline import JITTER_CEILING_S, RowTimeline

LONGEST_GAP_S = 3600.0
"""A longer step of the stamps tells of another clock, or another recording, not of rows that are missing."""
COUNTER_BITS = (16, 32)
"""Sizes of counters that wrap while a recording lasts: micros() of a microcontroller after 71.6 minutes."""
WRAP_ROWS = 20
"""Rows that may be missing where a counter wraps."""
BATCHED_SHARE = 0.01
"""Share of long intervals above which stamps are those of batches."""


class RowBlocks:
    """Gathers single inertial rows of a nominal rate into samples that count the rows missing before them."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._block = max(1, round(BLOCK_S * rate_hz))
        self._timeline = RowTimeline(rate_hz)
        self._rows: list[Sequence[float]] = []
        self._t_ns = 0
        self._lost = 0

    def add(self, t_ns: int, row: Sequence[float], lost: int = 0) -> list[Sample]:
        """Take a row before which `lost` are known to be missing; return the blocks that it completes."""
        done: list[Sample] = []
        gap = self._timeline.gap(t_ns, 1, lost)
        if not -JITTER_CEILING_S <= gap / self._rate_hz <= LONGEST_GAP_S:  # the stamps step
            self._timeline.restart()
            gap = 0
        missing = max(gap, lost, 0)
        if missing or len(self._rows) == self._block:
            done = self.flush()
        if not self._rows:
            self._t_ns, self._lost = t_ns, missing
        # Rows that come in batches are stamped in batches: the timeline follows where blocks begin.
        self._timeline.take(t_ns, 1, max(gap, 0), follow=not self._rows)
        self._rows.append(row)
        return done

    def flush(self) -> list[Sample]:
        """Return the last rows, as one block or none."""
        if not self._rows:
            return []
        data: NDArray[np.float32] = np.array(self._rows, np.float32)
        self._rows = []
        return [Sample(self._t_ns, data, self._rate_hz, self._lost)]


class RisingTimes:
    """Times of rows that go on where a clock was set back, or a counter began anew. Give every row's own time."""

    def __init__(self, unit_ns: int, rate_hz: float) -> None:
        """`unit_ns` are the nanoseconds of one count of the times."""
        self._wraps_ns = [2**bits * unit_ns for bits in COUNTER_BITS]
        self._step_ns = round(1e9 / rate_hz)
        self._last_ns: int | None = None
        self._shift_ns = 0

    def risen(self, own_ns: int) -> tuple[int, str]:
        """Return the time of a row, and what is to be said of it, if anything."""
        t_ns, note = own_ns + self._shift_ns, ""
        back_ns = 0 if self._last_ns is None else self._last_ns - t_ns
        if back_ns > JITTER_CEILING_S * 1e9:
            # After a wrap the next row stands as far ahead as rows usually do.
            wrap_ns = next((w for w in self._wraps_ns if 0 <= w - back_ns <= WRAP_ROWS * self._step_ns), 0)
            shift_ns = wrap_ns or back_ns + self._step_ns
            note = f"step of its times by -{back_ns / 1e9:.1f} s, " + ("a wrapped counter" if wrap_ns else "taken out")
            self._shift_ns += shift_ns
            t_ns += shift_ns
        self._last_ns = t_ns
        return t_ns, note


def rate_of(times_ns: Sequence[int]) -> float | None:
    """The rate in Hz at which stamps follow each other, gaps left out; None when that cannot be told."""
    intervals = np.diff(np.array(times_ns, np.int64)).astype(np.float64)
    intervals = intervals[intervals > 0]
    if not intervals.size:
        return None
    usual = float(np.median(intervals))
    batched = float((intervals > 5 * usual).mean()) > BATCHED_SHARE
    counted = intervals if batched else intervals[intervals < 1.5 * usual]
    rate_hz = round(1e9 / float(counted.mean()), 3)
    return rate_hz if 0 < rate_hz <= MAX_RATE_HZ else None
