"""Depth and thermal pictures as a folder of 16-bit PNG files, whose names hold their times: `000017_<t_ns>.png`.

Values = counts * scale + offset, as the description beside the folder says. A picture with a value that no 16-bit count
stands for is kept as float32 in NumPy's format, `000017_<t_ns>.npy`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.exchange.tables import PICTURE_TIMES, TimesTable, read_times, times_beside
from agent.exchange.track import Media, Track
from agent.exchange.units import check_picture
from agent.log.format import LogError, LoggedSensor
from common import private_files
from drivers import codec
from drivers.driver import BadData, Disconnected, Modality, Sample
from drivers.png import read_png16


class PictureTrack(Track):
    """A depth or thermal camera's pictures, and the table of their times."""

    def __init__(self, folder: Path, name: str, sensor: LoggedSensor) -> None:
        """Make the folder and begin the table."""
        super().__init__(folder / name)
        self._sensor = sensor
        private_files.make_folder(self.path)
        self._times = TimesTable(times_beside(self.path), PICTURE_TIMES)

    def _add(self, sample: Sample) -> None:
        path = self.path / f"{self.count:06d}_{sample.t_ns}"
        try:
            png = codec.encode_plane(sample.data, "png", self._sensor.scale, self._sensor.offset).data
            private_files.write(path.with_suffix(".png"), png)
        except BadData:
            private_files.create(path.with_suffix(".npy"))
            np.save(path.with_suffix(".npy"), sample.data)
        self._times.add(self.count, sample.t_ns, sample.lost)
        self.count += 1

    def finish(self) -> None:
        """Close the complete table of times. Raises OSError when the disk is full."""
        self._times.close()

    def close(self) -> None:
        """Close the table, complete or not."""
        with suppress(OSError):  # on a full disk the buffer fails again
            self._times.close()

    def description(self) -> dict[str, Any]:
        """Return the scale and offset of a count."""
        sensor = self._sensor
        return {
            "modality": sensor.modality,
            "rate_hz": sensor.rate_hz,
            "scale": sensor.scale,
            "offset": sensor.offset,
        }


class PictureMedia(Media):
    """A folder of 16-bit grey PNG files, in the order of the numbers in their names."""

    def __init__(
        self, path: Path, modality: Modality, scale: float, offset: float, rate_hz: float | None, within: Path
    ) -> None:
        """Look at the first. Nothing outside of `within` is read, which `path` lies in, or is. Raises LogError."""
        super().__init__(path)
        self._table = None if path == within else times_beside(path)
        self._files = sorted((p for p in path.glob("*") if p.suffix in _SUFFIXES), key=_numbers)
        if not self._files:
            raise LogError(f"{path}: holds no PNG files")
        if rate_hz is None:
            raise LogError(f"{path}: rate_hz is missing; give pictures per second, such as rate_hz: 10")
        self.sensor = LoggedSensor(modality, rate_hz, scale, offset)
        self.length_s = len(self._files) / rate_hz
        first = self._read(self._files[0])
        self.options = {"width": first.shape[1], "height": first.shape[0]}
        try:
            check_picture(first, modality)
        except BadData as error:
            raise LogError(f"{path}: {error}; correct `scale` and `offset`") from None

    def samples(self, begin_ns: int) -> Iterator[Sample]:
        """Pictures at the times of the table beside the folder, or else at an even rate."""
        lost = 0
        self.faults.clear()
        for file, (t_ns, lost_before) in zip(self._files, self._times(), strict=True):
            lost += lost_before
            try:
                yield Sample(begin_ns + t_ns, self._read(file), lost=lost)
            except LogError:
                self.faults["pictures that cannot be read"] += 1
                lost += 1
            else:
                lost = 0

    def _times(self) -> Iterator[tuple[int, int]]:
        """(nanoseconds since the first, how many are missing before it) of each picture."""
        table = self._table
        if table is None or not table.exists():
            yield from ((round(number * 1e9 / self.sensor.rate_hz), 0) for number in range(len(self._files)))
            return
        lines = sum(1 for _ in read_times(table, PICTURE_TIMES))
        if lines != len(self._files):
            raise LogError(f"{table}: has {lines} lines for the {len(self._files)} pictures in {self.path.name}")
        first_ns = None
        for _, t_ns, lost in read_times(table, PICTURE_TIMES):
            first_ns = t_ns if first_ns is None else first_ns
            yield t_ns - first_ns, lost

    def _read(self, path: Path) -> NDArray[np.float32]:
        try:
            if path.suffix == ".npy":
                data: NDArray[np.float32] = np.load(path, allow_pickle=False)
                if data.dtype != np.float32 or data.ndim != 2:
                    raise LogError(f"{path}: holds {data.dtype} {list(data.shape)}; wanted float32 [H, W]")
                return data
            counts = read_png16(str(path))
        except (BadData, Disconnected) as error:
            raise LogError(str(error)) from None
        except (OSError, ValueError) as error:
            raise LogError(f"{path}: cannot be read: {error}") from None
        return (counts * self.sensor.scale + self.sensor.offset).astype(np.float32)


_SUFFIXES = (".png", ".npy")


def _numbers(path: Path) -> tuple[list[int], str]:
    """Sort key: frame_2 before frame_10."""
    return [int(digits) for digits in re.findall(r"\d+", path.stem)], path.name
