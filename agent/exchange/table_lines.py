"""Lines of a table of inertial rows, as loggers, spreadsheets and sketches write them.

Comments, quotes, capitals, UTF-16, decimal commas, a delimiter at the end of every line, units in brackets.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from agent.log.format import LogError
from common.printable import shortened
from drivers.imu.csv import NEEDED, AccelUnit, GyroUnit, scales
from drivers.imu.rows import Row, possible

Decimal = Literal[".", ","]
DELIMITERS = (",", ";", "\t", " ")
"""Delimiters that are tried when none is given; a blank stands for any number of blanks and tabs."""
MAX_LINE_CHARACTERS = 1000
"""A longer line is not part of a table."""
MAX_NS = 2**62

_COMMENTS = ("#", "%", "//")
_ACCEL_UNITS: dict[str, AccelUnit] = {"mps2": "m/s2", "m/s2": "m/s2", "m/s^2": "m/s2", "g": "g"}
_GYRO_UNITS: dict[str, GyroUnit] = {"rps": "rad/s", "rad/s": "rad/s", "dps": "deg/s", "deg/s": "deg/s"}
_TIME_UNITS_NS = {"t_ns": 1, "t_us": 1_000, "t_ms": 1_000_000, "t_s": 1_000_000_000, "time": 1, "timestamp": 1}
_WRITTEN_TIMES = ("time", "timestamp")
_BRACKETS = re.compile(r"(\w+) ?[\[(](.+)[\])]")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?")


class TableLines:
    """The fields of the lines of a table, without its names, comments and blank lines. To be iterated repeatedly."""

    def __init__(self, path: Path, delimiter: str | None, decimal: Decimal) -> None:
        """Find the encoding, the delimiter and the names. Raises LogError."""
        self._path = path
        self._decimal = decimal
        self._encoding = _encoding(path)
        self._head = 0
        """Number of the line that follows the names."""
        self._delimiter = delimiter or ","
        self.names: list[str] | None = None
        self.cut_off = False
        """True once the last line was found to have no end."""
        first = next((line for _, line in self._read() if not line.startswith(_COMMENTS)), "")
        if not first:
            raise LogError(f"{path}: is empty; wanted a table of inertial rows")
        if delimiter is None:
            self._delimiter = max(DELIMITERS, key=lambda each: _likeness(_split(first, each), each))
        self._find_names()

    def __iter__(self) -> Iterator[list[str]]:
        for number, line in self._read():
            if number >= self._head and not line.startswith(_COMMENTS):
                yield [_with_point(field, self._decimal) for field in _split(line, self._delimiter)]

    def _find_names(self) -> None:
        """The first line that is not a comment, unless it holds numbers; or a comment before it that names columns."""
        for number, line in self._read():
            comment = line.startswith(_COMMENTS)
            fields = _split(line.lstrip("#%/ ") if comment else line, self._delimiter)
            if comment and not set(NEEDED) <= {_name_and_unit(field)[0] for field in fields}:
                continue
            if not _is_number(_with_point(fields[0], self._decimal)) and not _ISO.fullmatch(fields[0]):
                self.names, self._head = fields, number + 1
            return

    def _read(self) -> Iterator[tuple[int, str]]:
        """Yield the number and the text of each line that is not blank; one that was cut off is left out."""
        number = 0
        try:
            with self._path.open(encoding=self._encoding, errors="replace", newline=None) as file:
                while line := file.readline(MAX_LINE_CHARACTERS):
                    if not line.endswith("\n") and len(line) < MAX_LINE_CHARACTERS and number:
                        self.cut_off = True
                    elif text := line.strip("\n\r\0 "):
                        yield number, text
                    number += 1
        except (OSError, UnicodeError) as error:
            raise LogError(f"{self._path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


class Columns:
    """Places, units and the time of a table's rows."""

    def __init__(self, columns: Sequence[str], accel_unit: AccelUnit, gyro_unit: GyroUnit) -> None:
        """Units in the names go before those given; `fault` says what is wrong with the names."""
        self.names = []
        for column in columns:
            name, unit = _name_and_unit(column)
            if name in NEEDED[:3] and unit in _ACCEL_UNITS:
                accel_unit = _ACCEL_UNITS[unit]
            elif name in NEEDED[3:] and unit in _GYRO_UNITS:
                gyro_unit = _GYRO_UNITS[unit]
            elif unit:
                name = column.lower()
            self.names.append(name)
        while self.names and not self.names[-1]:
            del self.names[-1]
        absent = [name for name in NEEDED if self.names.count(name) != 1]
        self.fault = f"columns {shortened(','.join(columns))}: {absent[0]!r} must stand there once" if absent else ""
        times = [i for i, name in enumerate(self.names) if name in _TIME_UNITS_NS]
        self.time = times[0] if times else None
        self.unit_ns = 1 if self.time is None else _TIME_UNITS_NS[self.names[self.time]]
        """Nanoseconds of one count of the column of times."""
        self._written = self.time is not None and self.names[self.time] in _WRITTEN_TIMES
        self._places = [] if absent else [self.names.index(name) for name in NEEDED]
        self._scales = scales(accel_unit, gyro_unit)

    def row_of(self, fields: Sequence[str]) -> Row | None:
        """The row of a line; None when it is not a measurement."""
        fields = fields[:-1] if len(fields) > len(self.names) and not fields[-1] else fields
        if len(fields) != len(self.names):
            return None
        try:
            values = [_number(fields[place]) * scale for place, scale in zip(self._places, self._scales, strict=True)]
        except ValueError:
            return None
        row = (values[0], values[1], values[2], values[3], values[4], values[5])
        return row if possible(row) else None

    def time_of(self, fields: Sequence[str]) -> int | None:
        """The time of a line in nanoseconds; None without one."""
        if self.time is None or self.time >= len(fields):
            return None
        field = fields[self.time]
        if self._written:
            return _written_ns(field)
        try:
            # Whole numbers stay exact: UNIX time in nanoseconds has more digits than a float.
            t_ns = int(field) * self.unit_ns
        except ValueError:
            t_ns = round(float(field) * self.unit_ns) if _is_number(field) else MAX_NS
        return t_ns if abs(t_ns) < MAX_NS else None


