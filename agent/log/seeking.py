"""Position of a time in a log file: by the file's index if it has one, else by the head of every chunk.

Times here are log times, which are capture times. A chunk that holds anything at or after a time is found whatever the
order in it, and one that is wrong about its times costs what it hides, not the rest.

Source of the layout: the MCAP specification, https://mcap.dev/spec.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from mcap.opcode import Opcode
from numpy.typing import NDArray

from agent.log.reading import (
    CHUNK_HEAD,
    DEFINITIONS,
    MAGIC,
    MAX_CHUNK_BYTES,
    MESSAGE_HEAD,
    RECORD_HEAD,
    Allowance,
    Record,
    chunk_contents,
    frames,
    records,
)

_FOOTER = struct.Struct("<QQI")
"""Begin of the summary, begin of its offsets, and the CRC of both with the fields of the footer before it."""
_SPAN = struct.Struct("<QQ")
_CHUNK_INDEX_HEAD = struct.Struct("<QQQ")
_LOG_TIME = struct.Struct("<HIQ")
"""The beginning of a message: channel, sequence, log time."""
_MAX_NS = 2**64 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Chunks:
    """The chunks of one file in the order in which they lie there; 24 bytes of memory each."""

    offsets: NDArray[np.uint64]
    starts_ns: NDArray[np.uint64]
    """The earliest log time in each."""
    ends_ns: NDArray[np.uint64]
    """Latest time in each chunk."""
    definitions: bytes | None
    """The records of all schemas and channels; None when the file does not list them."""

    def first_from(self, t_ns: int) -> int | None:
        """The offset of the first chunk that holds anything at or after a time; None when there is none."""
        late = np.flatnonzero(self.ends_ns >= np.uint64(min(max(t_ns, 0), _MAX_NS)))
        return int(self.offsets[late[0]]) if late.size else None

    def end_ns(self, longest_ns: int) -> int | None:
        """The latest time; None without any. A chunk longer than `longest_ns` holds a wrong stamp: its start counts."""
        if not self.offsets.size:
            return None
        believed = np.where(self.ends_ns - self.starts_ns <= np.uint64(longest_ns), self.ends_ns, self.starts_ns)
        return int(believed.max())


def chunks_of(stream: BinaryIO) -> Chunks:
    """Find the chunks of a file."""
    size = stream.seek(0, os.SEEK_END)
    return _listed_chunks(stream, size) or _seen_chunks(stream, size)


def records_from(stream: BinaryIO, t_ns: int) -> Iterator[Record]:
    """The records of a file from the first chunk on that holds anything at or after a time; schemas and channels first.

    Raises Damaged.
    """
    chunks = chunks_of(stream)
    offset = chunks.first_from(t_ns)
    if offset is None:
        return
    definitions = _definitions_before(stream, offset) if chunks.definitions is None else chunks.definitions
    stream.seek(offset)
    # As if the file began there.
    yield from records(io.BufferedReader(_Spliced(MAGIC + definitions, stream)))


def _listed_chunks(stream: BinaryIO, size: int) -> Chunks | None:
    """Return the chunks of the summary at the end of the file; None if there is none, or an implausible one."""
    tail = RECORD_HEAD.size + _FOOTER.size + len(MAGIC)
    stream.seek(max(0, size - tail))
    footer = stream.read(tail)
    if len(footer) < tail or RECORD_HEAD.unpack_from(footer) != (Opcode.FOOTER, _FOOTER.size):
        return None
    begin, _, crc = _FOOTER.unpack_from(footer, RECORD_HEAD.size)
    length = size - tail - begin
    if not begin or not 0 < length <= MAX_CHUNK_BYTES:
        return None
    stream.seek(begin)
    summary = stream.read(length)
    covered = summary + footer[: RECORD_HEAD.size + _SPAN.size]
    if crc and zlib.crc32(covered) != crc:
        return None
    found, definitions = array("Q"), []
    for opcode, record in _records_in(summary):
        body = memoryview(record)[RECORD_HEAD.size :]
        if opcode in DEFINITIONS:
            definitions.append(record)
        elif opcode == Opcode.CHUNK_INDEX and len(body) >= _CHUNK_INDEX_HEAD.size:
            found.extend(_CHUNK_INDEX_HEAD.unpack_from(body))
    rows = np.array(found, np.uint64).reshape(-1, 3)
    if not found or rows[:, 2].max() >= size or not all(_is_chunk(stream, offset) for offset in (found[2], found[-1])):
        return None
    rows = rows[np.argsort(rows[:, 2], kind="stable")]
    return Chunks(rows[:, 2], rows[:, 0], rows[:, 1], b"".join(definitions))


def _is_chunk(stream: BinaryIO, offset: int) -> bool:
    stream.seek(offset)
    return stream.read(1) == bytes([Opcode.CHUNK])


def _seen_chunks(stream: BinaryIO, size: int) -> Chunks:
    """Return the chunks by the heads of all records. Messages that stand outside of chunks count as one chunk."""
    found = array("Q")
    offset, loose = len(MAGIC), -1
    while True:
        stream.seek(offset)
        head = stream.read(RECORD_HEAD.size + _SPAN.size)
        if len(head) < RECORD_HEAD.size:
            break
        opcode, length = RECORD_HEAD.unpack_from(head)
        after = offset + RECORD_HEAD.size + length
        if not opcode or length > MAX_CHUNK_BYTES or after > size or opcode == Opcode.FOOTER:
            break
        if opcode == Opcode.CHUNK and length >= CHUNK_HEAD.size:
            found.extend((offset, *_SPAN.unpack_from(head, RECORD_HEAD.size)))
        elif opcode == Opcode.MESSAGE and length >= MESSAGE_HEAD.size:
            _, _, t_ns = _LOG_TIME.unpack_from(head, RECORD_HEAD.size)
            if loose < 0:
                loose = len(found)
                found.extend((offset, t_ns, t_ns))
            found[loose + 1], found[loose + 2] = min(found[loose + 1], t_ns), max(found[loose + 2], t_ns)
        offset = after
    rows = np.array(found, np.uint64).reshape(-1, 3)
    return Chunks(rows[:, 0], rows[:, 1], rows[:, 2], None)


def _definitions_before(stream: BinaryIO, end: int) -> bytes:
    """The schemas and channels that the file tells of before an offset, each once. Raises Damaged."""
    stream.seek(0)
    found: dict[bytes, None] = {}
    allowance = Allowance()
    for offset, opcode, body in frames(stream):
        if offset >= end:
            break
        if opcode == Opcode.CHUNK:
            found.update((r, None) for r in chunk_contents(offset, body, allowance, _as_it_stands, messages=False))
        elif opcode in DEFINITIONS:
            found[RECORD_HEAD.pack(opcode, len(body)) + body] = None
    return b"".join(found)


def _as_it_stands(_: int, opcode: int, body: memoryview) -> list[bytes]:
    return [RECORD_HEAD.pack(opcode, len(body)) + body]


def _records_in(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The records that stand one after the other as (opcode, record), up to one that is cut off."""
    at = 0
    while at + RECORD_HEAD.size <= len(data):
        opcode, length = RECORD_HEAD.unpack_from(data, at)
        end = at + RECORD_HEAD.size + length
        if end > len(data):
            return
        yield opcode, data[at:end]
        at = end


class _Spliced(io.RawIOBase):
    """Some bytes, followed by the rest of a file."""

    def __init__(self, first: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._first, self._rest = first, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the wider type needs Python 3.12
        if not self._first:
            data = self._rest.read(len(buffer))
        else:
            data, self._first = self._first[: len(buffer)], self._first[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)
