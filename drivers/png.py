"""Sequences of 16-bit PNG images: how depth and thermal recordings are commonly kept."""

from __future__ import annotations

import glob
import os
import re
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.driver import BadData, BadOption, Clock, DeviceNotFound, Disconnected, Driver, Pace, Sample, StreamFacts
from drivers.image_file import read_png
from drivers.opencv import import_cv2
from drivers.option_checks import latency_ns, require, require_positive
from drivers.pacing import Playhead, rows_to_skip, wait_until_due
from drivers.picture_size import PictureSize


def read_png16(path: str) -> NDArray[np.uint16]:
    """Return the counts uint16 [H, W]; raises BadData naming the file, Disconnected when it is gone."""
    import_cv2()
    try:
        image = read_png(Path(path).read_bytes())
    except BadData as error:
        raise BadData(f"{path}: {error}") from None
    except OSError as error:
        raise Disconnected(f"{path}: the file went away or may not be read: {error.strerror}") from None
    if image.dtype != np.uint16 or image.ndim != 2:
        found = f"{8 * image.itemsize}-bit {'grey' if image.ndim == 2 else 'colour'}"
        raise BadData(f"{path}: a PNG image of {found}, wanted 16-bit grey")
    return image


def png_files(path: str) -> list[str]:
    """Return the PNG files of a directory or a glob pattern, in the order of the numbers in their names."""
    pattern = os.path.join(glob.escape(path), "*.png") if os.path.isdir(path) else path
    files = sorted(filter(os.path.isfile, glob.glob(pattern)), key=_natural)
    if not files:
        raise DeviceNotFound(f"{path}: no PNG files; wanted a directory of them, or a pattern like /data/depth_*.png")
    return files


def _natural(path: str) -> list[tuple[int, str]]:
    """Sort key: frame_2 before frame_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path)]


@dataclass(frozen=True, slots=True)
class PngOptions:
    """A directory of 16-bit grey PNG images, or a pattern; played in the order of the numbers in their names."""

    path: str
    rate_hz: float = 10.0
    """Images per second."""
    width: int | None = None
    """Pixels; compared with every file's."""
    height: int | None = None
    """Pixels; compared with every file's."""
    latency_ms: float = 0.0
    """Milliseconds to move the images back in time against the other sensors."""
    pace: Pace = "real"
    loop: bool = True
    """Begin again at the end."""


class PngSequence(Driver):
    """Plays the files at an even rate; a driver says with `convert` what their counts mean."""

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

    def __init__(self, options: PngOptions, clock: Clock) -> None:
        require(bool(options.path), "path", options.path, "a directory or a pattern")
        for name in ("rate_hz", "width", "height"):
            require_positive(name, getattr(options, name))
        self._path = options.path
        self._files_options = options
        self._clock = clock
        self._latency_ns = latency_ns(options.latency_ms)
        self._files: list[str] = []

    @abstractmethod
    def convert(self, counts: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Return the physical values of an image of counts."""

    def connect(self) -> None:
        """List the files and check the first; raises DeviceNotFound, FormatMismatch or BadOption."""
        files = png_files(self._path)
        try:
            first = read_png16(files[0])
        except (BadData, Disconnected) as error:
            raise BadOption(f"path is {self._path!r}: {error}") from None
        options = self._files_options
        self._size = PictureSize(options.width, options.height)
        self._size.check(files[0], first.shape[1], first.shape[0])
        self._playhead = Playhead(self._clock, len(files), options.rate_hz, options.loop, self._path)
        self._playhead.played = rows_to_skip(self._clock, options.pace, options.rate_hz)
        self._files = files

    def read(self, timeout_s: float) -> Sample:
        """Return the next image when due.

        Raises BadData naming a file that is no 16-bit grey PNG, or of another size than the first, and goes on.
        """
        if not self._files:
            raise Disconnected(f"{self._path}: not connected")
        head = self._playhead
        file, t_ns = self._files[head.index], head.t_ns() - self._latency_ns
        wait_until_due(self._clock, self._files_options.pace, t_ns, timeout_s, self._path)
        head.played += 1
        counts = read_png16(file)
        self._size.check(file, counts.shape[1], counts.shape[0])
        return Sample(t_ns, self.convert(counts))

    def close(self) -> None:
        """Forget the files; `connect` lists them again."""
        self._files = []
