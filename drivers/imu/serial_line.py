"""IMUs on a serial line: the port, the blocks and their time; a protocol is a parser that knows no port."""

from __future__ import annotations

import errno
import fcntl
import os
import termios
from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from drivers.device_file import check_device_file, holder
from drivers.driver import (
    BLOCK_S,
    BadData,
    Clock,
    DeviceBusy,
    DeviceNotFound,
    Disconnected,
    Driver,
    DriverError,
    FormatMismatch,
    MissingLibrary,
    ReadTimeout,
    Sample,
    StreamFacts,
)
from drivers.imu.rows import Row, axes_matrix, to_body
from drivers.option_checks import latency_ns, require, require_positive
from drivers.row_clock import RateCheck, RowClock

REPORT_NS = 1_000_000_000
READ_BYTES = 2048
"""At most this many at once, so that a backlog comes as several blocks and not as one of any length."""


class Parser(Protocol):
    """A serial protocol: bytes in, rows out; holds back at most one incomplete message, and never raises."""

    rejected: int
    """Amount of input so far that was not a valid message, in `unit`."""
    unit: str
    """Unit of `rejected`, as in 'bytes that are not part of a WitMotion measurement'."""
    row_units: int
    """Amount of `unit` in one row."""
    example: str
    """The last rejected input, printable; "" where it would not help a person."""
    factory: str
    """Settings that such devices leave the factory with, as in 'at 9600 baud'; "" where there is no custom."""

    def feed(self, data: bytes) -> list[Row]:
        """Return the rows that are complete: accelerometer x y z in m/s2, gyroscope x y z in rad/s."""
        ...


@dataclass(frozen=True, slots=True)
class SerialImuOptions:
    """An IMU on a serial line."""

    port: str = "/dev/ttyUSB0"
    """A name under /dev/serial/by-id/ stays the same when it is plugged in again."""
    baud: int = 115_200
    rate_hz: float = 100.0
    """Rows a second that the device is set to send; compared with what comes."""
    axes: str = "x y z"
    """The device axes that point forward, left and up, with signs; 'y -x z' when the device's y points forward."""
    latency_ms: float = 0.0
    """Milliseconds from the motion to the arrival of its bytes; subtracted from the time stamp."""


