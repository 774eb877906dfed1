"""Mutations of bytes, from a seed: what a coverage-guided fuzzer does, for where there is none."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Sequence

MOST_BYTES = 1 << 14
"""Longer inputs are cut: most faults need a few bytes, and speed needs short ones."""

_NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
_DIGITS = re.compile(rb"\d+")
_WORDS = (b"0", b"-1", b"1e999", b"4294967296", b"9" * 25, b"0.5", b"", b"nan")


def mutated(pool: Sequence[bytes], tokens: Sequence[bytes], rng: random.Random) -> bytes:
    """One of a pool with one to eight things done to it."""
    data = bytearray(rng.choice(pool))
    for _ in range(1 << rng.randrange(4)):
        _mutate(data, pool, tokens, rng)
    return bytes(data[:MOST_BYTES])


def _mutate(data: bytearray, pool: Sequence[bytes], tokens: Sequence[bytes], rng: random.Random) -> None:
    at, length = rng.randrange(len(data) + 1), 1 << rng.randrange(8)
    match rng.randrange(11):
        case 0 | 1 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 2 if at < len(data):
            data[at] = rng.randrange(256)
        case 3:
            del data[at : at + length]
        case 4:
            data[at:at] = rng.randbytes(length)
        case 5:
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 30))
        case 6:
            size = rng.choice("BHIQ")
            number = rng.choice(_NUMBERS) & (256 ** struct.calcsize(size) - 1)
            data[at : at + struct.calcsize(size)] = struct.pack(rng.choice("<>") + size, number)
        case 7 if tokens:
            token = rng.choice(tokens)
            data[at : at + rng.choice((0, len(token)))] = token
        case 8:
            other = rng.choice(pool)
            begin = rng.randrange(len(other) + 1)
            data[at : at + rng.choice((0, length))] = other[begin : begin + length]
        case 9 if found := list(_DIGITS.finditer(data)):
            digits = rng.choice(found)
            data[digits.start() : digits.end()] = rng.choice(_WORDS)
        case 10:
            del data[at:]
