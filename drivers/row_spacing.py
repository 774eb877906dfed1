"""Spacing of the rows of a stream as its time stamps have it, against the nominal one. Pure."""

from __future__ import annotations

from collections import deque
from math import sqrt
from typing import Final

BUCKET_S: Final = 0.5
SPAN_S: Final = 30.0
LEAST_BUCKETS: Final = 6
LEAST_EXCESS: Final = 2e-3
"""Crystals are good to 100 ppm. A smaller excess puts the oldest row of 5 s off by 10 ms at most; below it, what
windows hold does not depend on how long their stream has been known.
"""
MOST_EXCESS: Final = 0.2
SIGMAS: Final = 6.0
"""An excess must be so many standard errors from zero: the first buckets are few."""


class SpacingMeter:
    """Fits a line to the stamps of blocks over the count of their rows, by means of half a second."""

    def __init__(self, rate_hz: float) -> None:
        """Take the nominal rate to be right."""
        self.spacing = 1.0
        """Of rows, in nominal ones: exactly 1 unless it is measured to differ."""
        self._rate_hz = rate_hz
        self.restart()

    def restart(self) -> None:
        """Count anew; what is known of the spacing stays."""
        self._origin_ns: int | None = None
        self._rows = 0
        self._buckets: deque[tuple[float, float]] = deque()
        """Means of (nominal time of blocks, excess of their stamps over it), in seconds."""
        self._begin_s = self._sum_s = self._sum_excess_s = 0.0
        self._times = 0

    def count(self, rows: int) -> None:
        """Count rows whose times say nothing, or that are missing."""
        self._rows += rows

    def add(self, t_ns: int) -> None:
        """Take note that the next row was captured at `t_ns`."""
        if self._origin_ns is None:
            self._origin_ns, self._rows = t_ns, 0
        at_s = self._rows / self._rate_hz
        if self._times and at_s >= self._begin_s + BUCKET_S:
            self._buckets.append((self._sum_s / self._times, self._sum_excess_s / self._times))
            while self._buckets and self._buckets[0][0] < at_s - SPAN_S:
                self._buckets.popleft()
            self._fit()
            self._times = 0
        if not self._times:
            self._begin_s, self._sum_s, self._sum_excess_s = at_s, 0.0, 0.0
        self._sum_s += at_s
        self._sum_excess_s += (t_ns - self._origin_ns) / 1e9 - at_s
        self._times += 1

    def _fit(self) -> None:
        """Least squares, and their standard error."""
        n = len(self._buckets)
        if n < LEAST_BUCKETS:
            return
        mean_s, mean_excess_s = (sum(column) / n for column in zip(*self._buckets, strict=True))
        points = [(at_s - mean_s, excess_s - mean_excess_s) for at_s, excess_s in self._buckets]
        squares = sum(x * x for x, _ in points)
        slope = sum(x * y for x, y in points) / squares
        error = sqrt(sum((y - slope * x) ** 2 for x, y in points) / (n - 2) / squares)
        certain = max(LEAST_EXCESS, SIGMAS * error) <= abs(slope) <= MOST_EXCESS
        self.spacing = 1.0 + slope if certain else 1.0
