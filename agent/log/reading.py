"""The records of a log from front to back, distrusting the bytes: no index is needed, and no length is believed.

A log that was cut off (a killed recorder, a full disk, a partial copy) or damaged gives what stands before, then raises
`Damaged`. Memory is bounded by one chunk, and a chunk by `MAX_CHUNK_BYTES`, also once decompressed. What all chunks
together cost is bounded by how long the file is: `Allowance`.

Source of the layout: the MCAP specification, https://mcap.dev/spec.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeVar

import lz4.frame
import zstandard
from mcap import records as mcap
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode

from agent.log.format import FACTS_RECORD, LogError, ReplayError, RunFacts
from common.printable import brief, shortened

MAGIC = b"\x89MCAP0\r\n"
MAX_CHUNK_BYTES = 256 * 2**20
"""Size limit of a record, packed and unpacked. A chunk ends with the message that fills it; the largest message
is a raw picture of 133 MB."""

MAX_DEFINITION_BYTES = 2**22
"""Size limit of a schema, a channel or a metadata record."""
EXPANSION = 256
"""Bytes that a byte of a chunk may become on average: LZ4 reaches 255, zstd far more with equal bytes."""
FREE_BYTES = 16 * 2**20
"""Allowance beyond that, so that a short file may hold a long run of equal bytes."""
RECORD_BYTES = 4
"""Bytes of a file per record in its chunks, on average; compressed messages of real sensors take ten times that."""
FREE_RECORDS = 20_000
_CHANNEL_BYTES = 16
"""Bytes of a channel that cost as much as a message: it holds a map."""

RECORD_HEAD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")
CHUNK_HEAD = struct.Struct("<QQQII")
"""Start, end, size once decompressed, CRC of that, length of the compression's name."""

DEFINITIONS = (Opcode.SCHEMA, Opcode.CHANNEL)
_MESSAGE = int(Opcode.MESSAGE)  # compared for every message
_BOUNDED = (*DEFINITIONS, Opcode.METADATA)
_READ = frozenset((*_BOUNDED, Opcode.HEADER, Opcode.MESSAGE, Opcode.CHUNK, Opcode.DATA_END, Opcode.FOOTER))
"""Kinds of records that are read. Others (attachments, indexes, private ones) are passed over, however large."""
_SPAN = struct.Struct("<QQ")
_MAX_WINDOW_BYTES = 2**27
"""Largest window of every zstd level except `--ultra --long`."""

UNPARSABLE = (McapError, ValueError, struct.error)
"""Errors of parsing bytes that are not a record."""

Span = Callable[[int, int], bool]
"""Says of the earliest and latest log time in a chunk whether its messages are wanted."""

Item = TypeVar("Item")
Record = mcap.Schema | mcap.Channel | mcap.Message | mcap.Metadata
"""Records that reading returns; indexes and statistics only repeat them."""


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


def open_log(path: Path) -> BinaryIO:
    """Open a file for reading. Raises ReplayError."""
    try:
        return path.open("rb")
    except OSError as error:
        raise ReplayError(f"{path}: cannot be read: {error.strerror}; give the path of a log") from None


def facts_of(path: Path) -> RunFacts:
    """Read what a log says of its run. Raises ReplayError."""
    with open_log(path) as stream:
        record = _find_facts(path, stream)
    if record is None:
        raise ReplayError(f"{path}: has no record {FACTS_RECORD!r}; sensebind replays only what it recorded itself")
    try:
        return RunFacts.from_record(record)
    except ValueError as error:
        raise ReplayError(f"{path}: its record {FACTS_RECORD!r} cannot be used: {error}") from None


def _find_facts(path: Path, stream: BinaryIO) -> dict[str, str] | None:
    try:
        return metadata_of(stream, FACTS_RECORD)
    except Damaged as damage:
        if isinstance(damage, NotMcap) and damage.offset == 0:
            raise ReplayError(f"{path}: not a log; give an MCAP file that sensebind recorded") from None
        if damage.offset < len(MAGIC):
            raise ReplayError(f"{path}: is empty, or cut off within its first bytes") from None
    return None


def metadata_of(stream: BinaryIO, name: str) -> dict[str, str] | None:
    """The first metadata record of a name, wherever it stands; None when there is none. Raises Damaged."""
    for offset, opcode, body in frames(stream):
        for record in parse(offset, opcode, body) if opcode == Opcode.METADATA else ():
            if isinstance(record, mcap.Metadata) and record.name == name:
                return record.metadata
    return None


