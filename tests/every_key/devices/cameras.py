"""Colour cameras: devices, and videos in files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from every_key import Row, Rows
from every_key.devices.reading import of_driver, taken, waited_ms
from every_key.devices.v4l2 import device_rows, fourcc


def video(folder: Path, name: str = "any.avi", colour: tuple[int, int, int] = (40, 40, 40)) -> str:
    """Four frames of 64x48 at 10 Hz, in one colour (BGR)."""
    path = str(folder / name)
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for _ in range(4):
        writer.write(np.full((48, 64, 3), colour, np.uint8))
    writer.release()
    return path


def colour_of(source: str, folder: Path) -> str:
    """Which channel of a video's first frame is the brightest."""
    path = video(folder, source, {"red.avi": (10, 20, 200), "blue.avi": (200, 20, 10)}[source])
    return "RGB"[int(taken("camera", 1, source=path, pace="fast")[0].data.mean(axis=(0, 1)).argmax())]


ROWS: Rows = {
    **of_driver(
        "camera",
        {
            **device_rows("camera"),
            "source": Row(colour_of, ("red.avi", "R"), ("blue.avi", "B")),
            "pixel_format": Row(fourcc("camera"), ("MJPG", "MJPG"), ("YUYV", "YUYV")),
            "pace": Row(
                lambda pace, folder: waited_ms("camera", 4, source=video(folder), pace=pace),
                ("real", pytest.approx(300.0, abs=1.0)),
                ("fast", 0.0),
            ),
            "loop": Row(
                lambda loop, folder: len(taken("camera", 6, source=video(folder), pace="fast", loop=loop)),
                (True, 6),
                (False, 4),
            ),
        },
    ),
}  # fmt: skip
