"""Tables of inertial rows as loggers, spreadsheets and sketches write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.exchange.imu_table import ImuMedia
from agent.log.format import LogError

HEAD = "t_s,ax,ay,az,gx,gy,gz"
ROWS = [f"{k / 100:.2f},0.1,{k / 1000},9.8,{0.01 * (k % 7):.2f},0.02,0.03" for k in range(500)]
Lines = list[str]


def with_commas() -> Lines:
    """As a German spreadsheet has it."""
    return [line.replace(",", ";").replace(".", ",") for line in [HEAD, *ROWS]]


def times_of_day(zone: str) -> Lines:
    rows = [row.split(",", 1) for row in ROWS]
    return [HEAD.replace("t_s", "Time"), *(f"2026-01-01T00:00:{t.zfill(5)}{zone},{rest}" for t, rest in rows)]


TABLES: dict[str, Callable[[], Lines]] = {
    "plain": lambda: [HEAD, *ROWS],
    "without names": lambda: ROWS,
    "a comment first": lambda: ["# logger 1.2, made by ax", "", HEAD, *ROWS],
    "a comment sign before the names": lambda: ["#" + HEAD, *ROWS],
    "comments between": lambda: [HEAD, *(line for row in ROWS for line in (row, "% t=25", "// note"))],
    "quotes": lambda: ['"' + HEAD.replace(",", '","') + '"', *ROWS],
    "quotes everywhere": lambda: ['"' + line.replace(",", '","') + '"' for line in [HEAD, *ROWS]],
    "a comma at the end of each line": lambda: [HEAD, *(row + "," for row in ROWS)],
    "a comma at the end of all lines": lambda: [line + "," for line in [HEAD, *ROWS]],
    "capitals": lambda: [HEAD.upper(), *ROWS],
    "blanks": lambda: [line.replace(",", " ,  ") for line in [HEAD, *ROWS]],
    "semicolons": lambda: [line.replace(",", ";") for line in [HEAD, *ROWS]],
    "tabs": lambda: [line.replace(",", "\t") for line in [HEAD, *ROWS]],
    "columns of blanks": lambda: [line.replace(",", "   ") for line in [HEAD, *ROWS]],
    "units in brackets": lambda: [
        "t_s,ax [m/s^2],ay (m/s2),az [m/s²],gx [rad/s],gy (rad/s),gz [rad/s]",
        *ROWS,
    ],
    "times of day": lambda: times_of_day("Z"),
    "times of day without a zone": lambda: times_of_day(""),
    "decimal commas": with_commas,
}


def imported(path: Path, **options: object) -> tuple[NDArray[np.int64], NDArray[np.float32], ImuMedia]:
    media = ImuMedia(path, **options)  # type: ignore[arg-type]
    blocks = list(media.samples(0))
    times = [b.t_ns + round(i * 1e9 / b.rate_hz) for b in blocks for i in range(len(b.data))]
    assert not sum(block.lost for block in blocks)
    return np.array(times), np.concatenate([block.data for block in blocks]), media


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom"])
@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_as_it_is_meant(tmp_path: Path, name: str, encoding: str) -> None:
    path = tmp_path / "imu.csv"
    text = "\r\n".join(TABLES[name]()) + "\r\n"
    path.write_bytes(b"\xff\xfe" + text.encode("utf-16-le") if encoding == "utf-16-le-bom" else text.encode(encoding))
    options: dict[str, object] = {"decimal": ","} if name == "decimal commas" else {}
    if name == "without names":
        options["columns"] = HEAD.split(",")
    times, rows, media = imported(path, **options)
    assert not media.faults
    assert len(rows) == 500
    assert media.sensor.rate_hz == 100.0
    np.testing.assert_allclose(times, np.arange(500) * 10_000_000, atol=2)
    np.testing.assert_allclose(rows[:, 1], np.arange(500) / 1000, atol=1e-6)
    np.testing.assert_allclose(rows[:, 3], 0.01 * (np.arange(500) % 7), atol=1e-6)


def test_units_in_brackets_count(tmp_path: Path) -> None:
    path = tmp_path / "imu.csv"
    path.write_text(
        "T_MS,AX [g],AY [g],AZ [g],GX [°/s],GY [deg/s],GZ (dps)\n" + "20,0,0,1,90,180,-90\n40,0,0,1,90,180,-90\n"
    )
    _, rows, media = imported(path)
    np.testing.assert_allclose(rows[0], [0, 0, 9.80665, np.pi / 2, np.pi, -np.pi / 2], rtol=1e-6)
    assert media.sensor.rate_hz == 50.0


def test_the_last_line_without_its_end_is_no_measurement(tmp_path: Path) -> None:
    path = tmp_path / "imu.csv"
    path.write_text("\n".join([HEAD, *ROWS, "5.00,0.1,0.2,9.8,0.01,0.02,0"]))
    _, rows, media = imported(path)
    assert len(rows) == 500
    assert media.faults == {"last line without its end, which may be cut off": 1}


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize(("column", "unit_s"), [("t_us", 1e-6), ("t_ms", 1e-3)])
def test_a_counter_that_wraps_goes_on(tmp_path: Path, column: str, unit_s: float, bits: int) -> None:
    step = 2 if unit_s > 1e-4 else 2000
    path = tmp_path / "imu.csv"
    begin = 2**bits - 100 * step
    lines = [f"{(begin + k * step) % 2**bits},0,0,9.8,0,0,{k / 1000}" for k in range(120)]
    path.write_text("\n".join([HEAD.replace("t_s", column), *lines]) + "\n")
    times, rows, media = imported(path)
    assert len(rows) == 120
    np.testing.assert_allclose(times, np.arange(120) * step * unit_s * 1e9, atol=1000)
    (note,) = media.faults
    assert note == f"step of its times by -{(2**bits - step) * unit_s:.1f} s, a wrapped counter"


def test_times_that_are_set_back_go_on(tmp_path: Path) -> None:
    path = tmp_path / "imu.csv"
    lines = [f"{k / 100 - (5 if k >= 600 else 0):.2f},0,0,9.8,0,0,0.1" for k in range(1000)]
    path.write_text("\n".join([HEAD, *lines]) + "\n")
    times, rows, media = imported(path)
    assert media.faults == {"step of its times by -5.0 s, taken out": 1}
    assert len(rows) == 1000
    np.testing.assert_allclose(np.diff(times), 10_000_000, atol=2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,0,1,0,0,0", r"acceleration is 1 m/s2 most of the time; the values look like units of gravity"),
        ("0,0,980,0,0,0", r"acceleration is 980 m/s2 most of the time; the values look like milli-g"),
        ("0,0,9.8,0,90,0", r"rotation is 90 rad/s most of the time; the values look like degrees per second"),
    ],
)
def test_values_of_another_unit_are_refused_on_both_sides(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "imu.csv"
    path.write_text(HEAD + "\n" + "".join(f"{k / 100},{row}\n" for k in range(50)))
    with pytest.raises(LogError, match=message):
        ImuMedia(path)


def test_a_table_with_another_decimal_sign_is_refused_with_the_advice(tmp_path: Path) -> None:
    path = tmp_path / "imu.csv"
    path.write_text("\n".join(with_commas()) + "\n")
    with pytest.raises(LogError, match="or has it another `delimiter` or `decimal`"):
        ImuMedia(path)
