"""Colour pictures as a video: H.264 by ffmpeg where that is installed, else MPEG-4 by OpenCV.

Every picture is in the video once, at the nominal rate: picture k is line k of the table of times beside it. A player
therefore runs past what is missing; only the table tells when pictures were captured. Repeating pictures to keep the
time would make up data, and leave nobody able to tell which.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.exchange.description import NAME
from agent.exchange.tables import PICTURE_TIMES, TimesTable, read_times, times_beside
from agent.exchange.track import Media, Track
from agent.log.format import LogError, LoggedSensor
from common import private_files
from common.media.fault import MediaError
from common.media.opencv import can_name
from common.media.video import VideoReader
from drivers.driver import Sample
from drivers.opencv import import_cv2

SUFFIX = ".mp4"
CRF = 18
"""x264's constant quality; at 18 the loss is hard to see."""


class Encoder(Protocol):
    """Takes pictures of one size. Raises LogError."""

    def write(self, picture: NDArray[np.uint8]) -> None:
        """Append RGB, uint8 [H, W, 3], H and W even."""
        ...

    def finish(self) -> None:
        """Make the file whole."""
        ...

    def close(self) -> None:
        """Close the file and end ffmpeg; may be called again."""
        ...


class FfmpegEncoder:
    """H.264 through a pipe to ffmpeg."""

    def __init__(self, path: Path, rate_hz: float, width: int, height: int) -> None:
        """Start an ffmpeg that encodes to a file."""
        self._path = path
        self._said = TemporaryFile()  # noqa: SIM115  `close` closes it
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{rate_hz:g}", "-i", "pipe:0"]
        coding = ["-c:v", "libx264", "-preset", "veryfast", "-crf", str(CRF), "-pix_fmt", "yuv420p"]
        # The matrix that ffmpeg uses by default, stated for players, which would guess it by the size.
        colours = ["-colorspace", "smpte170m"]
        command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", *raw, *coding, *colours, f"file:{path}"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said, bufsize=0
        )

    def write(self, picture: NDArray[np.uint8]) -> None:
        """Append a picture, uint8 [H, W, 3] RGB."""
        assert self._process.stdin is not None
        view = memoryview(picture.tobytes())
        try:
            while view:
                view = view[self._process.stdin.write(view) :]
        except BrokenPipeError:
            raise self._fault() from None

    def finish(self) -> None:
        """Let ffmpeg write the pictures that it holds back."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait():
            raise self._fault()

    def close(self) -> None:
        """End ffmpeg, if it still runs."""
        assert self._process.stdin is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._said.close()

    def _fault(self) -> LogError:
        self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        why = next((line for line in lines if line.strip()), f"exit status {self._process.returncode}")
        return LogError(f"{self._path.name}: ffmpeg cannot write the video: {why}")


def _has_x264() -> bool:
    """Return whether there is an ffmpeg that writes H.264; builds without it exist."""
    if shutil.which("ffmpeg") is None:
        return False
    said = subprocess.run(["ffmpeg", "-hide_banner", "-encoders"], capture_output=True, check=False).stdout
    return b" libx264 " in said


class OpenCvEncoder:
    """MPEG-4 part 2, the one codec that every build of OpenCV writes quickly into MP4."""

    def __init__(self, path: Path, rate_hz: float, width: int, height: int) -> None:
        """Begin the file. Raises LogError."""
        if not can_name(str(path)):
            raise LogError(f"{str(path)!a}: a name that is not UTF-8, which OpenCV cannot write to; install ffmpeg")
        self._cv2 = import_cv2()
        self._path = path
        self._written = 0
        code = self._cv2.VideoWriter_fourcc(*"mp4v")
        self._writer = self._cv2.VideoWriter(str(path), self._cv2.CAP_FFMPEG, code, rate_hz, (width, height))
        if not self._writer.isOpened():
            raise LogError(f"{path.name}: OpenCV cannot write {width}x{height} at {rate_hz:g} Hz; install ffmpeg")

    def write(self, picture: NDArray[np.uint8]) -> None:
        """Append a picture, uint8 [H, W, 3] RGB."""
        self._writer.write(np.ascontiguousarray(picture[..., ::-1]))
        self._written += 1

    def finish(self) -> None:
        """Close the file and count its pictures, since OpenCV does not tell what it could not write."""
        self._writer.release()
        try:
            with VideoReader(self._path) as video:
                found = video.stated_pictures
        except MediaError:
            found = 0
        if found != self._written:
            raise LogError(f"{self._path.name}: holds {found} of {self._written} pictures; is the disk full?")

    def close(self) -> None:
        """Close the file, complete or not."""
        self._writer.release()


class VideoTrack(Track):
    """A camera's pictures, and the table of their times."""

    def __init__(self, folder: Path, name: str, sensor: LoggedSensor) -> None:
        """Begin the table; the video begins with the first picture, whose size it has."""
        super().__init__(folder / (name + SUFFIX))
        self._rate_hz = max(round(sensor.rate_hz, 2), 0.01)  # MPEG-4 counts time in at most 65535 steps a second
        self._times = TimesTable(times_beside(self.path), PICTURE_TIMES)
        self._encoder: Encoder | None = None
        self._size = (0, 0)
        self._passed = 0
        """Pictures that were left out since the last one in the video."""

    def _add(self, sample: Sample) -> None:
        height, width = sample.data.shape[:2]
        if self._encoder is None:
            self._size = width, height
            kind = FfmpegEncoder if _has_x264() else OpenCvEncoder
            private_files.create(self.path)
            self._encoder = kind(self.path, self._rate_hz, width + width % 2, height + height % 2)
        if (width, height) != self._size:
            self.faults[f"not of {self._size[0]}x{self._size[1]} pixels as the first"] += 1
            self._passed += 1 + sample.lost
            return
        # These codecs halve the resolution of colour, so that sizes must be even.
        even = np.pad(sample.data, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        self._encoder.write(even)
        self._times.add(self.count, sample.t_ns, sample.lost + self._passed)
        self.count, self._passed = self.count + 1, 0

    def finish(self) -> None:
        """Write what the codec holds back."""
        if self._encoder:
            self._encoder.finish()
        self._times.close()

    def close(self) -> None:
        """Close the video and the table, complete or not."""
        if self._encoder:
            self._encoder.close()
        with suppress(OSError):  # on a full disk the buffer fails again
            self._times.close()


class VideoMedia(Media):
    """A video that FFmpeg reads through OpenCV; its sound is not read."""

    def __init__(self, path: Path, rate_hz: float | None = None) -> None:
        """Look at it; `rate_hz` is the rate of one that holds no times."""
        super().__init__(path)
        self._rate_hz = rate_hz
        with self._opened() as video:
            if not video.has_times and rate_hz is None and not times_beside(path).exists():
                raise LogError(f"{path}: holds no times of its pictures; give rate_hz, pictures a second, in {NAME}")
            self.sensor = LoggedSensor("vision", round(video.rate_hz, 3))
            self.options = {"width": video.size[0], "height": video.size[1]}
            self.length_s = video.stated_pictures / video.rate_hz

    def samples(self, begin_ns: int) -> Iterator[Sample]:
        """Pictures at the times of the table beside the video, or else at the video's own."""
        table = times_beside(self.path)
        with self._opened() as video:
            if not table.exists():
                yield from (Sample(begin_ns + t_ns, data) for t_ns, data in self._pictures(video))
                return
            first_ns = None
            pictures = self._pictures(video)
            for number, t_ns, lost in read_times(table, PICTURE_TIMES):
                _, data = next(pictures, (0, None))
                if data is None:
                    raise LogError(f"{table}: has a line {number}, but {self.path.name} has no such picture")
                first_ns = t_ns if first_ns is None else first_ns
                yield Sample(begin_ns + t_ns - first_ns, data, lost=lost)
            if next(pictures, None) is not None:
                raise LogError(f"{table}: has fewer lines than {self.path.name} has pictures")

    def _opened(self) -> VideoReader:
        import_cv2()
        try:
            return VideoReader(self.path, self._rate_hz)
        except MediaError as error:
            raise LogError(f"cannot be imported: {error}") from None

    def _pictures(self, video: VideoReader) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(nanoseconds since the beginning of the file, RGB) of each picture."""
        try:
            while (found := video.read()) is not None:
                yield found[0], np.ascontiguousarray(found[1][..., ::-1])
        except MediaError as error:
            raise LogError(str(error)) from None
