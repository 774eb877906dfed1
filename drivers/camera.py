"""Colour cameras: a V4L2 device, RTSP, HTTP Motion JPEG, or a video file, as RGB images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from drivers.driver import BadData, Clock, DeviceNotFound, Disconnected, Driver, Modality, Pace, Sample, StreamFacts
from drivers.frame_thread import FrameThread
from drivers.http_access import without_password
from drivers.http_camera import HttpCamera, open_http_camera
from drivers.image_file import read_jpeg
from drivers.opencv import import_cv2, network_options, video_capture
from drivers.option_checks import latency_ns, require, require_positive
from drivers.pacing import late_ns, wait_until_due
from drivers.picture_size import PictureSize
from drivers.v4l2 import V4l2Device, check_rate, check_size
from drivers.video_file import VideoFile

NETWORK_TIMEOUT_S = 3.0
"""For connecting, and for a read; FFmpeg takes up to twice as long to notice. A rate that is lower allows more."""

SNAPSHOT_HZ = 5.0
"""Questions a second to a camera that answers with one picture at a time, unless `rate_hz` is given."""


@dataclass(frozen=True, slots=True)
class CameraOptions:
    """A colour camera.

    Size, rate and pixel format are asked of a device and compared with what it gives; of a file the size and rate,
    of a network stream the size. What is left out is taken as it comes; the size of a network stream is then that of
    its first picture, and one of another size is bad data. An http address that answers with one picture is asked again
    and again, `rate_hz` times a second.
    """

    source: int | str = 0
    """Index of a device, /dev/video0, a video file, rtsp://..., or http://... (user:password@ before the host)."""
    width: int | None = None
    """Size in pixels; None takes the device's own."""
    height: int | None = None
    """Size in pixels; None takes the device's own."""
    rate_hz: float | None = None
    """Images per second; None takes the device's own. A bare stream (raw H.264, Motion JPEG) does not tell it."""
    pixel_format: str | None = None
    """Of a device: its four-character code, as MJPG or YUYV; many USB cameras reach their full rate only with MJPG."""
    latency_ms: float = 0.0
    """Milliseconds from the exposure to the time stamp; subtracted from it."""
    pace: Pace = "real"
    """Pace of a file."""
    loop: bool = True
    """Of a file: begin again at its end."""


