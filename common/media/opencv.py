"""OpenCV, imported late and kept quiet."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Final

QUIET: Final = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}  # AV_LOG_QUIET
"""Read by OpenCV when it is imported, and when it first uses FFmpeg. What goes wrong is raised as an error, so lines of
its own on the terminal would only repeat it."""

SELECT_TIMEOUT: Final = {"OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "2"}
"""Seconds, read by OpenCV when it is imported. A camera that has stalled is held until OpenCV stops waiting for its
next picture; by default that is 10 s, in which it cannot be opened again."""


def import_cv2() -> ModuleType:
    """Return cv2, quiet and quick to give up, unless the user's environment says otherwise. Raises ImportError."""
    for name, value in (QUIET | SELECT_TIMEOUT).items():
        os.environ.setdefault(name, value)
    import cv2

    module: ModuleType = cv2
    return module


def can_name(name: str) -> bool:
    """Return whether a name is UTF-8; on another OpenCV ends the process."""
    return name == name.encode(errors="replace").decode()
