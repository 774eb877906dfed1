"""Logs with something wrong inside while all lengths and checksums are right: what no check of bytes refuses."""

from __future__ import annotations

import io
import random
import struct
import zlib

from agent.log.reading import MAGIC, frames
from agent.log.unpacking import CHUNK_HEAD, RECORD_HEAD

CHUNK, DATA_END, FOOTER = 0x06, 0x0F, 0x02
_ODD = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_ODD_BYTES = (
    b"\x1b]0;x\x07\x1b[31m",
    b"\xff" * 8,
    bytes(8),
    b"../../..",
    "\u202e".encode(),
    b"[" * 64,
    b"1e999",
    b"NaN",
)
Record = tuple[int, bytes]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A whole log with one to three records altered, doubled, left out or exchanged; it has no index."""
    records = [(opcode, body) for _, opcode, body in frames(io.BytesIO(data)) if opcode not in (DATA_END, FOOTER)]
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(records))
        opcode, body = records[at]
        if opcode == CHUNK and rng.random() < 0.9:
            records[at] = CHUNK, _with_altered_content(body, rng)
        else:
            records[at : at + 1] = _altered([(opcode, body)], 0, rng)
        records = records or [(opcode, body)]
    end = RECORD_HEAD.pack(DATA_END, 4) + bytes(4) + RECORD_HEAD.pack(FOOTER, 20) + bytes(20)
    return MAGIC + _joined(records) + end + MAGIC


def _with_altered_content(body: bytes, rng: random.Random) -> bytes:
    """A chunk, which is not compressed, with other records and the lengths and the checksum of these."""
    start_ns, end_ns, _, _, name_length = CHUNK_HEAD.unpack_from(body)
    inner = body[CHUNK_HEAD.size + name_length + 8 :]
    records: list[Record] = []
    at = 0
    while at + RECORD_HEAD.size <= len(inner):
        opcode, length = RECORD_HEAD.unpack_from(inner, at)
        begin, at = at + RECORD_HEAD.size, at + RECORD_HEAD.size + length
        records.append((opcode, inner[begin:at]))
    if not records:
        return body
    content = _joined(_altered(records, rng.randrange(len(records)), rng))
    if rng.random() < 0.1:
        start_ns, end_ns = rng.choice(_ODD), rng.choice(_ODD)
    head = CHUNK_HEAD.pack(start_ns, end_ns, len(content), zlib.crc32(content), 0)
    return head + struct.pack("<Q", len(content)) + content


def _altered(records: list[Record], at: int, rng: random.Random) -> list[Record]:
    opcode, body = records[at]
    data = bytearray(body)
    place = rng.randrange(len(data)) if data else 0
    match rng.randrange(8):
        case 0:
            records[at : at + 1] = [records[at]] * 2
        case 1:
            del records[at]
        case 2:
            other = rng.randrange(len(records))
            records[at], records[other] = records[other], records[at]
        case 3:
            records[at] = rng.randrange(1, 16), body
        case 4:
            records[at] = opcode, body[:place]
        case 5:
            size = rng.choice((4, 8))
            data[place : place + size] = rng.choice(_ODD).to_bytes(8, "little")[:size]
            records[at] = opcode, bytes(data)
        case 6:
            odd = rng.choice(_ODD_BYTES)
            data[place : place + rng.choice((0, len(odd)))] = odd
            records[at] = opcode, bytes(data)
        case _:
            for _ in range(rng.randint(1, 8)):
                if data:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            records[at] = opcode, bytes(data)
    return records


def _joined(records: list[Record]) -> bytes:
    return b"".join(RECORD_HEAD.pack(opcode, len(body)) + body for opcode, body in records)
