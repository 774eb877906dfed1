"""V4L2 devices that send 16 bits a pixel (FOURCC 'Z16 ' or 'Y16 '): depth and thermal cameras that are UVC devices."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.driver import BadData, Clock, Disconnected, Driver, Sample, StreamFacts
from drivers.frame_thread import FrameThread
from drivers.option_checks import latency_ns, require, require_positive
from drivers.v4l2 import V4l2Device


@dataclass(frozen=True, slots=True)
class Raw16Options:
    """A camera that is a V4L2 device with 16 bits a pixel. Size and rate are asked of it, and compared."""

    device: str = "/dev/video0"
    width: int | None = None
    """Size in pixels; None takes the device's own."""
    height: int | None = None
    """Size in pixels; None takes the device's own."""
    rate_hz: float | None = None
    """Images per second; None takes the device's own."""
    latency_ms: float = 0.0
    """Milliseconds from the exposure to the time stamp; subtracted from it."""


class Raw16Camera(Driver):
    """Hands out the newest frame; a driver says with `convert` what its counts mean."""

    @classmethod
    def stream(cls, options: Any) -> StreamFacts:
        """Its rate and the size of its pictures."""
        return StreamFacts(
            cls.modality,
            rate_hz=options.rate_hz,
            width=options.width,
            height=options.height,
            latency_s=options.latency_ms / 1e3,
        )

    def __init__(self, options: Raw16Options, pixel_format: str, clock: Clock) -> None:
        require(options.device.startswith("/dev/"), "device", options.device, "a device file like /dev/video0")
        for name in ("rate_hz", "width", "height"):
            require_positive(name, getattr(options, name))
        self._asked = options
        self._pixel_format = pixel_format
        self._clock = clock
        self._latency_ns = latency_ns(options.latency_ms)
        self._live: FrameThread | None = None

    @abstractmethod
    def convert(self, counts: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Return the physical values of an image of counts."""

    def connect(self) -> None:
        """Open the device, its counts untouched; raises DeviceNotFound, DeviceBusy or FormatMismatch."""
        self.close()
        asked = self._asked
        device = V4l2Device(
            asked.device,
            pixel_format=self._pixel_format,
            width=asked.width,
            height=asked.height,
            rate_hz=asked.rate_hz,
            raw=True,
        )
        self._live = FrameThread(asked.device, lambda: self._grab(device), device.release)

    def read(self, timeout_s: float) -> Sample:
        """Return the newest image."""
        if self._live is None:
            raise Disconnected(f"{self._asked.device}: not connected")
        return self._live.read(timeout_s)

    def close(self) -> None:
        """Let go of the device."""
        if self._live is not None:
            self._live.close()
            self._live = None

    def _grab(self, device: V4l2Device) -> Sample:
        t_ns, frame = device.grab(self._clock)
        try:
            counts = counts16(frame, *device.size)
        except BadData as error:
            raise BadData(f"{device.path}: {error}") from None
        return Sample(t_ns - self._latency_ns, self.convert(counts))


def counts16(frame: NDArray[Any], width: int, height: int) -> NDArray[np.uint16]:
    """Return uint16 [height, width] from a raw frame as OpenCV gives it.

    By version and pixel format that is uint16 [H, W], or the same bytes (little-endian) as uint8 [H, W, 2] or as one
    row. Raises BadData when the bytes are too few or too many.
    """
    if frame.nbytes != 2 * width * height or frame.dtype not in (np.uint8, np.uint16):
        raise BadData(f"a frame of {frame.nbytes} bytes, wanted {width}x{height} pixels of 16 bits")
    return np.ascontiguousarray(frame).reshape(-1).view("<u2").astype(np.uint16, copy=False).reshape(height, width)
