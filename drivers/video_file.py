"""A video file as a stream of frames, by their own frame times."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from drivers.driver import BadOption, DeviceNotFound, EndOfStream
from drivers.opencv import import_cv2, video_capture


class VideoFile:
    """An open video; frames come in order, with the time since the beginning over all laps."""

    def __init__(self, path: str, loop: bool) -> None:
        """Open the file; raises DeviceNotFound or BadOption."""
        if not os.path.exists(path):
            raise DeviceNotFound(f"{path}: no such file")
        self._cv2 = import_cv2()
        self._path = path
        self._loop = loop
        self._capture = video_capture(path, self._cv2.CAP_FFMPEG)
        self.rate_hz = float(self._capture.get(self._cv2.CAP_PROP_FPS))
        self.size = (
            int(self._capture.get(self._cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(self._cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        self._length = int(self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT))
        if not (self._capture.isOpened() and self.rate_hz > 0 and self._length > 0):
            self._capture.release()
            raise BadOption(f"source is {path!r}: not a video that FFmpeg can read")
        self._lap_ns = 0
        self._next_ns = 0

    def skip(self, frames: int) -> None:
        """Go to the frame of that number, counted over all laps."""
        laps, frame = divmod(frames, self._length)
        if laps and not self._loop:
            raise EndOfStream(f"{self._path}: the end of the video")
        self._capture.set(self._cv2.CAP_PROP_POS_FRAMES, frame)
        self._lap_ns = round(laps * self._length * 1e9 / self.rate_hz)
        self._next_ns = self._lap_ns + round(frame * 1e9 / self.rate_hz)

    def read(self) -> tuple[int, NDArray[np.uint8]]:
        """Return (nanoseconds since the beginning, uint8 [H, W, 3] BGR); raises EndOfStream."""
        grabbed, image = self._capture.read()
        if not grabbed:
            if not self._loop:
                raise EndOfStream(f"{self._path}: the end of the video")
            self._lap_ns = self._next_ns
            self._capture.set(self._cv2.CAP_PROP_POS_FRAMES, 0)
            grabbed, image = self._capture.read()
            if not grabbed:
                raise BadOption(f"source is {self._path!r}: no frame of it can be decoded")
        # a frame's own time serves videos of a varying rate; where the file gives none, frames are evenly spaced
        own_ns = self._lap_ns + round(self._capture.get(self._cv2.CAP_PROP_POS_MSEC) * 1e6)
        t_ns = own_ns if own_ns > self._lap_ns else self._next_ns
        self._next_ns = t_ns + round(1e9 / self.rate_hz)
        return t_ns, image

    def release(self) -> None:
        """Close the file."""
        self._capture.release()
