"""WitMotion IMUs (WT901, BWT61, HWT905 ...): frames that begin with 0x55.

A frame is 11 bytes: 0x55, type, eight data bytes, checksum (the low byte of the sum of the first ten). Data are four
little-endian int16: type 0x51 acceleration x y z and temperature, 0x52 angular rate x y z and temperature; other
types (time, angle, magnetic field, quaternion) are passed over. Source: WT901 datasheet v20-0702.

Models with Bluetooth LE (WT901BLE ...) send frames of 20 bytes instead: 0x55, 0x61, nine int16: acceleration, angular
rate, angle, in the same scales. These have no checksum.

On the device's case x points right, y forward and z up (same datasheet).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from common.physics import STANDARD_GRAVITY_MPS2
from drivers.driver import Clock, Modality
from drivers.imu.rows import Row
from drivers.imu.serial_line import SerialImu, SerialImuOptions
from drivers.option_checks import require, require_positive

HEADER, ACCEL, GYRO, COMBINED = 0x55, 0x51, 0x52, 0x61
TYPES = range(0x50, 0x60)
FRAME_BYTES, COMBINED_BYTES = 11, 20
FACTORY_BAUD, FACTORY_HZ = 9600, 10.0
BITS_A_BYTE = 10
"""On the line: with a start and a stop bit."""


class WitParser:
    """Bytes in, rows out. An acceleration frame and the angular-rate frame that follows it make one row.

    A corrupt frame costs its own row only: one byte is skipped and the search for 0x55 goes on behind it. Frames carry
    no number, so when anything between the two frames of a row could not be read, the second may be of the next row:
    the first is then rejected too. The checksum of 8 bits passes one corrupt frame in 256; every int16 is within the
    sensor's range, so no range check could help. A combined frame is taken when the next one begins where it ends.
    """

    unit = "bytes that are not part of a WitMotion measurement"
    row_units = 2 * FRAME_BYTES
    example = ""
    factory = f"a WitMotion leaves the factory at {FACTORY_BAUD} baud and {FACTORY_HZ:g} rows a second"

    def __init__(self, accel_range_mps2: float, gyro_range_rps: float) -> None:
        """The ranges are what the int16 value 32768 stands for."""
        self._accel_scale = accel_range_mps2 / 32768
        self._gyro_scale = gyro_range_rps / 32768
        self._buffer = b""
        self._accel: tuple[int, int, int] | None = None
        self.rejected = 0

    def feed(self, data: bytes) -> list[Row]:
        """Return the rows that these bytes complete."""
        buffer = self._buffer + data
        rows: list[Row] = []
        at = 0
        while (begin := buffer.find(HEADER, at)) >= 0 and begin + FRAME_BYTES <= len(buffer):
            self._reject(begin - at)
            at = begin
            frame = buffer[begin : begin + FRAME_BYTES]
            if frame[1] == COMBINED:
                after = buffer[begin + COMBINED_BYTES : begin + COMBINED_BYTES + 2]
                if len(after) < 2:
                    break
                if after == frame[:2]:
                    rows.append(self._scaled(struct.unpack_from("<6h", buffer, begin + 2)))
                    at = begin + COMBINED_BYTES
                    continue
            if frame[1] not in TYPES or sum(frame[:10]) & 0xFF != frame[10]:
                self._reject(1)
                at = begin + 1
                continue
            at = begin + FRAME_BYTES
            row = self._take(frame)
            if row is not None:
                rows.append(row)
        end = begin if begin >= 0 else len(buffer)
        self._reject(end - at)
        self._buffer = buffer[end:]
        return rows

    def _reject(self, count: int) -> None:
        """Count bytes that are not a frame; an acceleration before them no longer waits for its angular rate."""
        self.rejected += count
        if count and self._accel is not None:
            self._accel = None
            self.rejected += FRAME_BYTES

    def _take(self, frame: bytes) -> Row | None:
        """Remember an acceleration; with an angular rate, complete the row. One without the other is rejected."""
        x, y, z, _temperature = struct.unpack_from("<4h", frame, 2)
        if frame[1] == ACCEL:
            if self._accel is not None:
                self.rejected += FRAME_BYTES
            self._accel = x, y, z
        elif frame[1] == GYRO:
            accel, self._accel = self._accel, None
            if accel is not None:
                return self._scaled((*accel, x, y, z))
            self.rejected += FRAME_BYTES
        return None

    def _scaled(self, counts: tuple[int, ...]) -> Row:
        ax, ay, az = (count * self._accel_scale for count in counts[:3])
        gx, gy, gz = (count * self._gyro_scale for count in counts[3:])
        return ax, ay, az, gx, gy, gz


@dataclass(frozen=True, slots=True)
class WitImuOptions(SerialImuOptions):
    """A WitMotion IMU. The defaults are its settings when it leaves the factory, and its place on a robot when its y
    points forward: set it to more rows and a higher speed with its maker's tool.
    """

    baud: int = FACTORY_BAUD
    rate_hz: float = FACTORY_HZ
    """Rows a second that the device is set to send; compared with what comes."""
    axes: str = "y -x z"
    """The device axes that point forward, left and up, with signs."""
    accel_range_g: float = 16.0
    gyro_range_dps: float = 2000.0
    """Full scale in degrees per second."""


class WitImu(SerialImu):
    """Yields imu samples from a WitMotion IMU on a serial line."""

    Options: ClassVar[type[Any]] = WitImuOptions
    modality: ClassVar[Modality] = "imu"

    def __init__(self, options: WitImuOptions, clock: Clock) -> None:
        require_positive("accel_range_g", options.accel_range_g)
        require_positive("gyro_range_dps", options.gyro_range_dps)
        super().__init__(options, clock)
        most_hz = options.baud / (COMBINED_BYTES * BITS_A_BYTE)
        wanted = f"at most {most_hz:g}, which is all that {options.baud} baud can carry; raise baud in both places"
        require(options.rate_hz <= most_hz, "rate_hz", options.rate_hz, wanted)
        self._ranges = options.accel_range_g * STANDARD_GRAVITY_MPS2, float(np.deg2rad(options.gyro_range_dps))

    def make_parser(self) -> WitParser:
        """Return a parser with the ranges of the options."""
        return WitParser(*self._ranges)
