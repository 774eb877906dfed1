"""IMUs that print lines of numbers: microcontroller sketches and evaluation boards."""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from common.physics import STANDARD_GRAVITY_MPS2
from drivers.driver import Clock, Modality
from drivers.imu.rows import Row, possible
from drivers.imu.serial_line import SerialImu, SerialImuOptions
from drivers.option_checks import require

NEEDED = ("ax", "ay", "az", "gx", "gy", "gz")
MAX_LINE_BYTES = 1024
EXAMPLE_BYTES = 80
"""Of a line that is shown to the user."""
_BLANK = b" \t\v\f\0"
_COMMENTS = (b"#", b"%", b"//")
"""Beginnings of lines that hold no measurement and are passed over."""
_DRESSED = re.compile(r'(?P<quote>"?)\s*(?:(?P<name>[A-Za-z]+)\s*[:=])?\s*(?P<number>[^"\s]+)\s*(?P=quote)')
"""A number in quotes, or behind the name of its column, as `ax:0.1`."""
_TWO_DIGITS = re.compile(rb"[0-9A-Fa-f]{2}")

Checksum = Literal["none", "xor"]
AccelUnit = Literal["m/s2", "g"]
GyroUnit = Literal["rad/s", "deg/s"]


@dataclass(frozen=True, slots=True)
class CsvImuOptions(SerialImuOptions):
    """An IMU that sends one measurement a line, as `0.01,-0.02,9.81,0.001,0.002,0.003`.

    A line without a checksum is taken for what it says: a bit that flips in a digit gives another number, of which only
    an impossible one is noticed. Where wires are long, let the device send one.
    """

    columns: tuple[str, ...] = NEEDED
    """Names of the columns; `ax ay az gx gy gz` must be there, columns of other names are skipped."""
    delimiter: str = ","
    """One or more characters; a blank stands for any number of blanks and tabs."""
    accel_unit: AccelUnit = "m/s2"
    gyro_unit: GyroUnit = "rad/s"
    checksum: Checksum = "none"
    """`xor`: lines end in `*` and two hex digits, the exclusive or of all bytes before, a leading `$` left out, as in
    NMEA 0183; lines whose checksum is missing or wrong are rejected."""


class CsvParser:
    """Bytes in, rows out. A line with other than the expected columns, or impossible values, is rejected.

    A line ends with a line feed, a carriage return or both. Comments (`#`, `%`, `//`) are passed over; numbers may be
    in quotes or behind their names (`ax:0.1`), and a delimiter or NUL bytes may stand at the end of a line.

    What comes before the first line end is passed over: the port opens in the middle of a line, and the rest of a
    number is a number too. Of a flood without line ends, every MAX_LINE_BYTES or more that are dropped count as one.
    """

    unit = "lines that are not measurements"
    row_units = 1
    factory = ""

    def __init__(
        self,
        columns: tuple[str, ...],
        delimiter: str,
        accel_unit: AccelUnit,
        gyro_unit: GyroUnit,
        checksum: Checksum = "none",
    ) -> None:
        self._places = [columns.index(name) for name in NEEDED]
        self._columns = columns
        self._delimiter = None if delimiter == " " else delimiter
        self._scales = scales(accel_unit, gyro_unit)
        self._checked = checksum == "xor"
        self._buffer = b""
        self._skipping = True
        self.rejected = 0
        self.example = ""

    def feed(self, data: bytes) -> list[Row]:
        """Return the rows of the lines that these bytes complete."""
        *lines, self._buffer = (self._buffer + data).replace(b"\r", b"\n").split(b"\n")
        if lines and self._skipping:
            del lines[0]
            self._skipping = False
        if len(self._buffer) > MAX_LINE_BYTES:
            self.rejected += 1
            self._buffer = b""
            self._skipping = True
        rows = []
        for line in lines:
            if not (line := line.strip(_BLANK)) or line.startswith(_COMMENTS):
                continue
            row = self._row(line)
            if row is None:
                self.rejected += 1
                self.example = ascii(line[:EXAMPLE_BYTES].decode("ascii", "replace").strip())
            else:
                rows.append(row)
        return rows

    def _row(self, line: bytes) -> Row | None:
        text = _content(line) if self._checked else line
        if text is None or b"_" in text:  # Python reads 1_0 as 10
            return None
        try:
            fields = text.decode("ascii").strip().split(self._delimiter)
        except UnicodeDecodeError:
            return None
        row = self._numbers(fields)
        return self._numbers(self._undressed(fields)) if row is None else row

    def _numbers(self, fields: Sequence[str]) -> Row | None:
        try:
            ax, ay, az, gx, gy, gz = (
                float(fields[place]) * scale for place, scale in zip(self._places, self._scales, strict=True)
            )
        except (ValueError, IndexError):
            return None
        row = (ax, ay, az, gx, gy, gz)
        return row if len(fields) == len(self._columns) and possible(row) else None

    def _undressed(self, fields: Sequence[str]) -> list[str]:
        """Return fields without quotes, names and an empty last one; none if a name is not that of its column."""
        if len(fields) == len(self._columns) + 1 and not fields[-1].strip():
            fields = fields[:-1]
        if len(fields) != len(self._columns):
            return []
        found = [_DRESSED.fullmatch(field.strip()) for field in fields]
        fits = all(
            match and (match["name"] or column).lower() == column.lower()
            for match, column in zip(found, self._columns, strict=True)
        )
        return [match["number"] for match in found if match] if fits else []


def scales(accel_unit: AccelUnit, gyro_unit: GyroUnit) -> Row:
    """Return what the values of a row are multiplied by to be in m/s2 and rad/s."""
    accel = STANDARD_GRAVITY_MPS2 if accel_unit == "g" else 1.0
    gyro = math.pi / 180 if gyro_unit == "deg/s" else 1.0
    return accel, accel, accel, gyro, gyro, gyro


def _content(line: bytes) -> bytes | None:
    """Return the text of a line between `$`, which may be missing, and its checksum; None if that is missing
    or wrong.
    """
    content, star, digits = line.strip().removeprefix(b"$").rpartition(b"*")
    fits = star and _TWO_DIGITS.fullmatch(digits) and functools.reduce(operator.xor, content, 0) == int(digits, 16)
    return content if fits else None


class CsvImu(SerialImu):
    """Yields imu samples from lines of numbers on a serial line."""

    Options: ClassVar[type[Any]] = CsvImuOptions
    modality: ClassVar[Modality] = "imu"

    def __init__(self, options: CsvImuOptions, clock: Clock) -> None:
        fits = all(options.columns.count(name) == 1 for name in NEEDED)
        require(fits, "columns", options.columns, f"each of {' '.join(NEEDED)} once")
        ends = "\r" in options.delimiter or "\n" in options.delimiter
        require(bool(options.delimiter) and not ends, "delimiter", options.delimiter, "the text between two numbers")
        super().__init__(options, clock)
        self._csv = options

    def make_parser(self) -> CsvParser:
        """Return a parser of the columns of the options."""
        csv = self._csv
        return CsvParser(csv.columns, csv.delimiter, csv.accel_unit, csv.gyro_unit, csv.checksum)
