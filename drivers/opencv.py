"""OpenCV as drivers open it: devices, files and addresses."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from common.media import opencv
from drivers.driver import BadOption, MissingLibrary
from drivers.http_access import without_password

CAPTURE_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
NETWORK_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay"
"""UDP loses packets of large frames; the default buffering adds up to seconds of delay."""


def import_cv2() -> ModuleType:
    """Return cv2, quiet and quick to give up, unless the user's environment says otherwise. Raises MissingLibrary."""
    try:
        return opencv.import_cv2()
    except ImportError as error:
        raise MissingLibrary(f"OpenCV: {error}; install it: pip install opencv-python-headless") from None


def video_capture(source: str, backend: int, settings: Sequence[int] = ()) -> Any:
    """OpenCV's capture of a device, file or address; it may not be open. `settings` are pairs of property and value.

    Raises BadOption for a name that OpenCV cannot take.
    """
    if not opencv.can_name(source):
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