def _always(_start_ns: int, _end_ns: int) -> bool:
    return True


def records(stream: BinaryIO, wanted: Span = _always) -> Iterator[Record]:
    """The records of a log up to its last byte; a message comes after its channel and its schema. Raises Damaged.

    The messages of chunks that are not `wanted` are passed over.
    """
    schemas: set[int] = {0}  # 0 stands for a channel without a schema
    channels: set[int] = set()
    allowance = Allowance()
    for offset, opcode, body in frames(stream):
        is_chunk = opcode == Opcode.CHUNK
        found = chunk_records(offset, body, allowance, wanted) if is_chunk else parse(offset, opcode, body)
        for record in found:
            if isinstance(record, mcap.Schema):
                schemas.add(record.id)
            elif isinstance(record, mcap.Channel):
                if record.schema_id not in schemas:
                    raise Damaged(offset, f"channel {brief(record.topic)} of a schema that was not declared")
                channels.add(record.id)
            elif isinstance(record, mcap.Message) and record.channel_id not in channels:
                raise Damaged(offset, f"a message of channel {record.channel_id}, which was not declared")
            yield record


def frames(stream: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """The records of a file as (offset, opcode, body), chunks whole. Raises Damaged unless it ends as MCAP does.

    The bodies of attachments, indexes and private records are left out, as empty.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    offset = read_magic(stream, 0)
    opcode = 0
    while opcode != Opcode.FOOTER:
        opcode, body = frame_at(stream, offset, size)
        yield offset, opcode, body
        offset = stream.tell()
    read_magic(stream, offset)


def frame_at(stream: BinaryIO, offset: int, size: int) -> tuple[int, bytes]:
    """Read a record of a file of `size` bytes, as `frames` gives it; leaves the stream behind it. Raises Damaged."""
    stream.seek(offset)
    opcode, length = RECORD_HEAD.unpack(_read(stream, offset, RECORD_HEAD.size))
    if opcode and opcode not in _READ:
        if offset + RECORD_HEAD.size + length > size:
            raise Damaged(offset, "the file ends inside a record")
        stream.seek(length, os.SEEK_CUR)
        return opcode, b""
    if not opcode or length > MAX_CHUNK_BYTES:
        raise Damaged(offset, f"record {opcode} of {length} bytes; {MAX_CHUNK_BYTES} are allowed")
    return opcode, _read(stream, offset, length)


def library_of(stream: BinaryIO) -> str:
    """The program that wrote a file; empty when it does not say."""
    size = stream.seek(0, os.SEEK_END)
    try:
        opcode, body = frame_at(stream, len(MAGIC), size)
        return mcap.Header.read(ReadDataStream(BytesIO(body))).library if opcode == Opcode.HEADER else ""
    except (*UNPARSABLE, Damaged):
        return ""


def chunk_records(offset: int, body: bytes, allowance: Allowance, wanted: Span = _always) -> Iterator[Record]:
    """The records in a chunk whose checksum holds. Raises Damaged."""
    start_ns, end_ns = _SPAN.unpack_from(body) if len(body) >= _SPAN.size else (0, 0)
    return chunk_contents(offset, body, allowance, parse, messages=wanted(start_ns, end_ns))


def chunk_contents(
    offset: int,
    body: bytes,
    allowance: Allowance,
    made: Callable[[int, int, memoryview], Iterable[Item]],
    *,
    messages: bool,
) -> Iterator[Item]:
    """Yield `made` of (offset, opcode, body) of the schemas, the channels and, if wanted, the messages of a chunk.

    Raises Damaged, also for any other record in a chunk.
    """
    allowance.read(len(body))
    data = memoryview(_unpacked(offset, body, allowance))
    size, most, at, taken = len(data), allowance.records, 0, 0
    while at < size:
        begin = at + RECORD_HEAD.size
        opcode, length = RECORD_HEAD.unpack_from(data, at) if begin <= size else (0, size)
        at = begin + length
        if at > size:
            raise Damaged(offset, "a chunk that ends inside a record")
        taken += 1
        is_message = opcode == _MESSAGE
        if not is_message:
            if opcode not in DEFINITIONS:
                raise Damaged(offset, f"a chunk with a record {opcode}; schemas, channels and messages are allowed")
            taken += length // _CHANNEL_BYTES if opcode == Opcode.CHANNEL else 0
        if taken > most:
            allowance.records = 0.0
            raise Damaged(offset, f"a chunk with more records than one for {RECORD_BYTES} bytes of the file")
        if messages or not is_message:
            yield from made(offset, opcode, data[begin:at])
    allowance.records -= taken


def _unpacked(offset: int, body: bytes, allowance: Allowance) -> bytes:
    """Return the contents of a chunk, decompressed and checked. Raises Damaged."""
    try:
        _, _, size, crc, name_length = CHUNK_HEAD.unpack_from(body)
        at = CHUNK_HEAD.size + name_length
        compression = body[CHUNK_HEAD.size : at].decode()
        (length,) = struct.unpack_from("<Q", body, at)
    except UNPARSABLE as error:
        raise Damaged(offset, f"not a chunk: {error}") from None
    packed = body[at + 8 :]
    if length != len(packed) or size > MAX_CHUNK_BYTES:
        raise Damaged(offset, f"a chunk of {length} bytes, {size} once decompressed; {MAX_CHUNK_BYTES} are allowed")
    allowance.expand(offset, size)
    data = _decompress(offset, compression, packed, size)
    if len(data) != size:
        raise Damaged(offset, f"a chunk that holds other than the {size} bytes it declares")
    if crc and zlib.crc32(data) != crc:
        raise Damaged(offset, "a chunk whose checksum is wrong")
    return data


def parse(offset: int, opcode: int, body: bytes | memoryview) -> list[Record]:
    """The one record that a body holds, or none when it only repeats or indexes others. Raises Damaged."""
    if len(body) > MAX_DEFINITION_BYTES and opcode in _BOUNDED:
        raise Damaged(offset, f"record {opcode} of {len(body)} bytes; {MAX_DEFINITION_BYTES} are allowed")
    try:
        match opcode:
            case Opcode.MESSAGE:
                channel, sequence, log_ns, publish_ns = MESSAGE_HEAD.unpack_from(body)
                return [mcap.Message(channel, log_ns, bytes(body[MESSAGE_HEAD.size :]), publish_ns, sequence)]
            case Opcode.SCHEMA:
                return [mcap.Schema.read(ReadDataStream(BytesIO(body)))]
            case Opcode.CHANNEL:
                return [mcap.Channel.read(ReadDataStream(BytesIO(body)))]
            case Opcode.METADATA:
                return [mcap.Metadata.read(ReadDataStream(BytesIO(body)))]
    except UNPARSABLE as error:
        what = str(error) or type(error).__name__
        raise Damaged(offset, f"record {opcode} of {len(body)} bytes: {what}") from None
    return []


def _decompress(offset: int, compression: str, packed: bytes, size: int) -> bytes:
    """Return at most one byte more than `size`, however large the packed data would become. Consecutive frames are
    one.
    """
    try:
        match compression:
            case "":
                return packed
            case "lz4":
                frame = lz4.frame.LZ4FrameDecompressor()
                data: bytes = frame.decompress(packed, max_length=size + 1)
                if frame.eof and frame.unused_data and len(data) <= size:
                    with lz4.frame.open(BytesIO(frame.unused_data)) as rest:
                        data += rest.read(size + 1 - len(data))
                return data
            case "zstd":
                unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
                with unpacker.stream_reader(packed, read_across_frames=True) as reader:
                    return reader.read(size + 1)
    except (RuntimeError, EOFError, zstandard.ZstdError) as error:
        raise Damaged(offset, f"a chunk that cannot be decompressed: {error}") from None
    raise Damaged(offset, f"a chunk compressed by {brief(compression)}; lz4 and zstd are known")


def _read(stream: BinaryIO, offset: int, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise Damaged(offset, "the file ends inside a record" if data else "the file ends without its footer")
    return data


def read_magic(stream: BinaryIO, offset: int) -> int:
    """Return the offset behind it."""
    magic = stream.read(len(MAGIC))
    if len(magic) < len(MAGIC):
        raise Damaged(offset + len(magic), "the file ends within its first or last bytes")
    if magic != MAGIC:
        raise NotMcap(offset, f"{magic!r} where MCAP has {MAGIC!r}")
    return offset + len(MAGIC)
