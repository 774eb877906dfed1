"""Inertial rows as CSV, one a line, with units in the names of the columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np

from agent.exchange.row_blocks import RowBlocks, rate_of
from agent.exchange.tables import TimesTable
from agent.exchange.track import Media, Track
from agent.log.format import LogError, LoggedSensor
from drivers.driver import Sample
from drivers.imu.csv import NEEDED, AccelUnit, CsvParser, GyroUnit

SUFFIX = ".csv"
COLUMNS = ("t_ns", "ax_mps2", "ay_mps2", "az_mps2", "gx_rps", "gy_rps", "gz_rps")
RATE_ROWS = 1000
"""Number of rows from which the rate is derived."""
MAX_NS = 2**62
USUAL_ACCEL_MAX_MPS2 = 200.0
"""No robot is at more than 20 g most of the time."""
USUAL_GYRO_MAX_RPS = 40.0
"""Nor does it turn six times a second."""
MAX_LINE_CHARACTERS = 1000
"""A longer line is not part of a table."""

_ACCEL_UNITS: dict[str, AccelUnit] = {"mps2": "m/s2", "g": "g"}
_GYRO_UNITS: dict[str, GyroUnit] = {"rps": "rad/s", "dps": "deg/s"}
_TIME_UNITS_NS = {"t_ns": 1, "t_us": 1_000, "t_ms": 1_000_000, "t_s": 1_000_000_000}


class ImuTrack(Track):
    """An inertial unit's rows."""

    def __init__(self, folder: Path, name: str, sensor: LoggedSensor) -> None:
        """Open the table and write its head."""
        super().__init__(folder / (name + SUFFIX))
        self._nominal_hz = sensor.rate_hz
        self._table = TimesTable(self.path, COLUMNS)

    def _add(self, sample: Sample) -> None:
        for i, row in enumerate(sample.data):
            # Nine digits tell every float32 from its neighbours.
            self._table.add(sample.t_ns + round(i * 1e9 / sample.rate_hz), *(f"{value:.9g}" for value in row))
        self.count += len(sample.data)

    def finish(self) -> None:
        """Close the complete table. Raises OSError when the disk is full."""
        self._table.close()

    def close(self) -> None:
        """Close the table, complete or not."""
        with suppress(OSError):  # on a full disk the buffer fails again
            self._table.close()

    def description(self) -> dict[str, float]:
        """Return the nominal rate."""
        return {"rate_hz": self._nominal_hz}


