"""The frames of one stream that windows still need."""

from __future__ import annotations

from bisect import insort

import numpy as np

from agent.streams import Stream, silence_s
from agent.windows.validity import fault
from agent.windows.window import Window
from drivers.driver import Sample


class ImageBuffer:
    """Orders frames by time and keeps only those that some tick to come will use.

    A tick at t uses the newest frame at or before t and, for vision, the one nearest to t - window. Ticks lie on
    multiples of the hop, so of a fast camera almost every frame can go at once.
    """

    def __init__(self, stream: Stream, hop_ns: int) -> None:
        self._stream = stream
        self._hop_ns = hop_ns
        self._window_ns = round(stream.window_s * 1e9)
        self._silence_ns = round(silence_s(stream) * 1e9)
        self._frames: list[Sample] = []
        self.settled_ns = 0
        """Frames up to this time are here."""

    def add(self, sample: Sample) -> str:
        """Put a frame in its place; returns "", for this buffer drops none."""
        insort(self._frames, sample, key=_time)
        self.settled_ns = max(self.settled_ns, sample.t_ns)
        return ""

    def forget(self, next_ns: int) -> None:
        """Let go of every frame that no tick from `next_ns` on will use."""
        frames, kept = self._frames, []
        for index, frame in enumerate(frames):
            before = frames[index - 1].t_ns if index > 0 else None
            after = frames[index + 1].t_ns if index + 1 < len(frames) else None
            if after is None or self._needed(before, frame.t_ns, after, next_ns):
                kept.append(frame)
        self._frames = kept

    def cut(self, t_ns: int) -> Window:
        """The window of the tick at `t_ns`."""
        past = [frame for frame in self._frames if frame.t_ns <= t_ns]
        if not past:
            return self._window(None, 0, "no samples yet")
        newest = past[-1]
        if t_ns - newest.t_ns > self._silence_ns:
            return self._window(None, newest.t_ns, "stale")
        reason = fault(newest.data, self._stream.modality)
        if reason:
            return self._window(None, newest.t_ns, reason)
        if self._stream.modality != "vision":
            return self._window(newest, newest.t_ns, "")
        wanted_ns = t_ns - self._window_ns
        older = min(past, key=lambda frame: abs(frame.t_ns - wanted_ns))
        usable = older.data.shape == newest.data.shape and wanted_ns - older.t_ns <= self._silence_ns
        pair = np.stack([older.data if usable else newest.data, newest.data])
        apart_ns = newest.t_ns - older.t_ns if usable else 0
        return self._window(Sample(newest.t_ns, pair), newest.t_ns, "", apart_ns)

    def _window(self, frame: Sample | None, newest_ns: int, missing: str, apart_ns: int = 0) -> Window:
        data = None if frame is None else frame.data
        return Window(self._stream.sensor, self._stream.modality, data, 0.0, newest_ns, missing, apart_ns=apart_ns)

    def _needed(self, before_ns: int | None, t_ns: int, after_ns: int, next_ns: int) -> bool:
        """Return whether a tick at or after `next_ns` uses the frame at `t_ns`, given the frames around it."""
        if self._tick_from(max(t_ns, next_ns)) < after_ns:
            return True
        if self._stream.modality != "vision":
            return False
        nearer_ns = next_ns if before_ns is None else max(next_ns, (before_ns + t_ns) // 2 + self._window_ns)
        return self._tick_from(nearer_ns) - self._window_ns <= (t_ns + after_ns + 1) // 2

    def _tick_from(self, t_ns: int) -> int:
        return -(-t_ns // self._hop_ns) * self._hop_ns


def _time(sample: Sample) -> int:
    return sample.t_ns
