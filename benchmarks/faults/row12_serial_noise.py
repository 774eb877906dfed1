"""A serial line flips bits, loses bytes, doubles frames and puts junk behind them, in 200,000 measurements."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from real_sources import wit_frame

from benchmarks.faults.measured import Measured
from drivers.imu.csv import NEEDED, CsvParser
from drivers.imu.wit import WitParser

ROWS = 200_000
DAMAGED, JUNK = 0.05, 0.02
"""Shares of rows with a bit flipped, bytes missing or cut off, and with junk behind them."""
CHUNK_BYTES = 256
KEPT = 0.999
WRONG = 2.0**-8
"""Of candidates: the checksum of a WitMotion frame has 8 bits."""
SPEED_MBPS = 1.0


def run() -> Measured:
    """Both protocols; every row holds its number, so that a wrong one is known."""
    words, met = [], True
    for name, parser, line, number in (
        ("WitMotion", WitParser(1.0, 1.0), _wit_line, _wit_number),
        ("lines with checksums", CsvParser(NEEDED, ",", "m/s2", "rad/s", "xor"), _csv_line, _csv_number),
    ):
        rng = random.Random(3)
        intact: set[int] = set()
        damaged = 0
        stream = bytearray(b"\n" if name != "WitMotion" else b"")
        for k in range(ROWS):
            data = line(k)
            begun = name == "WitMotion" or stream.endswith(b"\n")  # a line that follows junk is part of it
            if rng.random() < DAMAGED:
                damaged += 1
                data = _hurt(data, rng)
            elif begun:
                intact.add(k)
            stream += data
            if rng.random() < JUNK:
                stream += rng.randbytes(rng.randrange(1, 30))
        began_s = time.process_time()
        found = [row for chunk in _chunks(stream) for row in parser.feed(chunk)]
        speed = len(stream) / (time.process_time() - began_s) / 1e6
        numbers = [number(row) for row in found]
        kept = len(intact & {n for n in numbers if n is not None}) / len(intact)
        wrong = sum(n is None for n in numbers)
        words.append(f"{name}: {kept:.3%} of intact rows kept, {wrong} wrong of {damaged} damaged, {speed:.1f} MB/s")
        met = met and kept >= KEPT and wrong <= WRONG * damaged and speed >= SPEED_MBPS
    return Measured(
        f"{KEPT:.1%} of intact rows kept, no more wrong ones than 2^-8 of the damaged, {SPEED_MBPS:g} MB a CPU second",
        "; ".join(words),
        met,
    )


def _hurt(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    match rng.randrange(3):
        case 0:
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at] + data[at + rng.randrange(1, 15) :]
        case _:
            return data[:at]


def _chunks(stream: bytearray) -> Iterator[bytes]:
    for at in range(0, len(stream), CHUNK_BYTES):
        yield bytes(stream[at : at + CHUNK_BYTES])


def _digits(k: int) -> tuple[int, ...]:
    """A number in four digits, then again, so that a row of two halves is known."""
    low, high = k % 1000, k // 1000
    return low, high, (low * 7 + high * 13) % 1000, low, high, (low * 7 + high * 13) % 1000


def _number(values: list[int]) -> int | None:
    k = values[1] * 1000 + values[0]
    return k if tuple(values) == _digits(k) else None


def _wit_line(k: int) -> bytes:
    digits = _digits(k)
    return wit_frame(0x51, (*digits[:3], 0)) + wit_frame(0x52, (*digits[3:], 0))


def _wit_number(row: tuple[float, ...]) -> int | None:
    return _number([round(value * 32768) for value in row])


def _csv_line(k: int) -> bytes:
    text = ",".join(f"{digit / 1000:.3f}" for digit in _digits(k)).encode()
    total = 0
    for byte in text:
        total ^= byte
    return b"%s*%02X\r\n" % (text, total)


def _csv_number(row: tuple[float, ...]) -> int | None:
    return _number([round(value * 1000) for value in row])
