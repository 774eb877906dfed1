"""Delay of samples: from the time on their stamp to their arrival."""

from __future__ import annotations

from collections import deque
from statistics import median

RECENT = 64
"""Number of samples in the median."""
LEAST = 8
PROMPT_SHARE = 32
"""One in so many may be prompter than the delay that is put down to the stamps: load holds up most, but not all."""
OWN_S = 0.04
"""At most, a picture takes so long to be read out, or one period."""
AHEAD_S = 0.1
"""Stamps of rows, which are smoothed, may run ahead by less."""


class DelayMeter:
    """The delays of the last samples of one stream."""

    def __init__(self) -> None:
        """Nothing is measured yet."""
        self._delays_ns: deque[int] = deque(maxlen=RECENT)

    def add(self, now_ns: int, end_ns: int) -> None:
        """Take note of a sample that arrived now, and of the time up to which it tells by its own stamp."""
        self._delays_ns.append(now_ns - end_ns)

    def median_s(self) -> float:
        """0 before there is a sample."""
        return median(self._delays_ns) / 1e9 if self._delays_ns else 0.0

    def problem(self, hop_s: float, period_s: float, latency_s: float, max_lateness_s: float) -> str:
        """Return the fault of the stamps; empty when the sensor's settings explain the delays.

        `latency_s` is what its driver takes off the stamps. Samples that lag by less than half a hop, or that windows
        wait for, are where they belong.
        """
        if len(self._delays_ns) < LEAST:
            return ""
        delays_ns = sorted(self._delays_ns)
        lag_s = delays_ns[len(delays_ns) // PROMPT_SHARE] / 1e9 - max(0.0, latency_s)
        if lag_s > max(hop_s / 2 + min(period_s, OWN_S), max_lateness_s):
            told = f"its time stamps lag the clock by {lag_s:.2f} s (half a hop is {hop_s / 2:g} s)"
            return f"{told}; set latency_ms, or max_lateness_s if they are right"
        ahead_s = -self.median_s()
        if ahead_s > AHEAD_S:
            return f"its time stamps are {ahead_s:.2f} s ahead of the clock; set latency_ms, or that clock right"
        return ""
