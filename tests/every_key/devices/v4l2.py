"""Video4Linux devices, stood in for at OpenCV's capture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from drivers.driver import Sample
from every_key import Row, Rows
from every_key.devices.reading import shift_ms, taken


class StandInDevice:
    """A device that gives whatever is asked of it, in counts that tell which device it is."""

    opened: ClassVar[list[StandInDevice]] = []
    COUNTS: ClassVar[dict[str, int]] = {"/dev/null": 30_000, "/dev/zero": 40_000}

    def __init__(self, path: str, *_: Any) -> None:
        self.path = path
        self.asked: dict[int, float] = {
            cv2.CAP_PROP_FRAME_WIDTH: 64,
            cv2.CAP_PROP_FRAME_HEIGHT: 48,
            cv2.CAP_PROP_FPS: 25,
        }
        self.opened.append(self)

    def isOpened(self) -> bool:  # noqa: N802  as OpenCV's is called
        return True

    def set(self, key: int, value: float) -> None:
        self.asked[key] = value

    def get(self, key: int) -> float:
        return self.asked.get(key, 0.0)

    def read(self) -> tuple[bool, Any]:
        width, height = int(self.asked[cv2.CAP_PROP_FRAME_WIDTH]), int(self.asked[cv2.CAP_PROP_FRAME_HEIGHT])
        counts = self.COUNTS[self.path]
        if self.asked.get(cv2.CAP_PROP_CONVERT_RGB, 1) == 0:
            return True, np.full((height, width), counts, np.uint16)
        return True, np.full((height, width, 3), counts // 1000, np.uint8)

    def release(self) -> None:
        """Nothing is held."""


def from_device(kind: str, **options: Any) -> tuple[Sample, StandInDevice]:
    """The first picture of a stand-in, and the stand-in."""
    where = "source" if kind == "camera" else "device"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drivers.v4l2.video_capture", StandInDevice)
        (sample,) = taken(kind, 1, **{where: "/dev/null", **options})
    return sample, StandInDevice.opened.pop()


def device_rows(kind: str) -> Rows:
    """The options that all devices of pictures share, but for where they are."""
    return {
        "width": Row(lambda w, _: from_device(kind, width=w)[0].data.shape[1], (80, 80), (96, 96)),
        "height": Row(lambda h, _: from_device(kind, height=h)[0].data.shape[0], (60, 60), (72, 72)),
        "rate_hz": Row(lambda r, _: from_device(kind, rate_hz=r)[1].asked[cv2.CAP_PROP_FPS], (8.0, 8.0), (60.0, 60.0)),
        "latency_ms": Row(lambda ms, _: shift_ms(from_device(kind, latency_ms=ms)[0]), (20.0, 20.0), (70.0, 70.0)),
    }


def fourcc(kind: str) -> Callable[[str, Path], str]:
    def asked(pixel_format: str, _: Path) -> str:
        code = int(from_device(kind, pixel_format=pixel_format)[1].asked[cv2.CAP_PROP_FOURCC])
        return code.to_bytes(4, "little").decode().strip()

    return asked


def raw_value(kind: str, option: str) -> Callable[[Any, Path], float]:
    def value(given: Any, _: Path) -> float:
        return float(from_device(kind, **{option: given})[0].data[0, 0])

    return value
