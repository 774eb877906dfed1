"""Video4Linux devices through OpenCV: open one, ask for a format, read back what it gives."""

from __future__ import annotations

import time
from typing import Any

from drivers.device_file import check_device_file, holder
from drivers.driver import Clock, DeviceBusy, Disconnected, DriverError, FormatMismatch
from drivers.opencv import import_cv2, video_capture

RATE_TOLERANCE = 0.02
"""30 frames a second is 29.97 in much of the world."""

MAX_STAMP_AGE_NS = 2_000_000_000


class V4l2Device:
    """An open capture device; `grab` blocks until the next frame."""

    def __init__(
        self,
        path: str,
        *,
        pixel_format: str | None,
        width: int | None,
        height: int | None,
        rate_hz: float | None,
        raw: bool,
    ) -> None:
        """Open `path` (/dev/video0) and ask for what is not None; `raw` leaves the pixels as the device sends them.

        Raises DeviceNotFound, DeviceBusy, FormatMismatch, and DriverError for another kind of device.
        """
        check_device_file(path, group="video", look="v4l2-ctl --list-devices")
        cv2 = import_cv2()
        self.path = path
        self._capture = video_capture(path, cv2.CAP_V4L2)
        self._stamp = cv2.CAP_PROP_POS_MSEC
        if not self._capture.isOpened():
            raise self._busy() or DriverError(f"{path}: not a video capture device; see: v4l2-ctl --list-devices")
        try:
            if raw:
                self._capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
            if pixel_format is not None:
                code = cv2.VideoWriter.fourcc(*pixel_format.ljust(4))
                self._ask(cv2.CAP_PROP_FOURCC, code)
                got = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("ascii", "replace")
                if got != pixel_format.ljust(4):
                    raise FormatMismatch(path, "pixel_format", repr(pixel_format), repr(got))
            self._ask(cv2.CAP_PROP_FRAME_WIDTH, width)
            self._ask(cv2.CAP_PROP_FRAME_HEIGHT, height)
            self._ask(cv2.CAP_PROP_FPS, rate_hz)
            self.size = (
                int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
                int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            )
            check_size(path, (width, height), self.size)
            check_rate(path, rate_hz, self._capture.get(cv2.CAP_PROP_FPS))
        except FormatMismatch:
            self.release()
            raise

    def grab(self, clock: Clock) -> tuple[int, Any]:
        """Return (`t_ns`, the frame as OpenCV gives it). Raises Disconnected or DeviceBusy."""
        grabbed, frame = self._capture.read()
        if not grabbed:
            raise self._busy() or Disconnected(f"{self.path}: no frame; the camera was unplugged or stopped sending")
        # the kernel stamps buffers with CLOCK_MONOTONIC, so their age is measured on that clock
        age_ns = stamp_age_ns(self._capture.get(self._stamp), time.monotonic_ns())
        return clock.now_ns() - age_ns, frame

    def release(self) -> None:
        """Close the device."""
        self._capture.release()

    def _ask(self, key: int, value: float | None) -> None:
        if value is not None:
            self._capture.set(key, value)

    def _busy(self) -> DeviceBusy | None:
        process = holder(self.path)
        return DeviceBusy(f"{self.path}: {process} is using it; stop that program first") if process else None


def stamp_age_ns(stamp_ms: float, monotonic_ns: int) -> int:
    """Return the age of a buffer's stamp; 0 when the stamp cannot be of this clock (drivers may send none)."""
    age_ns = monotonic_ns - round(stamp_ms * 1e6)
    return age_ns if 0 <= age_ns < MAX_STAMP_AGE_NS else 0


def check_size(device: str, wanted: tuple[int | None, int | None], got: tuple[int, int]) -> None:
    """Raise FormatMismatch unless (width, height) is as wanted; None takes any."""
    for what, want, have in zip(("width", "height"), wanted, got, strict=True):
        if want is not None and want != have:
            raise FormatMismatch(device, what, want, have)


def check_rate(device: str, wanted_hz: float | None, got_hz: float) -> None:
    """Raise FormatMismatch unless the rate is as wanted within RATE_TOLERANCE; None takes any."""
    if wanted_hz is not None and abs(got_hz - wanted_hz) > RATE_TOLERANCE * wanted_hz:
        raise FormatMismatch(device, "rate_hz", f"{wanted_hz:g}", f"{got_hz:g}")
