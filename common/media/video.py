"""Video files: the one reader, picture by picture with its time, of whatever FFmpeg reads through OpenCV.

Times are the pictures' own and count from the beginning of the file, where its sound begins too: a picture track that
starts at 0.7 s has its first picture there. What OpenCV 5 tells of a file, and what is made of it:

- POS_MSEC counts from the track's first picture; PTS counts from the file's beginning, in periods of FPS, so that the
  start of a track is known to half a period. Transport and program streams have a running clock, whose zero says
  nothing: their beginning is the earliest time of a picture or of sound. A track that seems to start very late, as in
  fragments of a live stream, has such a clock too: its first picture is at 0.
- FPS is a guess where a container states none, as of a varying rate: it is compared with the times.
- FRAME_COUNT is an estimate, or missing: it is never needed. Files of which it is missing come from pipes, browsers and
  recorders that were killed.
- Seeking by number fails in many transport streams, and finds other pictures in a varying rate; the time of the picture
  that was found is right, though, so a seek is checked by it. In program streams that time is wrong too: they are read
  up to the place.
- Bare streams (H.264, Motion JPEG) hold no times at all; FFmpeg then assumes 25 pictures a second.
"""

from __future__ import annotations

import math
import os
from functools import cached_property
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from common.media import container
from common.media.fault import FilePath, MediaError, check_file
from common.media.opencv import can_name, import_cv2

_PROBED: Final = 64
"""Packets whose times are compared with the stated rate."""
_TOLERANCE: Final = 0.1
"""Share by which the rate of the first pictures may differ from the stated one."""
_LATEST_START_S: Final = 10.0
"""A track that starts later has the time of a clock that ran before the recording began."""
_SEEKS: Final = 4
_LEAD_S: Final = 1.0
"""A seek goes this much before the place: in transport streams the first times after it may be off by a field."""
_NEAR_NS: Final = 1_000_000
"""Containers round times to a millisecond."""


