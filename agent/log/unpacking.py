"""Chunks of a log, unpacked without trust in what they say of their size.

Source of the layout: the MCAP specification, https://mcap.dev/spec.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO

import lz4.frame
import zstandard
from mcap.exceptions import McapError

from agent.log.format import LogError
from common.printable import brief, shortened

MAX_CHUNK_BYTES = 256 * 2**20
"""Size limit of a record, packed and unpacked. A chunk ends with the message that fills it; the largest message
is a raw picture of 133 MB."""

EXPANSION = 256
"""Bytes that a byte of a chunk may become on average: LZ4 reaches 255, zstd far more with equal bytes."""
FREE_BYTES = 16 * 2**20
"""Allowance beyond that, so that a short file may hold a long run of equal bytes."""
RECORD_BYTES = 4
"""Bytes of a file per record in its chunks, on average; compressed messages of real sensors take ten times that."""
FREE_RECORDS = 20_000
RECORD_HEAD = struct.Struct("<BQ")
CHUNK_HEAD = struct.Struct("<QQQII")
"""Start, end, size once decompressed, CRC of that, length of the compression's name."""

_MAX_WINDOW_BYTES = 2**27
"""Largest window of every zstd level except `--ultra --long`."""

UNPARSABLE = (McapError, ValueError, struct.error)
"""Errors of parsing bytes that are not a record."""

_MOST_CHUNK_HEAD = 256
"""Bytes in which the head of a chunk is looked for, with the name of its compression."""
_PART_BYTES = 2**20


class Damaged(LogError):
    """A log is cut off or damaged; `offset` is where, in bytes."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"cut off or damaged at byte {offset}: {shortened(what, 300)}")
        self.offset = offset


class NotMcap(Damaged):
    """The bytes do not begin, or do not end, as MCAP does."""


class Allowance:
    """Bytes and records to which the chunks of one file may expand, by how much of the file has been read.

    Without it, a kilobyte can stand for a hundred million records, each of which costs some microseconds.
    """

    def __init__(self) -> None:
        self._bytes = float(FREE_BYTES)
        self.records = float(FREE_RECORDS)
        """Number of records that may still come."""

    def read(self, size: int) -> None:
        """Note that this many bytes of the file were read."""
        self._bytes += size * EXPANSION
        self.records += size / RECORD_BYTES

    def expand(self, offset: int, size: int) -> None:
        """A chunk wants to become so many bytes. Raises Damaged."""
        if size > self._bytes:
            raise Damaged(offset, f"a chunk of {size} bytes once decompressed; {EXPANSION} a byte are allowed in all")
        self._bytes -= size


class PackedChunk:
    """Body of a chunk of more than MAX_CHUNK_BYTES, which is unpacked as it is read, twice: for its checksum first."""

    def __init__(self, stream: BinaryIO, begin: int, length: int) -> None:
        self._stream, self._begin, self._length = stream, begin, length
        stream.seek(begin)
        self.head = stream.read(_MOST_CHUNK_HEAD)

    def __len__(self) -> int:
        return self._length

    def unpacked(self, offset: int) -> tuple[int, int, IO[bytes]]:
        """Return the declared size, the checksum, and what reads the contents. Raises Damaged."""
        size, crc, compression, packed_at, length = _chunk_head(offset, self.head)
        if packed_at + length != self._length:
            raise Damaged(offset, f"a chunk of {length} bytes in a record of {self._length}")
        part = _Part(self._stream, self._begin + packed_at, length)
        return size, crc, _reader(offset, compression, io.BufferedReader(part, _PART_BYTES))


class _Part(io.RawIOBase):
    """Some bytes of a file, whoever else reads it."""

    def __init__(self, stream: BinaryIO, begin: int, length: int) -> None:
        super().__init__()
        self._stream, self._at, self._end = stream, begin, begin + length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the wider type needs Python 3.12
        self._stream.seek(self._at)
        data = self._stream.read(min(len(buffer), self._end - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


Body = bytes | PackedChunk
"""Body of a record."""


def unpacked(offset: int, body: Body, allowance: Allowance) -> Iterator[tuple[int, memoryview]]:
    """The records of a chunk whose checksum holds, as (opcode, body). Raises Damaged.

    One that is larger than MAX_CHUNK_BYTES, packed or not, is unpacked as it is read.
    """
    if isinstance(body, bytes):
        if _chunk_head(offset, body)[0] <= MAX_CHUNK_BYTES:
            yield from _records_in(offset, memoryview(_whole(offset, body, allowance)))
            return
        body = PackedChunk(io.BytesIO(body), 0, len(body))
    yield from _parts(offset, body, allowance)


def _parts(offset: int, chunk: PackedChunk, allowance: Allowance) -> Iterator[tuple[int, memoryview]]:
    """The records of a large chunk as (opcode, body), one in memory at a time. Raises Damaged."""
    size, crc, reader = chunk.unpacked(offset)
    allowance.expand(offset, size)
    found = found_crc = 0
    with _told(offset), reader:
        while block := reader.read(_PART_BYTES):
            found, found_crc = found + len(block), zlib.crc32(block, found_crc)
            if found > size:
                break
    _check_contents(offset, size, has_size=found == size, has_crc=not crc or crc == found_crc)
    _, _, reader = chunk.unpacked(offset)
    at = 0
    with reader:
        while at < size:
            with _told(offset):
                head = reader.read(RECORD_HEAD.size)
                opcode, length = RECORD_HEAD.unpack(head) if len(head) == RECORD_HEAD.size else (0, size)
                at += RECORD_HEAD.size + length
                if at > size:
                    raise Damaged(offset, "a chunk that ends inside a record")
                if length > MAX_CHUNK_BYTES:
                    raise Damaged(offset, f"record {opcode} of {length} bytes; {MAX_CHUNK_BYTES} are allowed")
                body = reader.read(length)
            yield opcode, memoryview(body)


def _records_in(offset: int, data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The records of an unpacked chunk as (opcode, body). Raises Damaged."""
    size, at = len(data), 0
    while at < size:
        begin = at + RECORD_HEAD.size
        opcode, length = RECORD_HEAD.unpack_from(data, at) if begin <= size else (0, size)
        at = begin + length
        if at > size:
            raise Damaged(offset, "a chunk that ends inside a record")
        yield opcode, data[begin:at]


