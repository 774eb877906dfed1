"""The last seconds of a stream of rows (audio, IMU) as one evenly spaced timeline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.streams import Stream, silence_s
from agent.windows.validity import fault
from agent.windows.window import Window
from common.window_lengths import IMU_MAX_GAP_S
from drivers.driver import Sample
from drivers.row_spacing import MOST_EXCESS
from drivers.row_timeline import RowTimeline

LARGEST_FILLED_SHARE = 0.2
"""Of an audio window."""
ROOM = 1 + MOST_EXCESS
"""Rows of a window, in those at the nominal rate, at most."""
STEP_SHARE, AUDIO_STEP_HZ = 1e-3, 40
"""Steps of the rate of windows: what prepares them for the model keeps a filter for each rate, and of sound it needs a
simple ratio to the model's. The oldest row is then off by half a step of the window's length: 2.5 ms.
"""


class RowBuffer:
    """Places blocks where a timeline counts them: by rows, which the clock moves only slowly, or by a real gap.

    Windows have the rate that the stamps say where it is not the nominal one.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._silence_ns = round(silence_s(stream) * 1e9)
        self._count = 0
        self._begin(1.0, 0)

    @property
    def settled_ns(self) -> int:
        """Rows up to this time are here; half a row of slack, because times of rows are rounded."""
        return self._timeline.end_ns + round(0.5e9 / self._timeline.measured_hz) if self._count else 0

    def add(self, sample: Sample) -> str:
        """Place a block; returns "" or why it was dropped."""
        rate_hz, columns = sample.rate_hz, sample.data.shape[1]
        if (rate_hz, columns) != (self._timeline.rate_hz, self._rows.shape[1]):
            self._begin(rate_hz, columns)
        gap = self._timeline.gap(sample.t_ns, len(sample.data), sample.lost)
        self._timeline.take(sample.t_ns, len(sample.data), gap)
        if gap < 0:
            return self._insert(self._count + gap, sample.data)
        self._append_blank(min(gap, self._longest))
        self._append(sample.data)
        return ""

    def forget(self, next_ns: int) -> None:
        """Let go of the rows that no tick from `next_ns` on will use."""
        ahead = round((self._timeline.end_ns - next_ns) * self._timeline.measured_hz / 1e9)
        keep = self._most + max(0, ahead) + 1
        excess = self._count - keep
        if excess > self._most:  # moved rarely, in bulk
            self._rows[:keep] = self._rows[excess : self._count]
            self._real[:keep] = self._real[excess : self._count]
            self._count = keep

    def cut(self, t_ns: int) -> Window:
        """The window of the tick at `t_ns`: the rows that end there."""
        end_ns, rate_hz = self._timeline.end_ns, self._rate_hz()
        length = round(self._stream.window_s * rate_hz)
        stop = self._count - round((end_ns - t_ns) * self._timeline.measured_hz / 1e9)
        start = stop - length
        first, last = max(0, start), min(self._count, stop)
        if last <= 0:
            return self._missing("no samples yet", 0)
        newest_ns = min(t_ns, end_ns)
        if t_ns - end_ns > self._silence_ns or first >= last:
            return self._missing("stale", newest_ns)
        real = np.zeros(length, np.bool_)
        real[first - start : last - start] = self._real[first:last]
        filled = 1.0 - float(real.mean())
        if self._too_much(real, filled):
            return self._missing("too short" if start < 0 else "gap", newest_ns)
        data = np.zeros((length, self._rows.shape[1]), np.float32)
        data[first - start : last - start] = self._rows[first:last]
        if filled and self._stream.modality == "imu":
            _interpolate(data, real)
        reason = fault(data, self._stream.modality)
        if reason:
            return self._missing(reason, newest_ns)
        return Window(self._stream.sensor, self._stream.modality, data, rate_hz, newest_ns, "", filled)

    def _rate_hz(self) -> float:
        """The rate of windows."""
        nominal_hz, measured_hz = self._timeline.rate_hz, self._timeline.measured_hz
        if measured_hz == nominal_hz:
            return nominal_hz
        step_hz = AUDIO_STEP_HZ if self._stream.modality == "audio" else STEP_SHARE * nominal_hz
        return step_hz * round(measured_hz / step_hz)

    def _begin(self, rate_hz: float, columns: int) -> None:
        """Forget everything; the rows to come have this rate and width."""
        self._most = round(ROOM * self._stream.window_s * rate_hz)
        self._longest = self._most + round(self._stream.max_lateness_s * rate_hz)
        self._rows: NDArray[np.float32] = np.zeros((0, columns), np.float32)
        self._real = np.zeros(0, np.bool_)
        self._count = 0
        self._timeline = RowTimeline(rate_hz)

    def _append(self, data: NDArray[np.float32]) -> None:
        stop = self._grow(len(data))
        self._rows[self._count : stop] = data
        self._real[self._count : stop] = True
        self._count = stop

    def _append_blank(self, rows: int) -> None:
        stop = self._grow(rows)
        self._rows[self._count : stop] = 0.0
        self._real[self._count : stop] = False
        self._count = stop

    def _grow(self, rows: int) -> int:
        """Make room for more rows; returns the count they lead to."""
        needed = self._count + rows
        if needed > len(self._rows):
            more = max(needed + needed // 4, 3 * self._most) - len(self._rows)
            self._rows = np.concatenate([self._rows, np.zeros((more, self._rows.shape[1]), np.float32)])
            self._real = np.concatenate([self._real, np.zeros(more, np.bool_)])
        return needed

    def _insert(self, start: int, data: NDArray[np.float32]) -> str:
        """Fill blanks with a block that comes out of order; where rows are already, they stay."""
        tolerance = int(self._timeline.tolerance(len(data)))
        near = np.arange(max(1, start - tolerance), min(self._count, start + tolerance + 1))
        edges = near[~self._real[near] & self._real[near - 1]]
        if edges.size and start + len(data) <= self._count:  # beyond the end, rows stand where the timeline counts them
            start = int(edges[np.abs(edges - start).argmin()])
        first = max(0, start)
        last = max(first, min(self._count, start + len(data)))  # a block may lie wholly before the first row
        blank = ~self._real[first:last]
        beyond = data[self._count - start :] if start + len(data) > self._count else data[:0]
        if not blank.any() and not len(beyond):
            return "duplicate" if last > first else "late"
        self._rows[first:last][blank] = data[first - start : last - start][blank]
        self._real[first:last] = True
        self._append(beyond)
        return ""

    def _too_much(self, real: NDArray[np.bool_], filled: float) -> bool:
        """Return whether too many rows are missing to make the rest up."""
        if self._stream.modality == "imu":
            return _longest_run(~real) > IMU_MAX_GAP_S * self._timeline.rate_hz
        return filled > LARGEST_FILLED_SHARE

    def _missing(self, reason: str, newest_ns: int) -> Window:
        return Window(self._stream.sensor, self._stream.modality, None, self._rate_hz(), newest_ns, reason)


def _longest_run(flags: NDArray[np.bool_]) -> int:
    """The length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _interpolate(data: NDArray[np.float32], real: NDArray[np.bool_]) -> None:
    """Draw straight lines over the rows that are not real, in place; at the ends the nearest row is held."""
    at, known = np.flatnonzero(~real), np.flatnonzero(real)
    for column in range(data.shape[1]):
        data[at, column] = np.interp(at, known, data[known, column])