class ImuMedia(Media):
    """A table of inertial rows, with a column of times or at an even rate.

    Columns are named by the first line, unless that holds numbers, or by `columns`: `ax ay az gx gy gz`, each once,
    with or without a unit (`ax_mps2`, `ax_g`, `gx_rps`, `gx_dps`), and one of `t_ns t_us t_ms t_s`.
    """

    def __init__(
        self,
        path: Path,
        *,
        columns: Sequence[str] | None = None,
        delimiter: str = ",",
        accel_unit: AccelUnit = "m/s2",
        gyro_unit: GyroUnit = "rad/s",
        rate_hz: float | None = None,
    ) -> None:
        """Look at the first rows. Units in the names of columns go before those given. Raises LogError."""
        super().__init__(path)
        self._delimiter = delimiter
        first = next(self._lines(), "")
        if not first:
            raise LogError(f"{path}: is empty; wanted a table of inertial rows")
        named = not _is_number(self._fields(first)[0])
        self._head_lines = int(named)
        self._name_columns(columns or (self._fields(first) if named else NEEDED), accel_unit, gyro_unit)
        if self._time_ns is None and rate_hz is None:
            raise LogError(
                f"{path}: has no column t_ns, t_us, t_ms or t_s, and no `rate_hz` is given; give one of them"
            )
        rows = list(islice(self._rows(), RATE_ROWS))
        if not any(row for _, row in rows):
            raise LogError(f"{path}: the first lines hold no row of {', '.join(self._columns)}; is it another table?")
        self._check_units([row for _, row in rows if row])
        rate_hz = rate_hz or rate_of([t_ns for t_ns, _ in rows if t_ns is not None])
        if rate_hz is None:
            raise LogError(f"{path}: its times do not rise; check the column of times, or give `rate_hz` without one")
        self.sensor = LoggedSensor("imu", rate_hz)
        self.options = {}

    def samples(self, begin_ns: int) -> Iterator[Sample]:
        """Yield blocks of rows; a line that is not a measurement counts as a missing row."""
        blocks = RowBlocks(self.sensor.rate_hz)
        first_ns: int | None = None
        number = lost = 0
        self.faults.clear()
        for own_ns, row in self._rows():
            t_ns = round(number * 1e9 / self.sensor.rate_hz) if own_ns is None else own_ns
            number += 1
            if row is None:
                self.faults["lines that are not measurements"] += 1
                lost += 1
                continue
            first_ns = t_ns if first_ns is None else first_ns
            yield from blocks.add(begin_ns + t_ns - first_ns, row, lost)
            lost = 0
        yield from blocks.flush()

    def _name_columns(self, columns: Sequence[str], accel_unit: AccelUnit, gyro_unit: GyroUnit) -> None:
        names = []
        for column in columns:
            name, _, unit = column.partition("_")
            if name in NEEDED[:3] and unit in _ACCEL_UNITS:
                accel_unit = _ACCEL_UNITS[unit]
            elif name in NEEDED[3:] and unit in _GYRO_UNITS:
                gyro_unit = _GYRO_UNITS[unit]
            elif unit:
                name = column
            names.append(name)
        if absent := [name for name in NEEDED if names.count(name) != 1]:
            found = ",".join(columns)
            raise LogError(f"{self.path}: columns {found}: {absent[0]!r} must stand there once; name them by `columns`")
        times = [i for i, name in enumerate(names) if name in _TIME_UNITS_NS]
        self._columns = tuple(names)
        self._time = times[0] if times else 0
        self._time_ns = _TIME_UNITS_NS[names[times[0]]] if times else None
        self._units = accel_unit, gyro_unit

    def _check_units(self, rows: Sequence[Sequence[float]]) -> None:
        """Refuse a table of another unit, by what is usual in it: a shock is short, a unit is not."""
        usual = np.median(np.abs(rows), axis=0)  # [6]
        for what, value, limit, unit, hint in (
            ("acceleration", usual[:3].max(), USUAL_ACCEL_MAX_MPS2, "m/s2", "milli-g"),
            ("rotation", usual[3:].max(), USUAL_GYRO_MAX_RPS, "rad/s", "degrees per second"),
        ):
            if value > limit:
                raise LogError(
                    f"{self.path}: {what} is {value:.0f} {unit} most of the time; the values look like {hint}: convert "
                    "them, or state the unit in the names of the columns (ax_g, gx_dps)"
                )

    def _rows(self) -> Iterator[tuple[int | None, Sequence[float] | None]]:
        """Yield (own time, six values) of each line; None without a column of times, or without a row."""
        parser = CsvParser(self._columns, self._delimiter, *self._units)
        parser.feed(b"\n")  # the parser skips everything before the first line end, as on a serial line
        for line in islice(self._lines(), self._head_lines, None):
            rows = parser.feed(line.encode("ascii", "replace") + b"\n")
            t_ns = self._time_of(line)
            usable = bool(rows) and (t_ns is not None or self._time_ns is None)
            yield t_ns, rows[0] if usable else None

    def _time_of(self, line: str) -> int | None:
        if self._time_ns is None:
            return None
        field = "".join(self._fields(line)[self._time : self._time + 1])
        try:
            # Whole numbers stay exact: UNIX time in nanoseconds has more digits than a float.
            t_ns = int(field) * self._time_ns
        except ValueError:
            t_ns = round(float(field) * self._time_ns) if _is_number(field) else MAX_NS
        return t_ns if abs(t_ns) < MAX_NS else None

    def _fields(self, line: str) -> list[str]:
        split = line.split(None if self._delimiter == " " else self._delimiter)
        return [field.strip() for field in split] or [""]

    def _lines(self) -> Iterator[str]:
        """Lines that are not blank."""
        try:
            with self.path.open(encoding="utf-8-sig", errors="replace", newline=None) as file:
                while line := file.readline(MAX_LINE_CHARACTERS):
                    if line.strip():
                        yield line.rstrip("\n")
        except OSError as error:
            raise LogError(f"{self.path}: cannot be read: {error.strerror}") from None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
