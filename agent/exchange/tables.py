"""Tables of numbers as CSV: the times beside a media file, and inertial rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.log.format import LogError
from common import private_files

TIMES_SUFFIX = ".times.csv"
PICTURE_TIMES = ("number", "t_ns", "lost_before")
"""Columns of a line per picture; `number` counts from 0 in the order of the file, or of the names in a folder."""
SOUND_TIMES = ("first_row", "rows", "t_ns", "lost_before", "zeros_before")
"""Columns of a line per block; rows of the file that no block covers are zeros in place of missing samples."""


def times_beside(media: Path) -> Path:
    """The table of times of a file or folder: `camera.mp4` has `camera.times.csv`."""
    return media.with_name((media.name if media.is_dir() else media.stem) + TIMES_SUFFIX)


class Table:
    """A CSV file that is being written. Raises OSError."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Make the file and write its header."""
        self._file = open(path, "x", newline="", encoding="ascii", opener=private_files.opener)  # noqa: SIM115
        self._writer = csv.writer(self._file, lineterminator="\n")
        self.add(*columns)

    def add(self, *values: Any) -> None:
        """Append a line of values."""
        self._writer.writerow(values)

    def close(self) -> None:
        """Write what waits; may be called again."""
        self._file.close()


def read_times(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Yield the lines of a table of times. Raises LogError for other columns, or for values that are not numbers."""
    try:
        with path.open(newline="", encoding="ascii") as file:
            lines = csv.reader(file)
            if (header := next(lines, [])) != list(columns):
                raise LogError(f"{path}: has the columns {','.join(header)}; wanted {','.join(columns)}")
            for line in lines:
                yield _whole_numbers(path, lines.line_num, line, len(columns))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LogError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _whole_numbers(path: Path, number: int, line: Sequence[str], columns: int) -> tuple[int, ...]:
    try:
        values = tuple(int(field) for field in line)
    except ValueError:
        values = ()
    if len(values) != columns or min(values) < 0:
        raise LogError(f"{path}:{number}: holds {','.join(line)!r}; wanted {columns} whole numbers of 0 or more")
    return values
