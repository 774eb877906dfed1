"""Rows of a stream counted against their stamps, as the windows do, and gathered into blocks. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.windows.row_buffer import FOLLOW, JITTER_CEILING_S, JITTER_FLOOR_S, JITTER_MARGIN, JITTER_MEMORY
from drivers.codec import MAX_RATE_HZ
from drivers.driver import Sample

BLOCK_S = 0.05
LONGEST_GAP_S = 3600.0
"""A longer step of the stamps tells of another clock, or another recording, not of rows that are missing."""
BATCHED_SHARE = 0.01
"""Share of long intervals above which stamps are those of batches."""


class RowCount:
    """Due time of the next row of a stream, by counting rows of a nominal rate.

    Stamps move the count only slowly, as a device's clock drifts, or by a gap: when a row comes later than it is due by
    more than half its block and more than its stamps jitter.
    """

    def __init__(self, rate_hz: float) -> None:
        """Wait for the first row."""
        self._period_ns = 1e9 / rate_hz
        self._due_ns: float | None = None
        self._jitter_ns = 0.0

    def gap(self, t_ns: int, rows: int, lost: int = 0) -> int:
        """Rows between the count and a block at `t_ns`, of which the driver knows `lost`; below 0 when it overlaps."""
        ahead_ns = 0.0 if self._due_ns is None else t_ns - self._due_ns
        tolerance_ns = self._tolerance_ns(rows)
        if lost and abs(ahead_ns - lost * self._period_ns) <= tolerance_ns:
            return lost
        return round(ahead_ns / self._period_ns) if abs(ahead_ns) > tolerance_ns else 0

    def take(self, t_ns: int, rows: int, gap: int = 0, *, follow: bool = True) -> None:
        """Count a block of rows that stands `gap` rows after the count."""
        due_ns = t_ns if self._due_ns is None else self._due_ns + gap * self._period_ns
        error_ns = t_ns - due_ns
        self._jitter_ns += (abs(error_ns) - self._jitter_ns) * JITTER_MEMORY
        self._due_ns = due_ns + rows * self._period_ns + (error_ns * FOLLOW if follow else 0.0)

    def restart(self) -> None:
        """Wait for a first row again."""
        self._due_ns = None

    def _tolerance_ns(self, rows: int) -> float:
        floor_ns, ceiling_ns = JITTER_FLOOR_S * 1e9, JITTER_CEILING_S * 1e9
        jitter_ns = min(max(JITTER_MARGIN * self._jitter_ns, floor_ns), ceiling_ns)
        return max(rows / 2 * self._period_ns, jitter_ns)


class RowBlocks:
    """Gathers single inertial rows of a nominal rate into samples that count the rows missing before them."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._block = max(1, round(BLOCK_S * rate_hz))
        self._count = RowCount(rate_hz)
        self._rows: list[Sequence[float]] = []
        self._t_ns = 0
        self._lost = 0

    def add(self, t_ns: int, row: Sequence[float], lost: int = 0) -> list[Sample]:
        """Take a row before which `lost` are known to be missing; return the blocks that it completes."""
        done: list[Sample] = []
        gap = self._count.gap(t_ns, 1, lost)
        if not -JITTER_CEILING_S <= gap / self._rate_hz <= LONGEST_GAP_S:  # the stamps step
            self._count.restart()
            gap = 0
        missing = max(gap, lost, 0)
        if missing or len(self._rows) == self._block:
            done = self.flush()
        if not self._rows:
            self._t_ns, self._lost = t_ns, missing
        # Rows that come in batches are stamped in batches: the count follows where blocks begin.
        self._count.take(t_ns, 1, max(gap, 0), follow=not self._rows)
        self._rows.append(row)
        return done

    def flush(self) -> list[Sample]:
        """Return the last rows, as one block or none."""
        if not self._rows:
            return []
        data: NDArray[np.float32] = np.array(self._rows, np.float32)
        self._rows = []
        return [Sample(self._t_ns, data, self._rate_hz, self._lost)]


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
