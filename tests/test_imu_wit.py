"""WitMotion IMUs: the parser on clean, corrupt and random bytes, and the driver on a pseudo-terminal."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import struct
import subprocess
import sys
import threading
import time
import tty
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_sources import Motion, PtyImu, wait_for, wit_frame, wit_frames

from agent.capture.live import Capture
from agent.clock import RunClock
from agent.config.parse import parse
from drivers.device_file import holder
from drivers.driver import (
    BadData,
    BadOption,
    DeviceBusy,
    DeviceNotFound,
    Disconnected,
    DriverError,
    FormatMismatch,
    ReadTimeout,
    Sample,
)
from drivers.imu.rows import axes_matrix
from drivers.imu.wit import COMBINED_BYTES, FRAME_BYTES, WitImu, WitImuOptions, WitParser
from drivers.row_clock import RateCheck

G = 9.80665


def parser() -> WitParser:
    return WitParser(16 * G, math.radians(2000))


def standing_still(_t_s: float) -> tuple[float, float, float, float, float, float]:
    return (0.0, 0.0, G, 0.0, 0.0, 0.0)


class TestParser:
    def test_rows_in_si_units(self) -> None:
        row = (1.0, -2.0, G, 0.5, -0.25, math.radians(90))
        [got] = parser().feed(b"".join(wit_frames(row)))
        assert np.allclose(got[:3], row[:3], atol=16 * G / 32768)
        assert np.allclose(got[3:], row[3:], atol=math.radians(2000) / 32768)

    def test_the_datasheets_scale(self) -> None:
        frames = wit_frame(0x51, (2048, 0, -32768, 0)) + wit_frame(0x52, (16384, 0, 0, 0))
        assert parser().feed(frames) == [pytest.approx((G, 0, -16 * G, math.radians(1000), 0, 0))]

    def test_other_frames_between_are_passed_over(self) -> None:
        accel, gyro = wit_frames(standing_still(0))
        reader = parser()
        assert len(reader.feed(accel + wit_frame(0x53, (1, 2, 3, 4)) + gyro + wit_frame(0x54, (5, 6, 7, 8)))) == 1
        assert reader.rejected == 0

    def test_a_rate_without_an_acceleration_is_no_row(self) -> None:
        accel, gyro = wit_frames(standing_still(0))
        reader = parser()
        assert len(reader.feed(gyro + accel + accel + gyro)) == 1
        assert reader.rejected == 2 * FRAME_BYTES

    def test_an_acceleration_is_never_paired_with_the_rate_of_another_row(self) -> None:
        """A rate and the acceleration after it are lost, damaged or run into each other: rows 0 and 2 remain."""
        (accel, gyro), (next_accel, next_gyro), whole = (wit_frames((k, 0, G, 0, 0, k / 10)) for k in range(3))
        flipped = bytes([gyro[0], gyro[1], gyro[2] ^ 1]) + gyro[3:]
        for damage in (flipped + next_accel[:1] + b"\xff" + next_accel[2:], gyro[:5] + next_accel[7:], next_accel[9:]):
            reader = parser()
            assert reader.feed(accel + damage + next_gyro) == []
            assert reader.rejected == len(accel + damage + next_gyro)
            assert [round(row[5], 1) for row in reader.feed(b"".join(whole))] == [0.2]

    def test_frames_of_models_with_bluetooth(self) -> None:
        """20 bytes without a checksum: one is taken when the next begins where it ends, so the last one waits."""
        frames = [struct.pack("<BB9h", 0x55, 0x61, 0, 0, 2048, 0, 0, 16384, k, 2, 3) for k in range(4)]
        reader = parser()
        assert reader.feed(b"".join(frames)) == [pytest.approx((0, 0, G, 0, 0, math.radians(1000)))] * 3
        assert reader.rejected == 0
        assert len(reader.feed(frames[0][:12] + b"".join(frames))) == 4, "the one that waited, and three"
        assert reader.rejected == 12, "one that is cut off"
        one_at_a_time = parser()
        assert sum(len(one_at_a_time.feed(bytes([byte]))) for byte in b"".join(frames)) == 3

    @given(cuts=st.lists(st.integers(0, 220), max_size=10))
    def test_it_does_not_matter_how_the_bytes_arrive(self, cuts: list[int]) -> None:
        stream = b"".join(b"".join(wit_frames((k, 0, G, 0, 0, k / 10))) for k in range(10))
        edges = [0, *sorted(cuts), len(stream)]
        reader = parser()
        rows = [row for a, b in itertools.pairwise(edges) for row in reader.feed(stream[a:b])]
        assert [round(row[0]) for row in rows] == list(range(10))
        assert reader.rejected == 0

    @given(chunks=st.lists(st.binary(max_size=200), max_size=20))
    def test_any_bytes_are_taken_and_the_buffer_stays_small(self, chunks: list[bytes]) -> None:
        reader = parser()
        for chunk in chunks:
            for row in reader.feed(chunk):
                assert all(math.isfinite(v) for v in row)
                assert max(abs(v) for v in row[:3]) <= 16 * G
            assert len(reader._buffer) < COMBINED_BYTES + 2

    @given(noise=st.binary(max_size=40).filter(lambda noise: b"\x55" not in noise))
    def test_noise_costs_only_itself(self, noise: bytes) -> None:
        pair = b"".join(wit_frames((1, 2, 3, 0.1, 0.2, 0.3)))
        reader = parser()
        assert len(reader.feed(pair + noise + pair)) == 2
        assert reader.rejected == len(noise)

    def test_corruption_costs_only_what_it_hit(self) -> None:
        """1 frame in 20 with a flipped bit: every untouched pair is kept, and none is made up."""
        rng = np.random.default_rng(5)
        stream, intact = bytearray(), 0
        for k in range(5000):
            pair = bytearray(b"".join(wit_frames((0, 0, G, 0, 0, math.radians(k % 1000)))))
            if rng.random() < 0.05:
                pair[rng.integers(len(pair))] ^= 1 << int(rng.integers(8))
            else:
                intact += 1
            stream += pair
        reader = parser()
        rows = reader.feed(bytes(stream))
        turns = np.degrees([row[5] for row in rows]).round().astype(int)
        assert len(rows) >= 0.999 * intact
        assert len(rows) <= 5000 - 0.9 * (5000 - intact)
        assert np.isin(np.diff(turns) % 1000, (1, 2, 3, 4)).all(), "in order, none twice"
        assert reader.rejected >= (5000 - len(rows)) * FRAME_BYTES


class TestAxes:
    def test_a_device_mounted_sideways(self) -> None:
        device = np.array([1.0, 2.0, 3.0], np.float32)
        assert (axes_matrix("y -x z") @ device).tolist() == [2.0, -1.0, 3.0]
        assert (axes_matrix("x -y -z") @ device).tolist() == [1.0, -2.0, -3.0]

    @pytest.mark.parametrize("axes", ["", "x y", "x x z", "x y -z", "x y w", "xyz"])
    def test_what_no_device_can_be(self, axes: str) -> None:
        with pytest.raises(BadOption, match="axes"):
            WitImu(WitImuOptions(axes=axes), RunClock.start())


def write_until(stopping: threading.Event, descriptor: int, data: bytes) -> None:
    """Write the same over and over, ten times a second."""
    os.set_blocking(descriptor, False)
    while not stopping.wait(0.1):
        with contextlib.suppress(BlockingIOError):
            os.write(descriptor, data)


def rows_for(imu: WitImu, duration_s: float) -> list[Sample]:
    """The blocks of this much time on the samples' own clock."""
    blocks = [imu.read(5.0)]
    while blocks[-1].end_ns - blocks[0].t_ns < duration_s * 1e9:
        blocks.append(imu.read(5.0))
    return blocks


