"""Cuts streams into windows that end at common ticks.

A tick is emitted when every stream is settled at its time: a sample from then or later has come, or the stream's
lateness has run out. A stream's window is cut at the moment that stream is settled by its own samples, so what it
holds does not depend on when the other streams were read. Of a stream whose samples may come out of order, a sample
from later settles nothing while one before it may be missing: such a hole has its lateness to be filled. A block of a
stream in order that leaves a hole settles nothing before the next one has confirmed its stamp.

An exception that a sample or a window causes costs that one: it is dropped, or missing, for the reason "fault".
"""

from __future__ import annotations

from collections import Counter, deque

from agent.faults import Faults
from agent.streams import FAR_FUTURE_S, LONGEST_HOLE_NS, Stream, Streams
from agent.windows.image_buffer import ImageBuffer
from agent.windows.reordering import Reordering
from agent.windows.row_buffer import RowBuffer
from agent.windows.window import Tick, Window
from drivers.driver import Sample
from drivers.forms import image_like

__all__ = ["Tick", "Window", "Windower"]

REMEMBERED = 256
"""Stamps kept per stream to tell duplicates."""

TICKS_AT_ONCE = 600
"""Of one `advance`; after a longer hole the rest follows with the next call."""

HELD = 600
"""Windows of one stream that are kept for ticks that wait for other streams; older ones come out missing."""

FAULTS_IN_A_ROW = 8
"""After so many, what a stream remembers is taken to be their cause, and is forgotten."""

_NEVER_NS = -(1 << 62)


class _Lane:
    """One stream on its way from samples to windows."""

    def __init__(self, stream: Stream, hop_ns: int, first_index: int, faults: Faults) -> None:
        self.lateness_ns = round(stream.max_lateness_s * 1e9)
        self.excluded = ""
        self.newest_ns = _NEVER_NS
        """Time up to which samples are in their place."""
        self.arrived_ns = _NEVER_NS
        """End of the samples that came, those that wait for their turn included."""
        self.drops: Counter[str] = Counter()
        self._stream = stream
        self._hop_ns = hop_ns
        self._faults = faults
        self._in_a_row = {"place": 0, "cut": 0}
        """Faults of each since it last went well."""
        self._buffer = self._empty_buffer()
        images_in_order = stream.in_order and image_like(stream.modality)
        self._reordering = None if images_in_order else Reordering(stream)
        self._next_index = first_index
        """Of the first tick whose window is not cut yet."""
        self._windows: dict[int, Window] = {}
        self._stamps: deque[int] = deque(maxlen=REMEMBERED)

    def push(self, sample: Sample, latest_ns: int) -> None:
        """Put a sample that ends by `latest_ns` in its place and cut the windows that it settles."""
        reason = "fault"
        with self._faults.guard(self._stream.sensor):
            reason = self._refusal(sample, latest_ns)
            if not reason:
                for next_one in (sample,) if self._reordering is None else self._reordering.add(sample):
                    self._place(next_one)
        if reason:
            self.drops[reason] += 1

    def ready(self, index: int, now_ns: int) -> bool:
        """Return whether the tick need not wait for this stream."""
        return now_ns >= self.due_ns(index)

    def due_ns(self, index: int) -> int:
        """From when on the tick need not wait for this stream if no more samples come."""
        t_ns = index * self._hop_ns
        if self.excluded:
            return t_ns
        return _NEVER_NS if index < self._next_index else t_ns + self.lateness_ns

    def take(self, index: int) -> Window:
        """The window of a tick, as good as it is by now."""
        t_ns = index * self._hop_ns
        if index >= self._next_index and self._reordering is not None:
            for sample in self._reordering.until(t_ns):
                self._place(sample)
        if index >= self._next_index:
            self._cut_until(t_ns)
        window = self._windows.pop(index, None)
        if window is None:
            return self._missing("gap")
        if window.missing and self.excluded:
            return Window(window.sensor, window.modality, None, 0.0, window.newest_ns, self.excluded)
        return window

    def _refusal(self, sample: Sample, latest_ns: int) -> str:
        """Return why a sample that has come is dropped; "" for one that is not, whose time counts from now on."""
        end_ns = sample.end_ns
        if end_ns > latest_ns:
            return "far future"
        if end_ns + self.lateness_ns <= self.newest_ns:
            return "late"
        self.arrived_ns = max(self.arrived_ns, end_ns)
        return ""

    def _place(self, sample: Sample) -> None:
        """Put a sample in its place and cut the windows that it settles; counts one that is dropped."""
        if sample.t_ns in self._stamps:
            self.drops["duplicate"] += 1
            return
        self._stamps.append(sample.t_ns)
        reason = "fault"
        with self._faults.guard(self._stream.sensor):
            # In a hole, the ticks that would not have waited for this sample do not see it.
            self._cut_until(sample.t_ns - self.lateness_ns)
            # Before it is added: time goes on with a sample that cannot be.
            self.newest_ns = max(self.newest_ns, sample.end_ns)
            reason = self._buffer.add(sample)
            self._cut_until(self._buffer.settled_ns)
            self._buffer.forget(self._next_index * self._hop_ns)
        if reason:
            self.drops[reason] += 1
        self._note("place", failed=reason == "fault")

    def _cut_until(self, t_ns: int) -> None:
        last_index = t_ns // self._hop_ns
        if last_index < self._next_index:
            return
        for index in range(max(self._next_index, last_index - HELD + 1), last_index + 1):
            self._windows[index] = self._cut(index)
            if len(self._windows) > HELD:
                del self._windows[next(iter(self._windows))]
        self._next_index = last_index + 1

    def _cut(self, index: int) -> Window:
        window = self._missing("fault")
        with self._faults.guard(self._stream.sensor):
            window = self._buffer.cut(index * self._hop_ns)
        self._note("cut", failed=window.missing == "fault")
        return window

    def _missing(self, reason: str) -> Window:
        return Window(self._stream.sensor, self._stream.modality, None, 0.0, max(0, self.newest_ns), reason)

    def _note(self, what: str, *, failed: bool) -> None:
        """Count faults in a row, and begin anew after too many."""
        self._in_a_row[what] = self._in_a_row[what] + 1 if failed else 0
        if self._in_a_row[what] >= FAULTS_IN_A_ROW:
            self._in_a_row[what] = 0
            self._buffer = self._empty_buffer()

    def _empty_buffer(self) -> ImageBuffer | RowBuffer:
        stream = self._stream
        return ImageBuffer(stream, self._hop_ns) if image_like(stream.modality) else RowBuffer(stream)


