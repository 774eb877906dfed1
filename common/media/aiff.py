"""Rows that an AIFF file states and lacks: libsndfile cuts their number down to the file without a word."""

from __future__ import annotations

import struct

from common.media.span import Data

_MAX_CHUNKS = 4096
_PLAIN = (b"AIFF", b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"fl64", b"FL64", b"in24", b"in32")
"""Codings whose rows have a fixed number of bytes: the older form, and AIFF-C's."""


def missing_rows(data: Data) -> int:
    """Return the rows that the head states beyond those that are there; 0 if that cannot be told."""
    at, stated, row_bytes = 12, 0, 0
    for _ in range(_MAX_CHUNKS):
        if at + 16 > len(data):
            break
        kind, size = struct.unpack_from(">4sI", data, at)
        body = at + 8
        if kind == b"COMM" and body + 22 <= len(data):
            channels, stated, bits = struct.unpack_from(">HIH", data, body)
            coding = data[8:12] if data[8:12] == b"AIFF" else data[body + 18 : body + 22]
            row_bytes = channels * -(-bits // 8) if coding in _PLAIN else 0
        if kind == b"SSND":
            held = len(data) - body - 8
            return max(0, stated - held // row_bytes) if row_bytes else 0
        at = body + size + size % 2
    return 0
