"""IMUs that print lines: the parser on clean, broken and random lines, and the driver on a pseudo-terminal."""

from __future__ import annotations

import itertools
import math
import os
import tty
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from agent.clock import RunClock
from drivers.driver import BadData, BadOption
from drivers.imu.csv import MAX_LINE_BYTES, NEEDED, CsvImu, CsvImuOptions, CsvParser

LINE = b"0.1,-0.2,9.8,0.01,0.02,-0.03\r\n"
ROW = (0.1, -0.2, 9.8, 0.01, 0.02, -0.03)


def parser(begun: bool = True, delimiter: str = ",", columns: tuple[str, ...] = NEEDED) -> CsvParser:
    """A parser that is past the first line end."""
    made = CsvParser(columns, delimiter, "m/s2", "rad/s")
    if begun:
        assert made.feed(b"\n") == []
    return made


class TestParser:
    def test_a_line_is_a_row(self) -> None:
        reader = parser()
        assert reader.feed(LINE * 3) == [ROW] * 3
        assert reader.rejected == 0

    def test_units_columns_and_delimiter(self) -> None:
        reader = CsvParser(("t", "gx", "gy", "gz", "ax", "ay", "az", "temp"), " ", "g", "deg/s")
        [row] = reader.feed(b"\n 12:30  90 0 -180\t0 0 1  21.5\n")
        assert row == pytest.approx((0, 0, 9.80665, math.pi / 2, 0, -math.pi))

    def test_the_first_line_is_passed_over_as_it_may_be_half_a_line(self) -> None:
        reader = parser(begun=False)
        assert reader.feed(LINE[2:] + LINE) == [ROW]
        assert reader.rejected == 0

    @pytest.mark.parametrize(
        "line",
        [
            b"0.5,-1,9.8,0.25,0,-2,",
            b"0.5,-1,9.8,0.25,0,-2 , \t",
            b'"0.5","-1","9.8","0.25","0","-2"',
            b"ax:0.5,ay:-1,az:9.8,gx:0.25,gy:0,gz:-2",
            b"AX = 0.5, AY = -1, AZ = 9.8, GX = 0.25, GY = 0, GZ = -2,",
            b"\x000.5,-1,9.8,0.25,0,-2\x00\x00",
        ],
    )
    def test_the_dress_of_numbers_does_not_matter(self, line: bytes) -> None:
        reader = parser()
        assert reader.feed(b"# logger 1.2\n// t\n% t\n" + line + b"\n") == [(0.5, -1, 9.8, 0.25, 0, -2)]
        assert reader.rejected == 0

    @pytest.mark.parametrize(
        "line",
        [
            b"gx:1,ay:2,az:3,ax:4,gy:5,gz:6",
            b'"1,2,3,4,5,6',
            b'1,2,3",4,5,6',
            b"ax:,2,3,4,5,6",
            b"1,2,3,4,5,6,,",
            b"ax,ay,az,gx,gy,gz",
            b"1,2,3,4,5",
            b"1,2,3,4,5,6,7",
            b"1,2,,4,5,6",
            b"1,2,nan,4,5,6",
            b"1,2,3,inf,5,6",
            b"1e9,2,3,4,5,6",
            b"1,2,3,4,5,999",
            b"\xff\xfe,2,3,4,5,6",
            b"1;2;3;4;5;6",
            b"1_0,2,3,4,5,6",
        ],
    )
    def test_what_is_no_measurement_is_counted(self, line: bytes) -> None:
        reader = parser()
        assert reader.feed(LINE + line + b"\n" + LINE) == [ROW, ROW]
        assert reader.rejected == 1

    def test_checksums(self) -> None:
        content = b"0.1,-0.2,9.8,0.01,0.02,-0.03"
        total = 0
        for byte in content:
            total ^= byte
        line = b"%s*%02x\r\n" % (content, total)
        reader = CsvParser(NEEDED, ",", "m/s2", "rad/s", "xor")
        assert reader.feed(b"\n" + line + b"$" + line.upper()) == [ROW, ROW]
        damaged = 0
        for at in range(len(content) + 3):
            for bit in range(8):
                flipped = bytearray(line)
                flipped[at] ^= 1 << bit
                if b"\n" in flipped[:-2]:
                    continue  # two lines
                damaged += 1
                rows = reader.feed(bytes(flipped))
                assert rows in ([], [ROW]), "a letter of a hex digit in the other case is the same checksum"
        assert reader.rejected >= damaged - 2
        assert CsvParser(NEEDED, ",", "m/s2", "rad/s", "xor").feed(b"\n" + LINE) == []

    @pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
    def test_line_ends(self, end: bytes) -> None:
        reader = parser()
        rows = [row for byte in (LINE.strip() + end) * 3 for row in reader.feed(bytes([byte]))]
        assert rows == [ROW] * 3
        assert reader.rejected == 0

    def test_a_line_without_end_is_bounded(self) -> None:
        reader = parser()
        for _ in range(100):
            assert reader.feed(b"7" * 1000) == []
            assert len(reader._buffer) <= MAX_LINE_BYTES
        assert reader.feed(b"," + LINE + LINE) == [ROW]
        assert reader.rejected == 50

    def test_a_flood_without_any_line_end_is_counted(self) -> None:
        reader = parser(begun=False)
        for _ in range(10):
            assert reader.feed(b"U" * 2048) == []
        assert reader.rejected == 10

    @given(chunks=st.lists(st.binary(max_size=300) | st.just(LINE), max_size=20))
    def test_any_bytes_are_taken(self, chunks: list[bytes]) -> None:
        reader = parser()
        for chunk in chunks:
            for row in reader.feed(chunk):
                assert all(math.isfinite(v) for v in row)
            assert len(reader._buffer) <= MAX_LINE_BYTES

    @given(cuts=st.lists(st.integers(0, 10 * len(LINE)), max_size=10))
    def test_it_does_not_matter_how_the_bytes_arrive(self, cuts: list[int]) -> None:
        stream = LINE * 10
        edges = [0, *sorted(cuts), len(stream)]
        reader = parser()
        rows = [row for a, b in itertools.pairwise(edges) for row in reader.feed(stream[a:b])]
        assert rows == [ROW] * 10