def _is_number(text: str) -> bool:
    """Return whether a field is a finite number."""
    try:
        return math.isfinite(_number(text))
    except ValueError:
        return False


def _number(text: str) -> float:
    """Raises ValueError."""
    if "_" in text:  # Python reads 1_0 as 10
        raise ValueError(text)
    return float(text)


def _encoding(path: Path) -> str:
    """Raises LogError."""
    try:
        with path.open("rb") as file:
            begin = file.read(2)
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error.strerror}") from None
    return "utf-16" if begin in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _split(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return line.split() or [""]
    if len(delimiter) > 1:
        return [field.strip() for field in line.split(delimiter)]
    try:
        (fields,) = csv.reader([line], delimiter=delimiter, skipinitialspace=True)
    except (csv.Error, ValueError):  # a quote that does not end
        return [field.strip() for field in line.split(delimiter)]
    return [field.strip() for field in fields]


def _likeness(fields: Sequence[str], delimiter: str) -> tuple[int, int, int]:
    """How much the fields of a line are like those of a table: names known, numbers, and how usual the delimiter is."""
    known = sum(_name_and_unit(field)[0] in NEEDED for field in fields)
    return known, sum(_is_number(field) for field in fields), -DELIMITERS.index(delimiter)


def _with_point(field: str, decimal: Decimal) -> str:
    return field.replace(",", ".") if decimal == "," else field


def _name_and_unit(column: str) -> tuple[str, str]:
    """A name in small letters and its unit: `ax_g`, `AX [g]` and `ax (g)` are ("ax", "g"); times keep theirs."""
    text = " ".join(column.lower().split())
    if text in _TIME_UNITS_NS:
        return text, ""
    if brackets := _BRACKETS.fullmatch(text):
        return brackets[1], brackets[2].replace("°", "deg").replace("²", "2").strip()
    name, _, unit = text.partition("_")
    return name, unit


def _written_ns(field: str) -> int | None:
    match = _ISO.fullmatch(field)
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{(zone or 'Z').replace('Z', '+00:00')}")
    except ValueError:
        return None
    return int(whole.timestamp()) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