class SerialImu(Driver):
    """Yields imu samples, float32 [n, 6] in body axes, in blocks of about BLOCK_S.

    The protocols carry no usable clock, so a block's last row is taken to be measured when its bytes arrive; the rows
    are spaced by `rate_hz`, held to the arrival times by a RowClock. Rows that never came are counted in `lost`.
    Bytes that are not a valid message are reported as BadData with their number, at most once a second.
    """

    @classmethod
    def stream(cls, options: SerialImuOptions) -> StreamFacts:
        """Its rate."""
        return StreamFacts(cls.modality, rate_hz=options.rate_hz, block_s=BLOCK_S, latency_s=options.latency_ms / 1e3)

    def __init__(self, options: SerialImuOptions, clock: Clock) -> None:
        require(bool(options.port), "port", options.port, "a serial port like /dev/ttyUSB0")
        require_positive("baud", options.baud)
        require_positive("rate_hz", options.rate_hz)
        self._line = options
        self._clock = clock
        self._axes = axes_matrix(options.axes)
        self._latency_ns = latency_ns(options.latency_ms)
        self._block_rows = max(1, round(options.rate_hz * BLOCK_S))
        self._port: Any = None

    @abstractmethod
    def make_parser(self) -> Parser:
        """Return a parser of the protocol at its beginning."""

    def connect(self) -> None:
        """Open the port, which nobody else can open then; raises DeviceNotFound, DeviceBusy or MissingLibrary."""
        self.close()
        name = self._line.port
        try:
            import serial
        except ImportError:
            raise MissingLibrary("serial IMUs need pyserial; install it: pip install pyserial") from None
        check_device_file(name, group="dialout", look="ls -l /dev/serial/by-id/")
        try:
            self._port = serial.Serial(name, self._line.baud, timeout=BLOCK_S, exclusive=True)
            # pyserial's lock keeps out those only that ask for it.
            fcntl.ioctl(self._port.fileno(), termios.TIOCEXCL)
        except (ValueError, OverflowError) as error:
            require(False, "baud", self._line.baud, f"a speed the port can do ({error})")
        except OSError as error:  # SerialException is one
            raise self._refused(error) from None
        rate_hz = self._line.rate_hz
        self._parser = self.make_parser()
        self._row_clock = RowClock(rate_hz, self._block_rows)
        self._rate_check = RateCheck(name, rate_hz)
        self._rows: list[Row] = []
        self._reported = 0
        self._readable = self._ever_readable = False
        self._report_ns = self._clock.now_ns() + REPORT_NS

    def read(self, timeout_s: float) -> Sample:
        """Return the next block, shorter when the line falls silent; raises BadData for what was not understood."""
        if self._port is None:
            raise Disconnected(f"{self._line.port}: not connected")
        limit_ns = self._clock.now_ns() + round(timeout_s * 1e9)
        while True:
            self._report()
            if len(self._rows) >= self._block_rows:
                return self._block()
            data = self._receive()
            if data:
                self._rows += self._understood(data)
            elif self._rows:
                return self._block()
            if self._clock.now_ns() >= limit_ns and len(self._rows) < self._block_rows:
                self._report(at_once=True)
                raise ReadTimeout(f"{self._line.port}: {self._silence(timeout_s)}")

    def close(self) -> None:
        """Close the port."""
        if self._port is not None:
            with suppress(OSError):  # unplugged
                # Else the port stays shut for as long as another program has it open.
                fcntl.ioctl(self._port.fileno(), termios.TIOCNXCL)
            self._port.close()
            self._port = None

    def _receive(self) -> bytes:
        """Return what has arrived, at most READ_BYTES, waiting BLOCK_S for the first byte."""
        try:
            first: bytes = self._port.read(1)
            return first + self._port.read(min(self._port.in_waiting, READ_BYTES)) if first else b""
        except (OSError, TypeError) as error:  # pyserial raises TypeError when the port is closed under it
            others = self._others() if os.path.exists(self._line.port) else ""
            raise Disconnected(f"{self._line.port}: {others or f'the port went away: {error}'}") from None

    def _understood(self, data: bytes) -> list[Row]:
        """The rows that some bytes complete. Raises FormatMismatch for another rate than was asked, and DeviceBusy when
        another process may be the reason.
        """
        parser = self._parser
        rejected = parser.rejected
        rows = parser.feed(data)
        self._readable = self._readable or bool(rows)
        self._ever_readable = self._ever_readable or bool(rows)
        damaged = (parser.rejected - rejected) / parser.row_units
        try:
            self._rate_check.count(len(rows), self._clock.now_ns(), damaged)
        except FormatMismatch:
            if others := self._others():
                raise DeviceBusy(f"{self._line.port}: {others}") from None
            raise
        return rows

    def _block(self) -> Sample:
        rows, self._rows = to_body(self._rows, self._axes), []
        rate_hz = self._line.rate_hz
        first_row_ns = self._clock.now_ns() - round((len(rows) - 1) * 1e9 / rate_hz)
        t_ns, lost = self._row_clock.stamp(len(rows), first_row_ns)
        return Sample(t_ns - self._latency_ns, rows, rate_hz, lost)

    def _report(self, at_once: bool = False) -> None:
        """Raise BadData when something was rejected since the last report, at most once a second or `at_once`."""
        rejected = self._parser.rejected - self._reported
        if rejected and (at_once or self._clock.now_ns() >= self._report_ns):
            self._reported += rejected
            self._report_ns = self._clock.now_ns() + REPORT_NS
            found, baud = f"{rejected} {self._parser.unit}", self._line.baud
            found += f", as {self._parser.example}" if self._parser.example else ""
            if self._readable:
                others = self._others()
                advice = f"{found}; {others or f'if this goes on, check baud ({baud}), the protocol and the cable'}"
            else:
                advice = f"nothing readable comes at {baud} baud, but {found}; {self._unreadable()}"
            self._readable = False
            raise BadData(f"{self._line.port}: {advice}")

    def _silence(self, timeout_s: float) -> str:
        """What is wrong when no measurement came, and what to do."""
        if self._reported and not self._ever_readable:
            return f"nothing readable comes at {self._line.baud} baud; {self._unreadable()}"
        return f"no measurements within {timeout_s:g} s; is it set to send them?"

    def _unreadable(self) -> str:
        factory = f" ({self._parser.factory})" if self._parser.factory else ""
        return f"set baud as in the device{factory}, then check type"

    def _others(self) -> str:
        """Name another process that has the port open, whose reading takes bytes away; "" if none is seen."""
        process = holder(self._line.port)
        return f"{process} has the port open as well and takes bytes away; stop that program" if process else ""

    def _refused(self, error: OSError) -> DriverError:
        name, process = self._line.port, holder(self._line.port)
        if error.errno in (errno.EBUSY, errno.EAGAIN, errno.EACCES) and process:
            return DeviceBusy(f"{name}: {process} is using it; stop that program first")
        if error.errno in (errno.EBUSY, errno.EAGAIN):
            return DeviceBusy(f"{name}: another program is using it; stop that program first")
        if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
            return DeviceNotFound(f"{name}: no such device; plug it in")
        return DriverError(f"{name}: cannot be opened as a serial port: {error}")