def _whole(offset: int, body: bytes, allowance: Allowance) -> bytes:
    """Return the contents of a chunk, decompressed and checked. Raises Damaged."""
    size, crc, compression, packed_at, length = _chunk_head(offset, body)
    packed = body[packed_at:]
    if length != len(packed) or size > MAX_CHUNK_BYTES:
        raise Damaged(offset, f"a chunk of {length} bytes, {size} once decompressed; {MAX_CHUNK_BYTES} are allowed")
    allowance.expand(offset, size)
    data = packed
    if compression:
        with _told(offset), _reader(offset, compression, io.BytesIO(packed)) as reader:
            data = reader.read(size + 1)  # no more, however large the packed data would become
    _check_contents(offset, size, has_size=len(data) == size, has_crc=not crc or zlib.crc32(data) == crc)
    return data


def _chunk_head(offset: int, body: bytes) -> tuple[int, int, str, int, int]:
    """Size once decompressed, checksum, compression, place and length of the packed data. Raises Damaged."""
    try:
        _, _, size, crc, name_length = CHUNK_HEAD.unpack_from(body)
        at = CHUNK_HEAD.size + name_length
        (length,) = struct.unpack_from("<Q", body, at)
        return size, crc, body[CHUNK_HEAD.size : at].decode(), at + 8, length
    except UNPARSABLE as error:
        raise Damaged(offset, f"not a chunk: {error}") from None


def _check_contents(offset: int, size: int, *, has_size: bool, has_crc: bool) -> None:
    """Raises Damaged."""
    if not has_size:
        raise Damaged(offset, f"a chunk that holds other than the {size} bytes it declares")
    if not has_crc:
        raise Damaged(offset, "a chunk whose checksum is wrong")


@contextmanager
def _told(offset: int) -> Iterator[None]:
    """Raise Damaged in place of what decompressors raise."""
    try:
        yield
    except (RuntimeError, EOFError, zstandard.ZstdError) as error:
        raise Damaged(offset, f"a chunk that cannot be decompressed: {error}") from None


def _reader(offset: int, compression: str, packed: IO[bytes]) -> IO[bytes]:
    """What reads the contents of a packed chunk. Consecutive frames are one. Raises Damaged."""
    match compression:
        case "":
            return packed
        case "lz4":
            opened: IO[bytes] = lz4.frame.open(packed)
            return opened
        case "zstd":
            return zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).stream_reader(
                packed, read_across_frames=True
            )
    raise Damaged(offset, f"a chunk compressed by {brief(compression)}; lz4 and zstd are known")
