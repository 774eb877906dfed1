"""Samples of one stream in the order of their capture, whatever the order that they come in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
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
    """Holds back a sample that does not follow directly on the one before it. All others pass at once.

    Where samples may come in any order, it waits until what is missing has had the lateness of the stream to come.
    Where they come in order, nothing can come any more but a next one, which tells whether rows are missing indeed or
    the stamp of one block was wrong: that block then stands where its turn was.
    """

    def __init__(self, stream: Stream) -> None:
        """Hold nothing."""
        self._in_order = stream.in_order
        self._lateness_ns = round(stream.max_lateness_s * 1e9)
        self._period_ns = self._nominal_ns = stream.period_s * 1e9
        """Between images as they come, but at most the nominal one."""
        self._most = 2 * ceil(stream.max_lateness_s * stream.samples_hz) + stream.queue_depth
        self._heap: list[tuple[int, int, Sample]] = []
        self._arrival = count()
        self._reached_ns: int | None = None
        """End of what was given."""
        self._newest_ns = 0
        """End of what has come."""

    def add(self, sample: Sample) -> Iterator[Sample]:
        """Take a sample; yield those whose turn has come."""
        if self._in_order and self._heap and self._reached_ns is not None:
            held = self._heap[0][2]
            turn_ns = self._reached_ns + held.end_ns - held.t_ns
            if sample.t_ns < held.t_ns and abs(sample.t_ns - turn_ns) <= self._slack_ns(sample):
                heappop(self._heap)
                yield self._passed(replace(held, t_ns=self._reached_ns))
        self._newest_ns = max(self._newest_ns, sample.end_ns)
        heappush(self._heap, (sample.t_ns, next(self._arrival), sample))
        while self._heap and self._has_turn(self._heap[0][2]):
            yield self._passed(heappop(self._heap)[2])

    def until(self, t_ns: int) -> Iterator[Sample]:
        """Yield the samples that a window up to `t_ns` is cut with when no more are waited for: up to the first from
        then or later, unless it begins a lateness after `t_ns`.
        """
        while self._heap and self._heap[0][0] < t_ns + self._lateness_ns and (self._reached_ns or 0) < t_ns:
            yield self._passed(heappop(self._heap)[2])

    def _has_turn(self, sample: Sample) -> bool:
        if self._reached_ns is None:
            # The first one waits where older ones may come.
            return self._in_order or self._is_due(sample)
        known_ns = sample.lost * 1e9 / sample.rate_hz if self._in_order and sample.rate_hz else 0.0
        return sample.t_ns <= self._reached_ns + known_ns + self._slack_ns(sample) or self._is_due(sample)

    def _is_due(self, sample: Sample) -> bool:
        if len(self._heap) > self._most:
            return True
        return self._newest_ns >= (sample.end_ns + 1 if self._in_order else sample.t_ns + self._lateness_ns)

    def _slack_ns(self, sample: Sample) -> float:
        """Time after the end of the sample before, in which nothing is missing."""
        if not sample.rate_hz:
            return NEXT_PERIODS * self._period_ns
        return max(len(sample.data) / 2 / sample.rate_hz, JITTER_FLOOR_S) * 1e9

    def _passed(self, sample: Sample) -> Sample:
        """Note a sample that is given."""
        if self._reached_ns is not None and not sample.rate_hz:
            apart_ns = min(max(0, sample.t_ns - self._reached_ns), self._nominal_ns)
            self._period_ns += (apart_ns - self._period_ns) * PERIOD_MEMORY
        self._reached_ns = max(self._reached_ns or 0, sample.end_ns)
        return sample
