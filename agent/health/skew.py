"""Skew of a device's clock against the run's clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SPAN_S = 30.0
BUCKET_S = 1.0
LEAST_IN_BUCKET = 4
"""Samples: of fewer, the promptest may be late, and they do not tell by how much."""
LEAST_S = 5.0
"""Before that much time, the jitter of arrivals would look like skew."""
LEAST_BUCKETS = 6
MOST_BUCKETS = 120
"""Gaps begin new ones."""
CAUTION = 3.0
"""Times what samples are typically late: by so much, at most, the promptest of one second is later than of another."""


@dataclass(slots=True)
class _Bucket:
    """The samples of a second, of more for a slow stream, or of less when rows were lost in it."""

    begin_s: float
    jump_s: float
    """The stamps jumped by so much just before: rows were lost, or a stamp was off."""
    at_s: float
    ahead_s: float
    """The promptest sample: its arrival, and device's time less arrival."""
    sum_s: float = 0.0
    """Of device's time less arrival, of all."""
    count: int = 0

    def add(self, at_s: float, ahead_s: float) -> None:
        if ahead_s > self.ahead_s:
            self.at_s, self.ahead_s = at_s, ahead_s
        self.sum_s += ahead_s
        self.count += 1

    def full(self, at_s: float) -> bool:
        return self.count >= LEAST_IN_BUCKET and at_s >= self.begin_s + BUCKET_S

    @property
    def late_s(self) -> float:
        """Average lateness of samples against the promptest."""
        return self.ahead_s - self.sum_s / self.count


class SkewMeter:
    """Fits a line to the device's time over the time of arrival.

    A device that yields rows tells its time by counting them, whatever its stamps say; images tell it by their stamps.
    Samples come late but never early, so of every second only the promptest sample counts; and the line is that of
    Theil and Sen (the median of the slopes between pairs), which a slow start or a stall does not tilt.

    Load that rises looks like a slow device. What tells them apart: under load samples are late by different times, and
    skew is the same in both halves of the span. Both bound how far the slope may be off.
    """

    def __init__(self) -> None:
        """Begin without a measurement."""
        self._origin_ns: tuple[int, int] | None = None
        self._device_s = 0.0
        self._jump_s = 0.0
        self._buckets: deque[_Bucket] = deque(maxlen=MOST_BUCKETS)
        self._fitted: tuple[float, float] | None = None
        """Fit to the complete buckets; None when there is a new one."""

    def jump(self, jump_s: float) -> None:
        """The stamps jump before the next sample, and nobody knows how many rows were lost."""
        self._jump_s += jump_s

    def add(self, now_ns: int, rows_s: float | None, t_ns: int) -> None:
        """Take note of a sample that arrived now: its stamp, and the nominal duration of its rows (None for images).

        Rows that are known to have been lost before it belong to the duration.
        """
        if self._origin_ns is None:
            self._origin_ns = (now_ns, t_ns)
        elif rows_s is not None:
            self._device_s += rows_s
        at_s = (now_ns - self._origin_ns[0]) / 1e9
        ahead_s = (self._device_s if rows_s is not None else (t_ns - self._origin_ns[1]) / 1e9) - at_s
        buckets = self._buckets
        if not buckets or self._jump_s or buckets[-1].full(at_s):
            buckets.append(_Bucket(at_s, self._jump_s, at_s, ahead_s))
            self._fitted = None
            self._jump_s = 0.0
            while buckets[0].begin_s < at_s - SPAN_S:
                buckets.popleft()
        buckets[-1].add(at_s, ahead_s)

    def ppm(self) -> tuple[float, float]:
        """Parts per million by which the device's time runs faster, and by how many that may be off.

        (0, infinity) while nothing can be told.
        """
        if self._fitted is None:
            self._fitted = self._fit()
        return self._fitted

    def _fit(self) -> tuple[float, float]:
        buckets = list(self._buckets)[:-1]  # the last one goes on
        if len(buckets) < LEAST_BUCKETS or buckets[-1].at_s - buckets[0].at_s < LEAST_S:
            return 0.0, float("inf")
        at_s, ahead_s = np.array([bucket.at_s for bucket in buckets]), _joined(buckets)
        slope = _slope(at_s, ahead_s)
        half = len(buckets) // 2
        uneven = max(abs(slope - _slope(at_s[part], ahead_s[part])) for part in (slice(half), slice(half, None)))
        rest = ahead_s - slope * at_s
        scatter_s = _median(np.abs(rest - _median(rest)))
        late_s = _median(np.array([bucket.late_s for bucket in buckets]))
        off = CAUTION * (late_s + scatter_s) / (at_s[-1] - at_s[0]) + uneven
        return slope * 1e6, float(off) * 1e6


def _joined(buckets: list[_Bucket]) -> NDArray[np.float64]:
    """Device's time less arrival of each bucket, as if no rows had been lost.

    After a jump of the stamps that was one of the stamps alone, the count of rows is where it was; after one that rows
    are missing from, it lags by the jump from then on.
    """
    ahead_s = np.empty(len(buckets))
    missing_s = 0.0
    for index, bucket in enumerate(buckets):
        ahead_s[index] = bucket.ahead_s + missing_s
        if index and bucket.jump_s:
            step_s = ahead_s[index - 1] - ahead_s[index]
            if step_s > bucket.jump_s / 2:
                missing_s += step_s
                ahead_s[index] += step_s
    return ahead_s


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    early, late = _pairs(len(x))
    apart = x[late] - x[early]
    far = apart > (x[-1] - x[0]) / 3  # neighbours tell of jitter, not of skew
    return _median((y[late] - y[early])[far] / apart[far])


@cache
def _pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    early, late = np.triu_indices(count, k=1)
    return early, late


def _median(values: NDArray[np.float64]) -> float:
    """Of an even number, the upper one. NumPy's own opens files when it is first called, and there may be none left."""
    middle = len(values) // 2
    return float(np.partition(values, middle)[middle])
