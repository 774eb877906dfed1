"""How fast a device's clock runs against the run's clock."""

from __future__ import annotations

from collections import deque

import numpy as np

SPAN_S = 30
LEAST_S = 8
"""Before that much time, the jitter of arrivals would look like skew."""


class SkewMeter:
    """Fits a line to the device's time over the time of arrival.

    A device that yields rows tells its time by counting them, whatever its stamps say; images tell it by their stamps.
    Samples come late but never early, so of every second the promptest counts; and the line is that of Theil and Sen
    (the median of the slopes between all pairs), which a slow start or a stall does not tilt.
    """

    def __init__(self) -> None:
        """Begin without a measurement."""
        self._origin_ns: tuple[int, int] | None = None
        self._device_s = 0.0
        self._promptest: deque[tuple[float, float]] = deque(maxlen=SPAN_S)
        """Of each second: (arrival, device's time less arrival)."""

    def restart(self) -> None:
        """Forget everything, after a gap."""
        self._origin_ns = None
        self._promptest.clear()

    def add(self, now_ns: int, rows_s: float | None, t_ns: int) -> None:
        """Take note of a sample that arrived now: its stamp, and the nominal duration of its rows (None for images)."""
        if self._origin_ns is None:
            self._origin_ns = (now_ns, t_ns)
            self._device_s = 0.0
        elif rows_s is not None:
            self._device_s += rows_s
        now_s = (now_ns - self._origin_ns[0]) / 1e9
        device_s = self._device_s if rows_s is not None else (t_ns - self._origin_ns[1]) / 1e9
        point = (now_s, device_s - now_s)
        if not self._promptest or int(now_s) != int(self._promptest[-1][0]):
            self._promptest.append(point)
        elif point[1] > self._promptest[-1][1]:
            self._promptest[-1] = point

    def ppm(self) -> float:
        """Parts per million by which the device's time runs faster; 0 while that cannot be told."""
        if len(self._promptest) <= LEAST_S:
            return 0.0
        now_s, ahead_s = np.array(self._promptest).T
        early, late = np.triu_indices(len(now_s), k=1)
        return float(np.median((ahead_s[late] - ahead_s[early]) / (now_s[late] - now_s[early]))) * 1e6
