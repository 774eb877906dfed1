"""Places of a log file at which messages stand, with their times: by its index, else by the heads of its records.

A place is a chunk, or some neighbouring messages that stand outside of chunks. Times here are log times, which are
capture times. A chunk that is wrong about its times costs what it hides, not the rest.

Source of the layout: the MCAP specification, https://mcap.dev/spec.
"""

from __future__ import annotations

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

from agent.log.reading import DEFINITIONS, MAGIC, MESSAGE_HEAD, read_magic
from agent.log.unpacking import CHUNK_HEAD, MAX_CHUNK_BYTES, RECORD_HEAD, Damaged

LOOSE_BYTES = 2**18
"""Messages outside of chunks are one place up to this size."""

_FOOTER = struct.Struct("<QQI")
"""Begin of the summary, begin of its offsets, and the CRC of both with the fields of the footer before it."""
_SPAN = struct.Struct("<QQ")
_CHUNK_INDEX_HEAD = struct.Struct("<QQQQI")
"""Start, end, offset and length of the chunk, length of its map of message indexes; after that their length in all."""
_SIZE = struct.Struct("<Q")
_LOG_TIME = struct.Struct("<HIQ")
"""The beginning of a message: channel, sequence, log time."""
_COLUMNS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """The places of one file in the order in which they lie there; 32 bytes of memory each."""

    offsets: NDArray[np.uint64]
    lengths: NDArray[np.uint64]
    """Bytes of the file, heads of records included."""
    starts_ns: NDArray[np.uint64]
    """The earliest log time in each."""
    ends_ns: NDArray[np.uint64]
    """Latest time in each."""
    definitions: bytes | None
    """The records of all schemas and channels; None when the file does not list them."""
    damage: Damaged | None
    """Fault at which the search for places ended; None when the file ends as MCAP does."""

    def end_ns(self, longest_ns: int) -> int | None:
        """The latest time; None without any. A place longer than `longest_ns` holds a wrong stamp: its start counts."""
        if not self.offsets.size:
            return None
        believed = np.where(self.ends_ns - self.starts_ns <= np.uint64(longest_ns), self.ends_ns, self.starts_ns)
        return int(believed.max())


def places_of(stream: BinaryIO) -> Places:
    """Find the places of a file."""
    size = stream.seek(0, os.SEEK_END)
    return _listed(stream, size) or _seen(stream, size)


def _listed(stream: BinaryIO, size: int) -> Places | None:
    """Return the places by the summary at the end of the file; None if there is none, or an implausible one."""
    tail = RECORD_HEAD.size + _FOOTER.size + len(MAGIC)
    stream.seek(max(0, size - tail))
    footer = stream.read(tail)
    if len(footer) < tail or RECORD_HEAD.unpack_from(footer) != (Opcode.FOOTER, _FOOTER.size):
        return None
    begin, _, crc = _FOOTER.unpack_from(footer, RECORD_HEAD.size)
    length = size - tail - begin
    if not footer.endswith(MAGIC) or not begin or not 0 < length <= MAX_CHUNK_BYTES:
        return None
    stream.seek(begin)
    summary = stream.read(length)
    covered = summary + footer[: RECORD_HEAD.size + _SPAN.size]
    if crc and zlib.crc32(covered) != crc:
        return None
    listed, index_bytes, definitions = array("Q"), array("Q"), []
    for opcode, record in _records_in(summary):
        body = memoryview(record)[RECORD_HEAD.size :]
        if opcode in DEFINITIONS:
            definitions.append(record)
        elif opcode == Opcode.CHUNK_INDEX and len(body) >= _CHUNK_INDEX_HEAD.size:
            start_ns, end_ns, offset, chunk_bytes, map_bytes = _CHUNK_INDEX_HEAD.unpack_from(body)
            listed.extend((offset, chunk_bytes, start_ns, end_ns))
            at = _CHUNK_INDEX_HEAD.size + map_bytes
            index_bytes.extend(_SIZE.unpack_from(body, at) if at + _SIZE.size <= len(body) else (0,))
    rows = np.array(listed, np.uint64).reshape(-1, _COLUMNS)
    if not listed or rows[:, :2].max() >= size or not all(_is_chunk(stream, row[0]) for row in rows[[0, -1]].tolist()):
        return None
    order = np.argsort(rows[:, 0], kind="stable")
    rows = rows[order]
    # Chunks are followed by their indexes. Whatever else stands between them may be messages.
    between, at = array("Q"), len(MAGIC)
    after = (rows[:, 1] + np.array(index_bytes, np.uint64)[order]).tolist()
    for (offset, *_), length in zip(rows.tolist(), after, strict=True):
        if offset < at or _scan(stream, at, offset, between) is not None:
            return None
        at = offset + length
    if at > begin or _scan(stream, at, begin, between) is not None:
        return None
    if between:
        rows = np.concatenate([rows, np.array(between, np.uint64).reshape(-1, _COLUMNS)])
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return _places(rows, b"".join(definitions), None)


def _is_chunk(stream: BinaryIO, offset: int) -> bool:
    stream.seek(offset)
    return stream.read(1) == bytes([Opcode.CHUNK])


def _seen(stream: BinaryIO, size: int) -> Places:
    """Return the places by the heads of all records."""
    found = array("Q")
    damage = _unlike_magic(stream, 0) or _scan(stream, len(MAGIC), size, found, whole=True)
    return _places(np.array(found, np.uint64).reshape(-1, _COLUMNS), None, damage)


def _places(rows: NDArray[np.uint64], definitions: bytes | None, damage: Damaged | None) -> Places:
    offsets, lengths, starts_ns, ends_ns = rows.T
    return Places(offsets, lengths, starts_ns, ends_ns, definitions, damage)


def _unlike_magic(stream: BinaryIO, offset: int) -> Damaged | None:
    """Return the fault of a file that has no magic bytes at an offset."""
    stream.seek(offset)
    try:
        read_magic(stream, offset)
    except Damaged as damage:
        return damage
    return None


def _scan(stream: BinaryIO, begin: int, end: int, found: array[int], *, whole: bool = False) -> Damaged | None:
    """Add (offset, length, start, end) of each place between two offsets; return the fault that ended the search.

    The records must end where `end` is; those of a whole file with its footer.
    """
    at, loose = begin, False
    while at < end:
        stream.seek(at)
        head = stream.read(RECORD_HEAD.size + MESSAGE_HEAD.size)
        opcode, length = RECORD_HEAD.unpack_from(head) if len(head) >= RECORD_HEAD.size else (0, 0)
        after = at + RECORD_HEAD.size + length
        if not opcode or after > end:
            return Damaged(at, "the file ends inside a record" if opcode else "no record")
        if opcode == Opcode.FOOTER:
            return _unlike_magic(stream, after)
        if opcode == Opcode.CHUNK and length >= CHUNK_HEAD.size:
            found.extend((at, after - at, *_SPAN.unpack_from(head, RECORD_HEAD.size)))
            loose = False
        elif opcode == Opcode.MESSAGE and length >= MESSAGE_HEAD.size:
            _, _, t_ns = _LOG_TIME.unpack_from(head, RECORD_HEAD.size)
            if not loose or after - found[-4] > LOOSE_BYTES:
                found.extend((at, 0, t_ns, t_ns))
            found[-3], found[-2], found[-1] = after - found[-4], min(found[-2], t_ns), max(found[-1], t_ns)
            loose = True
        at = after
    return Damaged(at, "the file ends without its footer") if whole else None


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