class VideoReader:
    """An open video, in front of its first picture. Every fault is a MediaError.

    `grab` goes to the next picture and tells its time, `picture` decodes it; `read` is both.
    """

    def __init__(self, path: FilePath, rate_hz: float | None = None) -> None:
        """Open a video; `rate_hz` is the rate of one that holds no times."""
        check_file(path)
        self._path = os.fspath(path)
        if not can_name(self._path):
            raise MediaError(f"{self._path!a}: a name that is not UTF-8, which OpenCV cannot open; rename the file")
        with open(path, "rb") as file:
            self._container = container.look(file.read(container.LOOKED_AT_BYTES))
        if self._container.is_text:
            raise MediaError(
                f"{path}: not a video but text, perhaps a list of other files, which are not read; give a video"
            )
        self._cv2 = import_cv2()
        self._capture = self._opened()
        cv2 = self._cv2
        self.stated_rate_hz = self._number(cv2.CAP_PROP_FPS)
        """Pictures a second as FFmpeg tells or guesses them; 0 if it cannot."""
        self.stated_pictures = max(0, int(self._number(cv2.CAP_PROP_FRAME_COUNT)))
        """Pictures as the file's head tells, or as length and rate suggest; 0 if it tells nothing."""
        self.size = int(self._number(cv2.CAP_PROP_FRAME_WIDTH)), int(self._number(cv2.CAP_PROP_FRAME_HEIGHT))
        """Width and height in pixels."""
        probed = self._packet_times_ms(_PROBED)
        self.has_times = not self._container.is_bare and (len(probed) < 2 or probed[0] != probed[-1])
        """Whether the file holds the times of its pictures; else they are evenly spaced, at `rate_hz`."""
        usual_hz = self.stated_rate_hz if self.has_times else rate_hz or self.stated_rate_hz
        self._varies = self.has_times and not _agree(_rate_of(probed), self.stated_rate_hz)
        if self._varies:
            usual_hz = _rate_of(probed) or usual_hz
        if not usual_hz > 0:
            self.close()
            raise MediaError(f"{path}: not a video that FFmpeg can read, or it has no frame rate; convert it to MP4")
        self._can_seek = self.has_times and self.stated_pictures > 0 and not self._container.is_program_stream
        self._usual_hz = usual_hz
        self._period_ns = round(1e9 / self._usual_hz)
        self._start_ns = 0
        self._next_ns = 0
        self._grabbed_ns: int | None = None
        self._grabbed_first()

    @cached_property
    def rate_hz(self) -> float:
        """Pictures a second: as stated where the times agree, else the mean of all, which reads the file once."""
        return (_rate_of(self._packet_times_ms()) if self._varies else 0.0) or self._usual_hz

    @cached_property
    def length_ns(self) -> int:
        """End of the last picture, counted from the beginning of the file; decodes it once."""
        with VideoReader(self._path, self._usual_hz) as other:
            while other.grab() is not None:
                pass
            return other._next_ns

    @property
    def read_ns(self) -> int:
        """End of the picture that was grabbed last."""
        return self._next_ns

    def grab(self) -> int | None:
        """Go to the next picture; return its time in nanoseconds from the beginning of the file, None at the end."""
        if self._grabbed_ns is not None:
            t_ns, self._grabbed_ns = self._grabbed_ns, None
            return t_ns
        if not self._capture.grab():
            return None
        return self._timed()

    def picture(self) -> NDArray[np.uint8]:
        """Decode the picture that `grab` went to, uint8 [H, W, 3] BGR."""
        taken, image = self._capture.retrieve()
        if not taken:
            raise MediaError(
                f"{self._path}: the picture at {self._next_ns / 1e9:.3f} s cannot be decoded; write it again"
            )
        picture: NDArray[np.uint8] = image
        return picture

    def read(self) -> tuple[int, NDArray[np.uint8]] | None:
        """Return the next picture's time and pixels, uint8 [H, W, 3] BGR; None at the end."""
        t_ns = self.grab()
        return None if t_ns is None else (t_ns, self.picture())

    def rewind(self) -> None:
        """Go back in front of the first picture."""
        self._capture.release()
        self._capture = self._opened()
        self._grabbed_first()

    def seek(self, t_ns: int) -> bool:
        """Go in front of the first picture at or after a time; return whether there is one."""
        if self._sought(t_ns - _NEAR_NS):
            return True
        self.rewind()  # streams that cannot be sought in are read up to the place
        return self._grabbed_up_to(t_ns - _NEAR_NS)

    def close(self) -> None:
        """Close the file; may be called again."""
        self._capture.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self, *settings: int) -> Any:
        capture = self._cv2.VideoCapture(self._path, self._cv2.CAP_FFMPEG, settings)
        if not capture.isOpened():
            capture.release()
            raise MediaError(f"{self._path}: not a video that FFmpeg can read; convert it to MP4")
        return capture

    def _number(self, key: int) -> float:
        value = float(self._capture.get(key))
        return value if math.isfinite(value) and value > 0 else 0.0

    def _packet_times_ms(self, limit: int | None = None) -> list[float]:
        """Times of the first pictures, or of all, in order, without decoding them."""
        try:
            capture = self._opened(self._cv2.CAP_PROP_FORMAT, -1)
        except MediaError:
            return []
        times: list[float] = []
        while (limit is None or len(times) < limit) and capture.grab():
            times.append(capture.get(self._cv2.CAP_PROP_POS_MSEC))
        capture.release()
        return sorted(times)

    def _grabbed_first(self) -> None:
        """Grab the first picture: it tells where the track starts."""
        self._start_ns = self._next_ns = 0
        self._grabbed_ns = None
        if not self._capture.grab():
            self.close()
            raise MediaError(f"{self._path}: no frame of it can be decoded; write it again")
        start_s = self._track_start_s() if self.has_times else 0.0
        self._start_ns = round(start_s * 1e9) if 0 < start_s <= _LATEST_START_S else 0
        self._grabbed_ns = self._timed()

    def _track_start_s(self) -> float:
        """Time of the first picture, just grabbed, from the beginning of the file."""
        at_s = self._number(self._cv2.CAP_PROP_PTS) / (self.stated_rate_hz or math.inf)
        if not self._container.has_clock:
            return at_s - self._number(self._cv2.CAP_PROP_POS_MSEC) / 1000
        least_s = at_s - 0.51 / (self.stated_rate_hz or math.inf)  # it was rounded to a period
        exact_s = min((time_s for time_s in self._container.picture_times_s if time_s >= least_s), default=0.0)
        return exact_s - self._container.first_time_s

    def _timed(self) -> int:
        """Time of the picture just grabbed: its own, or, where that does not rise, one period after the last."""
        own_ns = self._own_ns()
        t_ns = own_ns if own_ns is not None and own_ns > self._next_ns - self._period_ns else self._next_ns
        self._next_ns = t_ns + self._period_ns
        return t_ns

    def _own_ns(self) -> int | None:
        if not self.has_times:
            return None
        return self._start_ns + round(self._number(self._cv2.CAP_PROP_POS_MSEC) * 1e6)

    def _sought(self, t_ns: int) -> bool:
        """Seek by number, as OpenCV does, to a picture that is not later than wanted, and read on from there."""
        frame = int(((t_ns - self._start_ns) / 1e9 - _LEAD_S) * self.stated_rate_hz)
        if not self._can_seek:
            return False
        for _ in range(_SEEKS):
            if frame <= 0:
                return False
            self._capture.set(self._cv2.CAP_PROP_POS_FRAMES, frame)
            if not self._capture.grab():
                return False
            own_ns = self._own_ns()
            assert own_ns is not None
            if own_ns <= t_ns:
                self._next_ns, self._grabbed_ns = own_ns + self._period_ns, own_ns
                return self._grabbed_up_to(t_ns)
            frame = int(frame * (t_ns - self._start_ns) / (own_ns - self._start_ns)) - 1
        return False

    def _grabbed_up_to(self, t_ns: int) -> bool:
        while (found_ns := self.grab()) is not None:
            if found_ns >= t_ns:
                self._grabbed_ns = found_ns
                return True
        return False


def _rate_of(times_ms: list[float]) -> float:
    """Mean rate in Hz of sorted times; 0 if that cannot be told."""
    span_ms = times_ms[-1] - times_ms[0] if times_ms else 0.0
    return (len(times_ms) - 1) * 1000 / span_ms if span_ms > 0 else 0.0


def _agree(measured_hz: float, stated_hz: float) -> bool:
    """Return whether a stated rate is that of the pictures, as far as that can be told."""
    return not measured_hz or (stated_hz > 0 and abs(measured_hz / stated_hz - 1) < _TOLERANCE)