def at_100_hz(port: Path, **options: Any) -> WitImuOptions:
    """Options of a device that was set to more than it leaves the factory with."""
    return WitImuOptions(str(port), baud=115_200, rate_hz=100.0, **options)


def tilted(_t_s: float) -> tuple[float, float, float, float, float, float]:
    """Measured along the axes of the case: x, y and z."""
    return (1.0, 2.0, 9.0, 0.1, 0.2, 0.3)


def misread(data: bytes, sent_baud: int, read_baud: int) -> bytes:
    """Bytes of another speed as a UART takes them: from each falling edge on, a start bit, eight bits, a stop bit."""
    bits = [1]
    for byte in data:
        bits += [0, *(byte >> k & 1 for k in range(8)), 1]

    def level(at_bits: float) -> int:
        at = int(at_bits * sent_baud / read_baud)
        return bits[at] if at < len(bits) else 1

    found, at, end = [], 0.0, len(bits) * read_baud / sent_baud
    while at < end:
        if level(at):
            at += 0.25
            continue
        found.append(sum(level(at + 1.5 + k) << k for k in range(8)))
        at += 9.5
        while at < end and not level(at):  # a break: the next byte begins with the next falling edge
            at += 0.25
    return bytes(found)


def first_fault(imu: WitImu, within_s: float) -> str:
    """Read until a driver tells something but that nothing came."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            imu.read(0.5)
        except ReadTimeout:
            continue
        except DriverError as error:
            return str(error)
    return ""


class TestDriver:
    def test_a_case_whose_y_points_forward_needs_no_axes(self, tmp_path: Path) -> None:
        """A WT901's x points right, y forward and z up (datasheet v20-0702)."""
        with PtyImu(tmp_path / "imu", motion=tilted) as source, WitImu(at_100_hz(source.link), RunClock.start()) as imu:
            row = imu.read(5.0).data[0]
        assert row == pytest.approx([2.0, -1.0, 9.0, 0.2, -0.1, 0.3], abs=0.01)

    def test_a_new_device_is_read_with_the_defaults(self, tmp_path: Path) -> None:
        with PtyImu(tmp_path / "imu", rate_hz=10.0) as source:
            options = WitImuOptions(str(source.link))
            with WitImu(options, RunClock.start()) as imu:
                assert len(imu.read(5.0).data) > 0
        assert (options.baud, options.rate_hz) == (9600, 10.0)

    def test_the_speed_of_a_new_device_is_named_when_nothing_can_be_read(self) -> None:
        """A new device sends 10 rows a second at 9600 baud; the port is set to 115200."""
        noise = misread(b"".join(wit_frames((0, 0, G, 0, 0, 0.1))) + wit_frame(0x53, (1, 2, 3, 4)), 9600, 115_200)
        assert len(noise) > 20
        master, slave = os.openpty()
        tty.setraw(slave)
        advice = r"nothing readable comes at 115200 baud.* \(a WitMotion leaves the factory at 9600 baud and 10 rows"
        with WitImu(WitImuOptions(os.ttyname(slave), baud=115_200, rate_hz=200.0), RunClock.start()) as imu:
            stopping = threading.Event()
            device = threading.Thread(target=write_until, args=(stopping, master, noise))
            device.start()
            try:
                began_s = time.monotonic()
                with pytest.raises(BadData, match=advice):
                    imu.read(10.0)
                assert time.monotonic() - began_s < 5.0
            finally:
                stopping.set()
                device.join()
            with pytest.raises((BadData, ReadTimeout), match=advice):
                imu.read(0.3)
            with pytest.raises(ReadTimeout, match=advice):
                imu.read(0.1)
        os.close(master)
        os.close(slave)

    def test_the_agent_tells_it_before_it_connects_again(self) -> None:
        noise = misread(b"".join(wit_frames((0, 0, G, 0, 0, 0.1))) + wit_frame(0x53, (1, 2, 3, 4)), 9600, 115_200)
        master, slave = os.openpty()
        tty.setraw(slave)
        imu = {"type": "imu_wit", "port": os.ttyname(slave), "baud": 115_200, "rate_hz": 200}
        capture = Capture(parse({"sensors": {"imu": imu}}).specs, RunClock.start())
        stopping = threading.Event()
        device = threading.Thread(target=write_until, args=(stopping, master, noise))
        device.start()
        try:
            capture.start()
            wait_for("the advice", lambda: capture.poll(0.05) == [] and capture.reports()["imu"].error != "")
            told = capture.reports()["imu"]
        finally:
            stopping.set()
            device.join()
            capture.stop()
            os.close(master)
            os.close(slave)
        assert told.state == "lost"
        assert "leaves the factory at 9600 baud" in told.error
        assert "connecting again" not in told.error

    @pytest.mark.parametrize(("baud", "rate_hz"), [(9600, 100.0), (115_200, 1000.0)])
    def test_more_rows_than_the_speed_can_carry(self, baud: int, rate_hz: float) -> None:
        with pytest.raises(BadOption, match=f"rate_hz is {rate_hz}, wanted at most {baud / 200:g}, which is all that"):
            WitImu(WitImuOptions(baud=baud, rate_hz=rate_hz), RunClock.start())

    def test_nobody_else_can_open_the_port(self, tmp_path: Path) -> None:
        """Pyserial's own lock stops those only that lock as well; root is stopped by nothing."""
        with PtyImu(tmp_path / "imu") as source, WitImu(at_100_hz(source.link), RunClock.start()) as imu:
            port = os.path.realpath(source.link)
            os.chmod(port, 0o666)
            user = 65_534 if os.geteuid() == 0 else None
            opened = ["dd", "count=0", f"if={port}"]
            refused = subprocess.run(opened, user=user, capture_output=True, text=True, check=False)
            assert "busy" in refused.stderr
            imu.close()
            assert subprocess.run(opened, user=user, capture_output=True, check=False).returncode == 0

    def test_a_program_that_reads_as_well_is_named(self, tmp_path: Path) -> None:
        """It had the port open before."""
        with PtyImu(tmp_path / "imu") as source:
            reading = "while True: select.select([port], [], []); os.read(port, 64)"
            script = f"import os, select\nport = os.open('{source.link}', os.O_RDONLY | os.O_NOCTTY)\n{reading}"
            other = subprocess.Popen([sys.executable, "-c", script])
            wait_for("the other program", lambda: holder(str(source.link)) is not None)
            try:
                with WitImu(at_100_hz(source.link), RunClock.start()) as imu:
                    fault = first_fault(imu, 10.0)
            finally:
                other.kill()
                other.wait()
        named = rf"\(process {other.pid}\) has the port open as well and takes bytes away; stop that program"
        assert re.search(named, fault), fault

    def test_rows_axes_and_times(self, tmp_path: Path) -> None:
        clock = RunClock.start()
        with PtyImu(tmp_path / "imu") as source, WitImu(at_100_hz(source.link, axes="x y z"), clock) as imu:
            before_ns = clock.now_ns()
            blocks = rows_for(imu, 1.5)
            after_ns = clock.now_ns()
        rows = np.concatenate([b.data for b in blocks])
        assert rows.dtype == np.float32
        assert np.allclose(rows[:, :3], [0, 0, G], atol=0.01)
        assert rows[:, 5].max() == pytest.approx(1.0, abs=0.05)
        assert rows[:, 5].min() == pytest.approx(-1.0, abs=0.05)
        assert all(b.rate_hz == 100.0 for b in blocks)
        times = [b.t_ns for b in blocks]
        assert times == sorted(times)
        assert before_ns - 1e9 < times[0] < times[-1] < after_ns + 1e8

    def test_the_plug_is_pulled_and_put_back(self, tmp_path: Path) -> None:
        source = PtyImu(tmp_path / "imu")
        imu = WitImu(at_100_hz(source.link), RunClock.start())
        with pytest.raises(DeviceNotFound, match="imu: no such device"):
            imu.connect()
        for _ in range(3):
            with source, imu:
                assert len(imu.read(5.0).data) > 0
                source.stop()
                with pytest.raises(Disconnected, match="went away"):
                    rows_for(imu, 60.0)
        imu.close()

    def test_no_descriptor_is_left_behind(self, tmp_path: Path) -> None:
        with PtyImu(tmp_path / "imu") as source:
            imu = WitImu(at_100_hz(source.link), RunClock.start())
            with imu:
                opened = len(os.listdir("/proc/self/fd"))
            for _ in range(20):
                imu.connect()
            assert len(os.listdir("/proc/self/fd")) == opened
            imu.close()

    def test_a_second_reader_is_refused(self, tmp_path: Path) -> None:
        options = at_100_hz(tmp_path / "imu")
        with (
            PtyImu(tmp_path / "imu"),
            WitImu(options, RunClock.start()),
            pytest.raises(DeviceBusy, match="is using it"),
        ):
            WitImu(options, RunClock.start()).connect()

    def test_garbage_is_reported_and_reading_goes_on(self, tmp_path: Path) -> None:
        with PtyImu(tmp_path / "imu") as source, WitImu(at_100_hz(source.link), RunClock.start()) as imu:
            imu.read(5.0)
            source.inject(b"\x00\xff" * 50)
            with pytest.raises(BadData, match=r"100 bytes that are not part of a WitMotion measurement.*check baud"):
                rows_for(imu, 60.0)
            assert len(imu.read(5.0).data) > 0

    def test_silence_times_out(self) -> None:
        master, slave = os.openpty()
        with WitImu(WitImuOptions(os.ttyname(slave)), RunClock.start()) as imu:
            with pytest.raises(ReadTimeout, match="no measurements"):
                imu.read(0.1)
            os.write(master, b"\x00" * 30)
            with pytest.raises(BadData, match="30 bytes"):
                imu.read(0.1)
        os.close(master)
        os.close(slave)

    def test_nothing_readable_is_a_matter_of_baud_and_not_of_rate_hz(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(RateCheck, "SPAN_NS", 1_000_000_000)
        master, slave = os.openpty()
        tty.setraw(slave)
        with WitImu(WitImuOptions(os.ttyname(slave), baud=19200, rate_hz=80.0), RunClock.start()) as imu:
            stopping = threading.Event()
            flood = threading.Thread(target=write_until, args=(stopping, master, b"\x00\x78\xf8" * 40))
            flood.start()
            try:
                told = set()
                end = time.monotonic() + 2.5
                while time.monotonic() < end:
                    with pytest.raises(BadData, match=r"nothing readable comes at 19200 baud, but \d+ bytes") as error:
                        imu.read(10.0)
                    told.add(str(error.value))
            finally:
                stopping.set()
                flood.join()
        assert not [words for words in told if "rate_hz" in words]
        os.close(master)
        os.close(slave)

    def test_another_rate_than_stated_is_told(self, tmp_path: Path) -> None:
        motion: Motion = standing_still
        with PtyImu(tmp_path / "imu", rate_hz=25.0, motion=motion) as source:
            imu = WitImu(at_100_hz(source.link), RunClock.start())
            imu.connect()
            with pytest.raises(
                FormatMismatch, match=r"asked as 100 but the device gives 2.*; set rate_hz to 2.* or the device to 100"
            ):
                rows_for(imu, 60.0)
            imu.close()

    def test_a_file_is_no_serial_port(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        with pytest.raises(DriverError, match="cannot be opened as a serial port"):
            WitImu(WitImuOptions(str(tmp_path / "file")), RunClock.start()).connect()
