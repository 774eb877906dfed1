"""OpenCV, imported late and kept quiet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from drivers.driver import BadOption, MissingLibrary
from drivers.http_access import without_password

QUIET = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}  # AV_LOG_QUIET
"""Read by OpenCV when it is imported, and when it first uses FFmpeg. What goes wrong is raised as a DriverError, so
lines of its own on the terminal would only repeat it."""

SELECT_TIMEOUT = {"OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "2"}
"""Seconds, read by OpenCV when it is imported. A camera that has stalled is held until OpenCV stops waiting for its
next picture; by default that is 10 s, in which it cannot be opened again."""

CAPTURE_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
NETWORK_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay"
"""UDP loses packets of large frames; the default buffering adds up to seconds of delay."""


def import_cv2() -> ModuleType:
    """Return cv2, quiet and quick to give up, unless the user's environment says otherwise."""
    for name, value in (QUIET | SELECT_TIMEOUT).items():
        os.environ.setdefault(name, value)
    try:
        import cv2
    except ImportError as error:
        raise MissingLibrary(f"OpenCV: {error}; install it: pip install opencv-python-headless") from None
    module: ModuleType = cv2
    return module


def can_name(name: str) -> bool:
    """Return whether a name is UTF-8; on another OpenCV ends the process."""
    return name == name.encode(errors="replace").decode()


def video_capture(source: str, backend: int, settings: Sequence[int] = ()) -> Any:
    """OpenCV's capture of a device, file or address; it may not be open. `settings` are pairs of property and value.

    Raises BadOption for a name that OpenCV cannot take.
    """
    if not can_name(source):
        raise BadOption(f"source is {without_password(source)!a}, a name that is not UTF-8; rename it")
    return import_cv2().VideoCapture(source, backend, settings)


@contextmanager
def network_options() -> Iterator[None]:
    """Open a network stream inside of this: FFmpeg's options can be given to OpenCV through the environment only.

    They are taken back at once, because with them seeking in a file loses frames. What the user has set stands.
    """
    if CAPTURE_OPTIONS in os.environ:
        yield
        return
    os.environ[CAPTURE_OPTIONS] = NETWORK_OPTIONS
    try:
        yield
    finally:
        del os.environ[CAPTURE_OPTIONS]