class Windower:
    """Takes samples of all streams in any interleaving; gives ticks in order.

    To be used by one thread, but for `drops`.
    """

    def __init__(self, streams: Streams, hop_ns: int, start_ns: int, faults: Faults | None = None) -> None:
        """The first tick is the first multiple of `hop_ns` after `start_ns`. `faults` counts by sensor."""
        self._hop_ns = hop_ns
        self._start_ns = start_ns
        self._index = start_ns // hop_ns + 1
        self._lanes = {name: _Lane(stream, hop_ns, self._index, faults or Faults()) for name, stream in streams.items()}

    def push(self, sensor: str, sample: Sample, now_ns: int | None = None) -> None:
        """Take a sample.

        Live, and in replay by the log's time, `now_ns` is the clock's time when the sample came: one stamped more
        than a second ahead of it is dropped.
        """
        latest_ns = self.newest_ns + LONGEST_HOLE_NS if now_ns is None else now_ns + round(FAR_FUTURE_S * 1e9)
        self._lanes[sensor].push(sample, latest_ns)

    def advance(self, now_ns: int) -> list[Tick]:
        """Return the ticks that are settled by now, in order."""
        ticks: list[Tick] = []
        while len(ticks) < TICKS_AT_ONCE and all(lane.ready(self._index, now_ns) for lane in self._lanes.values()):
            windows = {name: lane.take(self._index) for name, lane in self._lanes.items()}
            ticks.append(Tick(self._index, self._index * self._hop_ns, windows, now_ns))
            self._index += 1
        return ticks

    def due_ns(self) -> int:
        """When the next tick is settled if no more samples come."""
        return max(lane.due_ns(self._index) for lane in self._lanes.values())

    def finish(self) -> list[Tick]:
        """Return what is left at the end of a recording: the ticks up to the newest sample of any stream."""
        end_ns = max([self._start_ns, *(lane.arrived_ns for lane in self._lanes.values())])
        ticks = []
        while self._index * self._hop_ns <= end_ns:
            windows = {name: lane.take(self._index) for name, lane in self._lanes.items()}
            ticks.append(Tick(self._index, self._index * self._hop_ns, windows, end_ns))
            self._index += 1
        return ticks

    def exclude(self, sensor: str, reason: str) -> None:
        """Wait for a sensor no longer; its missing windows are missing for this reason ("lost", "ended")."""
        self._lanes[sensor].excluded = reason

    def include(self, sensor: str) -> None:
        """Wait for a sensor again."""
        self._lanes[sensor].excluded = ""

    def drops(self) -> dict[str, dict[str, int]]:
        """Samples that were dropped here, by sensor and reason."""
        return {name: dict(lane.drops) for name, lane in self._lanes.items()}

    @property
    def newest_ns(self) -> int:
        """The time up to which any stream is known, wrong stamps left out: the clock of a recording."""
        return max([self._start_ns, *(lane.newest_ns for lane in self._lanes.values())])