class Camera(Driver):
    """Yields vision samples, uint8 [H, W, 3] RGB.

    Time stamps: a V4L2 device's own (where it gives one), the arrival of a network frame, the frame time of a file
    counted from the start of the run. Of a live camera, `read` returns the newest frame and counts those it passed.
    """

    Options: ClassVar[type[Any]] = CameraOptions
    modality: ClassVar[Modality] = "vision"

    @classmethod
    def stream(cls, options: CameraOptions) -> StreamFacts:
        """Its rate and the size of its pictures."""
        return StreamFacts(
            cls.modality,
            rate_hz=options.rate_hz,
            width=options.width,
            height=options.height,
            latency_s=options.latency_ms / 1e3,
        )

    def __init__(self, options: CameraOptions, clock: Clock) -> None:
        source = options.source
        require(source != "" and (isinstance(source, str) or source >= 0), "source", source, "an index, path or URL")
        require_positive("width", options.width)
        require_positive("height", options.height)
        require_positive("rate_hz", options.rate_hz)
        code = options.pixel_format
        require(code is None or (1 <= len(code) <= 4 and code.isascii()), "pixel_format", code, "four letters")
        self._options = options
        self._clock = clock
        self._latency_ns = latency_ns(options.latency_ms)
        self._source = f"/dev/video{source}" if isinstance(source, int) else source
        self._name = without_password(self._source)
        self._live: FrameThread | None = None
        self._file: VideoFile | None = None
        self._due: Sample | None = None

    def connect(self) -> None:
        """Open the source; raises DeviceNotFound, DeviceBusy, FormatMismatch or BadOption."""
        self.close()
        if self._source.startswith("/dev/"):
            self._live = self._open_device()
        elif "://" in self._source:
            self._live = self._open_network()
        else:
            self._file = self._open_file()

    def read(self, timeout_s: float) -> Sample:
        """Return the newest image of a live camera, or the next one of a file when it is due."""
        if self._live is not None:
            return self._live.read(timeout_s)
        if self._file is None:
            raise Disconnected(f"{self._name}: not connected")
        if self._due is None:
            t_ns, image = self._file.read()
            self._due = self._sample(self._clock.start_ns + t_ns, to_rgb(image))
        wait_until_due(self._clock, self._options.pace, self._due.t_ns, timeout_s, self._name)
        sample, self._due = self._due, None
        return sample

    def close(self) -> None:
        """Let go of the source."""
        if self._live is not None:
            self._live.close()
        if self._file is not None:
            self._file.release()
        self._live = self._file = self._due = None

    def _open_device(self) -> FrameThread:
        asked = self._options
        device = V4l2Device(
            self._source,
            pixel_format=asked.pixel_format,
            width=asked.width,
            height=asked.height,
            rate_hz=asked.rate_hz,
            raw=False,
        )

        def grab() -> Sample:
            t_ns, image = device.grab(self._clock)
            return self._sample(t_ns, to_rgb(image))

        return FrameThread(self._name, grab, device.release)

    def _open_network(self) -> FrameThread:
        cv2 = import_cv2()
        size = PictureSize(self._options.width, self._options.height)
        timeout_s = max(NETWORK_TIMEOUT_S, 2 / (self._options.rate_hz or math.inf))
        if self._source.startswith(("http://", "https://")):
            stream = open_http_camera(self._source, timeout_s, 1 / (self._options.rate_hz or SNAPSHOT_HZ))
            if stream is not None:
                return FrameThread(self._name, lambda: self._grab_jpeg(stream, size), stream.release)
        limit_ms = round(timeout_s * 1000)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit_ms]
        with network_options():
            capture = video_capture(self._source, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            capture.release()
            raise DeviceNotFound(f"{self._name}: no camera answers, or not with video; check the address")
        return FrameThread(self._name, lambda: self._grab_stream(capture, size), capture.release)

    def _open_file(self) -> VideoFile:
        asked = self._options
        video = VideoFile(self._source, asked.loop, asked.rate_hz)
        try:
            check_size(self._name, (asked.width, asked.height), video.size)
            if asked.rate_hz is not None:
                check_rate(self._name, asked.rate_hz, video.rate_hz)
            if late := late_ns(self._clock, asked.pace):
                video.skip(late)
        except Exception:
            video.release()
            raise
        return video

    def _grab_stream(self, capture: Any, size: PictureSize) -> Sample:
        grabbed, image = capture.read()
        if not grabbed:
            raise Disconnected(f"{self._name}: the stream ended or broke off")
        t_ns = self._clock.now_ns()
        return self._network_sample(t_ns, to_rgb(image), size)

    def _grab_jpeg(self, stream: HttpCamera, size: PictureSize) -> Sample:
        try:
            picture = stream.receive()
            t_ns = self._clock.now_ns()
            rgb = read_jpeg(picture)
        except BadData as error:
            raise BadData(f"{self._name}: {error}") from None
        return self._network_sample(t_ns, rgb, size)

    def _network_sample(self, t_ns: int, rgb: NDArray[np.uint8], size: PictureSize) -> Sample:
        size.check(self._name, rgb.shape[1], rgb.shape[0])
        return self._sample(t_ns, rgb)

    def _sample(self, t_ns: int, rgb: NDArray[np.uint8]) -> Sample:
        return Sample(t_ns - self._latency_ns, rgb)


def to_rgb(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn OpenCV's order of colours into ours."""
    cv2 = import_cv2()
    rgb: NDArray[np.uint8] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return rgb
