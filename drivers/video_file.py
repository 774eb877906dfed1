"""A video file as a camera: its pictures over one lap or many, and where to join it."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from common.media.fault import MediaError
from common.media.video import VideoReader
from drivers.driver import BadData, BadOption, DeviceNotFound, EndOfStream
from drivers.opencv import import_cv2


class VideoFile:
    """An open video; pictures come in order, with the time since the beginning of the file over all laps."""

    def __init__(self, path: str, loop: bool, rate_hz: float | None = None) -> None:
        """Open the file; `rate_hz` is that of one without times. Raises DeviceNotFound, BadOption, MissingLibrary."""
        if not os.path.exists(path):
            raise DeviceNotFound(f"{path}: no such file")
        import_cv2()
        try:
            self._reader = VideoReader(path, rate_hz)
        except MediaError as error:
            raise BadOption(f"source: {error}") from None
        if not self._reader.has_times and rate_hz is None:
            self.release()
            raise BadOption(f"source: {path}: holds no times of its pictures; give rate_hz, pictures a second")
        self._path = path
        self._loop = loop
        self._lap_ns = 0
        self.size = self._reader.size

    @property
    def rate_hz(self) -> float:
        """Pictures a second."""
        return self._reader.rate_hz

    def skip(self, t_ns: int) -> None:
        """Go to the first picture at or after a time, counted over all laps; raises EndOfStream."""
        try:
            if self._reader.seek(t_ns):
                return
            if not self._loop:
                raise EndOfStream(f"{self._path}: the end of the video")
            laps, left_ns = divmod(t_ns, self._reader.length_ns)
            self._lap_ns = laps * self._reader.length_ns
            if not self._reader.seek(left_ns):  # between the last picture and the end
                self._begin_again()
        except MediaError as error:
            raise BadOption(f"source: {error}") from None

    def read(self) -> tuple[int, NDArray[np.uint8]]:
        """Return (nanoseconds since the beginning, uint8 [H, W, 3] BGR); raises EndOfStream or BadData."""
        try:
            found = self._reader.read()
            if found is None:
                if not self._loop:
                    raise EndOfStream(f"{self._path}: the end of the video")
                self._begin_again()
                found = self._reader.read()
        except MediaError as error:
            raise BadData(str(error)) from None
        if found is None:
            raise BadData(f"{self._path}: no picture of it can be decoded again")
        return self._lap_ns + found[0], found[1]

    def release(self) -> None:
        """Close the file."""
        self._reader.close()

    def _begin_again(self) -> None:
        self._lap_ns += self._reader.read_ns
        self._reader.rewind()
