"""IMUs on serial lines, which are pseudo-terminals here."""

from __future__ import annotations

import os
import struct
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.clock import ManualClock, RunClock
from drivers.driver import Clock, Sample
from every_key import Row, Rows
from every_key.devices.reading import MS, START_NS, driver, of_driver, outcome


@contextmanager
def serial_line() -> Iterator[tuple[int, int, str]]:
    """The device's end, the port's end and the name of a line."""
    device, port = os.openpty()
    tty.setraw(port)
    try:
        yield device, port, os.ttyname(port)
    finally:
        os.close(device)
        os.close(port)


def lines(*rows: str, count: int = 30) -> bytes:
    """Lines of an IMU after the one that is passed over."""
    return ("\n" + "".join(row + "\n" for row in rows * count)).encode()


def frames(accel: tuple[int, int, int], gyro: tuple[int, int, int], count: int = 30) -> bytes:
    """Measurements of a WitMotion IMU in counts."""

    def frame(kind: int, counts: tuple[int, int, int]) -> bytes:
        body = bytes([0x55, kind]) + struct.pack("<4h", *counts, 0)
        return body + bytes([sum(body) & 0xFF])

    return (frame(0x51, accel) + frame(0x52, gyro)) * count


SENT = {"imu_csv": lines("1.0,2.0,3.0,0.1,0.2,0.3"), "imu_wit": frames((1024, 2048, 3072), (100, 200, 300))}


LINE = {"baud": 115_200, "rate_hz": 100.0, "axes": "x y z"}
"""Of both kinds; their defaults differ."""


def felt(kind: str, sent: bytes = b"", clock: Clock | None = None, timeout_s: float = 5.0, **options: Any) -> Sample:
    """The first block of a serial IMU."""
    with (
        serial_line() as (device, _, name),
        driver(kind, clock or ManualClock(START_NS), **{"port": name, **LINE, **options}) as imu,
    ):
        os.write(device, sent or SENT[kind])
        return imu.read(timeout_s)


def from_port(kind: str) -> Callable[[str, Path], list[float]]:
    """Of two lines that send different numbers, the one that is named by the key is read."""
    other = {"imu_csv": lines("9.0,8.0,7.0,0.6,0.5,0.4"), "imu_wit": frames((3072, 2048, 1024), (100, 200, 300))}

    def order(which: str, folder: Path) -> list[float]:
        with serial_line() as (one, _, first), serial_line() as (two, _, second):
            for name, port in (("first", first), ("second", second)):
                (folder / name).symlink_to(port)
            with driver(kind, ManualClock(START_NS), port=str(folder / which), **LINE) as imu:
                os.write(one, SENT[kind])
                os.write(two, other[kind])
                return list(np.argsort(imu.read(5.0).data[0, :3]))

    return order


def speed(kind: str) -> Callable[[int, Path], int]:
    """The speed that the port was set to, as termios calls it."""

    def of(baud: int, _: Path) -> int:
        with serial_line() as (_, port, name), driver(kind, ManualClock(START_NS), port=name, baud=baud):
            return int(termios.tcgetattr(port)[5])

    return of


def ratio(kind: str) -> Callable[[str, Path], list[float]]:
    """Forward and left of what the device measured along x, y and z as 1 to 2 to 3, up being the unit."""

    def of(axes: str, _: Path) -> list[float]:
        row = felt(kind, axes=axes).data[0]
        return [round(float(v / abs(row[:3]).min()), 2) for v in row[:3]]

    return of


def imu_rows(kind: str) -> Rows:
    """The options that all serial IMUs share."""
    return {
        "port": Row(from_port(kind), ("first", [0, 1, 2]), ("second", [2, 1, 0])),
        "baud": Row(speed(kind), (57_600, termios.B57600), (38_400, termios.B38400)),
        "rate_hz": Row(lambda rate, _: felt(kind, rate_hz=rate).rate_hz, (50.0, 50.0), (200.0, 200.0)),
        # A device whose y points back and one whose y points up: turned, not mirrored, and not the other way round.
        "axes": Row(ratio(kind), ("-y x z", [-2.0, 1.0, 3.0]), ("z x y", [3.0, 1.0, 2.0])),
        # The last row is measured when its bytes arrive, and is over one period (10 ms) later.
        "latency_ms": Row(
            lambda ms, _: (START_NS - felt(kind, latency_ms=ms).end_ns) / MS,
            (30.0, pytest.approx(20.0)),
            (80.0, pytest.approx(70.0)),
        ),
    }


def csv(*rows: str, column: int = 0, **options: Any) -> float:
    """A number of the first row."""
    return float(felt("imu_csv", lines(*rows), **options).data[0, column])


NMEA = "1.0,2.0,3.0,0.1,0.2,0.3*{:02X}"


def with_checksum(checksum: str, _: Path) -> str:
    content = "1.0,2.0,3.0,0.1,0.2,0.3"
    total = 0
    for byte in content.encode():
        total ^= byte
    sent = lines(NMEA.format(total))
    return outcome(lambda: felt("imu_csv", sent, RunClock.start(), 0.2, checksum=checksum))


ROWS: Rows = {
    **of_driver(
        "imu_csv",
        {
            **imu_rows("imu_csv"),
            "columns": Row(
                lambda columns, _: csv("1,2,3,4,5,6", columns=columns),
                (["az", "ay", "ax", "gx", "gy", "gz"], 3.0),
                (["ay", "ax", "az", "gx", "gy", "gz"], 2.0),
            ),
            "delimiter": Row(
                lambda delimiter, _: outcome(
                    lambda: felt("imu_csv", lines("1;2;3;4;5;6"), RunClock.start(), 0.2, delimiter=delimiter)
                ),
                (";", "fits"),
                ("|", "BadData"),
            ),
            "accel_unit": Row(
                lambda unit, _: csv("1,2,3,4,5,6", accel_unit=unit),
                ("m/s2", 1.0),
                ("g", pytest.approx(9.80665)),
            ),
            "gyro_unit": Row(
                lambda unit, _: csv("1,2,3,18,5,6", column=3, gyro_unit=unit),
                ("rad/s", 18.0),
                ("deg/s", pytest.approx(0.1 * np.pi)),
            ),
            "checksum": Row(with_checksum, ("none", "BadData"), ("xor", "fits")),
        },
    ),
    **of_driver(
        "imu_wit",
        {
            **imu_rows("imu_wit"),
            "accel_range_g": Row(
                lambda g, _: float(felt("imu_wit", frames((8192, 0, 0), (0, 0, 0)), accel_range_g=g).data[0, 0]),
                (2.0, pytest.approx(0.5 * 9.80665)),
                (8.0, pytest.approx(2.0 * 9.80665)),
            ),
            "gyro_range_dps": Row(
                lambda dps, _: float(felt("imu_wit", frames((0, 0, 0), (8192, 0, 0)), gyro_range_dps=dps).data[0, 3]),
                (720.0, pytest.approx(np.pi)),
                (360.0, pytest.approx(np.pi / 2)),
            ),
        },
    ),
}  # fmt: skip