class TestOptions:
    @pytest.mark.parametrize(
        ("key", "value"),
        [("columns", ["ax", "ay", "az", "gx", "gy"]), ("columns", ["ax", *NEEDED]), ("delimiter", ""), ("baud", 0)],
    )
    def test_impossible_values(self, key: str, value: object) -> None:
        options = TypeAdapter(CsvImuOptions).validate_python({key: value})
        with pytest.raises(BadOption, match=key):
            CsvImu(options, RunClock.start())

    def test_units_are_a_choice(self) -> None:
        with pytest.raises(ValidationError, match="m/s2"):
            TypeAdapter(CsvImu.Options).validate_python({"accel_unit": "ft/s2"})


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A serial line: the descriptor to write to, and the name of the port."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def test_a_speed_that_no_port_has(line: tuple[int, str]) -> None:
    with pytest.raises(BadOption, match="baud is 3000000000"):
        CsvImu(CsvImuOptions(line[1], baud=3_000_000_000), RunClock.start()).connect()


def test_blocks_of_rows_and_a_report_of_bad_lines(line: tuple[int, str]) -> None:
    master, port = line
    with CsvImu(CsvImuOptions(port, rate_hz=100.0), RunClock.start()) as imu:
        os.write(master, b"\n" + LINE * 5)
        block = imu.read(5.0)
        assert block.data.shape == (5, 6)
        assert np.allclose(block.data, ROW)
        os.write(master, b"garbage\n1,2,3\n")
        with pytest.raises(
            BadData, match=r"2 lines that are not measurements, as '1,2,3'; if this goes on, check baud"
        ):
            imu.read(0.2)
        os.write(master, LINE * 2)
        assert len(imu.read(5.0).data) == 2
