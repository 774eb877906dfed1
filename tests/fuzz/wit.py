"""Frames of WitMotion IMUs. The first byte says in pieces of what size the rest arrives."""

from __future__ import annotations

import math

from common.physics import STANDARD_GRAVITY_MPS2
from drivers.imu.rows import possible
from drivers.imu.wit import WitParser

TOKENS = (b"\x55\x51", b"\x55\x52", b"\x55\x53", b"\x55\x61", b"\x55\x55")
LONGEST = 64
"""Bytes that may wait for the rest of their frame."""


def one(data: bytes) -> None:
    """The parser, in pieces and at once."""
    step, stream = 1 + (data[0] if data else 0) % 64, data[1:]
    parser = _parser()
    rows = []
    for at in range(0, len(stream), step):
        rows += parser.feed(stream[at : at + step])
        assert len(parser._buffer) < LONGEST
    assert all(possible(row) for row in rows)
    assert parser.rejected <= len(stream)
    whole = _parser()
    assert (rows, parser.rejected) == (whole.feed(stream), whole.rejected), "it matters how the bytes arrive"


def _parser() -> WitParser:
    return WitParser(16 * STANDARD_GRAVITY_MPS2, math.radians(2000))


def seeds() -> list[bytes]:
    """Rows, other frames between them, and noise."""
    pair = _frame(0x51, bytes(8)) + _frame(0x52, b"\x10\x00" * 4)
    between = _frame(0x50, bytes(8)) + _frame(0x51, b"\xff\x7f" * 4) + _frame(0x52, bytes(8)) + _frame(0x53, bytes(8))
    return [b"\x00" + pair * 3, b"\x07" + between * 2, b"\x1f" + pair + b"\x55\x51\x00" + pair]


def _frame(kind: int, values: bytes) -> bytes:
    body = bytes([0x55, kind]) + values
    return body + bytes([sum(body) & 0xFF])
