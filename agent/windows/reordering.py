"""Samples of one stream in the order of their capture, for sources that may deliver them in another."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from math import ceil

from agent.streams import Stream
from drivers.driver import Sample
from drivers.row_timeline import JITTER_FLOOR_S

NEXT_PERIODS = 1.5
"""An image that is further from the one before it, in periods, may have another between them that is still to come."""
PERIOD_MEMORY = 1 / 8


class Reordering:
    """Holds back a sample that does not follow directly on the one before it, until what is missing has had its time.

    Samples in order and without a hole pass at once. Holds no more of them than come within the stream's lateness.
    """

    def __init__(self, stream: Stream) -> None:
        """Hold nothing; the first sample waits, too, since older ones may come."""
        self._lateness_ns = round(stream.max_lateness_s * 1e9)
        self._period_ns = self._nominal_ns = stream.period_s * 1e9
        """Between images as they come, but at most the nominal one."""
        self._most = 2 * ceil(stream.max_lateness_s * stream.samples_hz) + stream.queue_depth
        self._heap: list[tuple[int, int, Sample]] = []
        self._arrival = count()
        self._reached_ns: int | None = None
        """End of what was given."""
        self._newest_ns = 0

    def add(self, sample: Sample) -> Iterator[Sample]:
        """Take a sample; yield those whose turn has come."""
        self._newest_ns = max(self._newest_ns, sample.end_ns)
        heappush(self._heap, (sample.t_ns, next(self._arrival), sample))
        while self._heap and self._has_turn(self._heap[0][2]):
            yield self._pop()

    def until(self, t_ns: int) -> Iterator[Sample]:
        """Yield the samples that a window up to `t_ns` is cut with when no more are waited for: up to the first from
        then or later, unless it begins a lateness after `t_ns`.
        """
        while self._heap and self._heap[0][0] < t_ns + self._lateness_ns and (self._reached_ns or 0) < t_ns:
            yield self._pop()

    def _has_turn(self, sample: Sample) -> bool:
        if sample.t_ns + self._lateness_ns <= self._newest_ns or len(self._heap) > self._most:
            return True
        return self._reached_ns is not None and sample.t_ns <= self._reached_ns + self._slack_ns(sample)

    def _slack_ns(self, sample: Sample) -> float:
        """Time after the end of the sample before, in which nothing is missing."""
        if not sample.rate_hz:
            return NEXT_PERIODS * self._period_ns
        return max(len(sample.data) / 2 / sample.rate_hz, JITTER_FLOOR_S) * 1e9

    def _pop(self) -> Sample:
        _, _, sample = heappop(self._heap)
        if self._reached_ns is not None and not sample.rate_hz:
            apart_ns = min(max(0, sample.t_ns - self._reached_ns), self._nominal_ns)
            self._period_ns += (apart_ns - self._period_ns) * PERIOD_MEMORY
        self._reached_ns = max(self._reached_ns or 0, sample.end_ns)
        return sample
