"""Inertial rows as CSV, one a line, with units in the names of the columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from agent.exchange.row_blocks import RisingTimes, RowBlocks, rate_of
from agent.exchange.table_lines import Columns, Decimal, TableLines
from agent.exchange.tables import TimesTable
from agent.exchange.track import Media, Track
from agent.exchange.units import check_inertial
from agent.log.format import LogError, LoggedSensor
from drivers.driver import BadData, Sample
from drivers.imu.csv import NEEDED, AccelUnit, GyroUnit

SUFFIX = ".csv"
COLUMNS = ("t_ns", "ax_mps2", "ay_mps2", "az_mps2", "gx_rps", "gy_rps", "gz_rps")
RATE_ROWS = 1000
"""Number of rows from which the rate is derived."""


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
    with or without a unit (`ax_mps2`, `ax_g`, `gx_rps`, `gx_dps`), and one of `t_ns t_us t_ms t_s`, or `time` in the
    form of ISO 8601. Capitals, quotes, comments and a delimiter at the line's end do not matter.
    """

    def __init__(
        self,
        path: Path,
        *,
        columns: Sequence[str] | None = None,
        delimiter: str | None = None,
        decimal: Decimal = ".",
        accel_unit: AccelUnit = "m/s2",
        gyro_unit: GyroUnit = "rad/s",
        rate_hz: float | None = None,
    ) -> None:
        """Look at the first rows. Units in the names of columns go before those given. Raises LogError."""
        super().__init__(path)
        self._lines = TableLines(path, delimiter, decimal)
        self._columns = Columns(columns or self._lines.names or NEEDED, accel_unit, gyro_unit)
        if fault := self._columns.fault:
            raise LogError(f"{path}: {fault}; name them by `columns`")
        if self._columns.time is None and rate_hz is None:
            raise LogError(
                f"{path}: has no column t_ns, t_us, t_ms, t_s or time, and no `rate_hz` is given; give one of them"
            )
        rows = list(islice(self._rows(), RATE_ROWS))
        if not any(row for _, row in rows):
            raise LogError(
                f"{path}: the first lines hold no row of {', '.join(self._columns.names)}; is it another table, or has "
                "it another `delimiter` or `decimal`?"
            )
        self._check_units([row for _, row in rows if row])
        rate_hz = rate_hz or rate_of([t_ns for t_ns, _ in rows if t_ns is not None])
        if rate_hz is None:
            raise LogError(f"{path}: its times do not rise; check the column of times, or give `rate_hz` without one")
        self.sensor = LoggedSensor("imu", rate_hz)
        self.options = {}

    def samples(self, begin_ns: int) -> Iterator[Sample]:
        """Yield blocks of rows; a line that is not a measurement counts as a missing row."""
        blocks = RowBlocks(self.sensor.rate_hz)
        times = RisingTimes(self._columns.unit_ns, self.sensor.rate_hz)
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
            if own_ns is not None:
                t_ns, note = times.risen(own_ns)
                self.faults.update([note] if note else [])
            first_ns = t_ns if first_ns is None else first_ns
            yield from blocks.add(begin_ns + t_ns - first_ns, row, lost)
            lost = 0
        yield from blocks.flush()
        self.faults.update({"last line without its end, which may be cut off": 1} if self._lines.cut_off else {})

    def _check_units(self, rows: Sequence[Sequence[float]]) -> None:
        try:
            check_inertial(rows)
        except BadData as error:
            raise LogError(
                f"{self.path}: {error}: convert them, or state the unit in the names of the columns (ax_g, gx_dps)"
            ) from None

    def _rows(self) -> Iterator[tuple[int | None, Sequence[float] | None]]:
        """Yield (own time, six values) of each line; None without a column of times, or without a row."""
        for fields in self._lines:
            t_ns, row = self._columns.time_of(fields), self._columns.row_of(fields)
            yield t_ns, row if t_ns is not None or self._columns.time is None else None
