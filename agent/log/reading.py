"""The records of a log from front to back, distrusting the bytes: no index is needed, and no length is believed.

A log that was cut off (a killed recorder, a full disk, a partial copy) or damaged gives what stands before, then raises
`Damaged`. Memory is bounded by one chunk, and of a chunk beyond `MAX_CHUNK_BYTES` by one record. What all chunks
together cost is bounded by how long the file is: `Allowance`.

Source of the layout: the MCAP specification, https://mcap.dev/spec.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeVar

from mcap import records as mcap
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode

from agent.log.format import FACTS_RECORD, ReplayError, RunFacts
from agent.log.unpacking import (
    MAX_CHUNK_BYTES,
    RECORD_BYTES,
    RECORD_HEAD,
    UNPARSABLE,
    Allowance,
    Body,
    Damaged,
    NotMcap,
    PackedChunk,
    unpacked,
)
from common.printable import brief

MAGIC = b"\x89MCAP0\r\n"
MAX_DEFINITION_BYTES = 2**22
"""Size limit of a schema, a channel or a metadata record."""
_CHANNEL_BYTES = 16
"""Bytes of a channel that cost as much as a message: it holds a map."""

MESSAGE_HEAD = struct.Struct("<HIQQ")
DEFINITIONS = (Opcode.SCHEMA, Opcode.CHANNEL)
_MESSAGE = int(Opcode.MESSAGE)  # compared for every message
_BOUNDED = (*DEFINITIONS, Opcode.METADATA)
_READ = frozenset((*_BOUNDED, Opcode.HEADER, Opcode.MESSAGE, Opcode.CHUNK, Opcode.DATA_END, Opcode.FOOTER))
"""Kinds of records that are read. Others (attachments, indexes, private ones) are passed over, however large."""
_SPAN = struct.Struct("<QQ")
Span = Callable[[int, int], bool]
"""Says of the earliest and latest log time in a chunk whether its messages are wanted."""

Item = TypeVar("Item")
Record = mcap.Schema | mcap.Channel | mcap.Message | mcap.Metadata
"""Records that reading returns; indexes and statistics only repeat them."""


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
        raise ReplayError(
            f"{path}: has no record {FACTS_RECORD!r} of its run; `sensebind log import` makes a log of its samples"
        )
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


def frames(stream: BinaryIO) -> Iterator[tuple[int, int, Body]]:
    """The records of a file as (offset, opcode, body), chunks whole. Raises Damaged unless it ends as MCAP does.

    The bodies of attachments, indexes and private records are left out, as empty.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    offset = read_magic(stream, 0)
    opcode = 0
    while opcode != Opcode.FOOTER:
        opcode, body, after = frame_at(stream, offset, size)
        yield offset, opcode, body
        offset = after
    stream.seek(offset)
    read_magic(stream, offset)


def frame_at(stream: BinaryIO, offset: int, size: int) -> tuple[int, Body, int]:
    """Read a record of a file of `size` bytes: opcode, body as `frames` gives it, offset behind it. Raises Damaged."""
    stream.seek(offset)
    opcode, length = RECORD_HEAD.unpack(_read(stream, offset, RECORD_HEAD.size))
    begin = offset + RECORD_HEAD.size
    large = opcode == Opcode.CHUNK and length > MAX_CHUNK_BYTES
    if large or (opcode and opcode not in _READ):
        if begin + length > size:
            raise Damaged(offset, "the file ends inside a record")
        return opcode, PackedChunk(stream, begin, length) if large else b"", begin + length
    if not opcode or length > MAX_CHUNK_BYTES:
        raise Damaged(offset, f"record {opcode} of {length} bytes; {MAX_CHUNK_BYTES} are allowed")
    return opcode, _read(stream, offset, length), begin + length


def library_of(stream: BinaryIO) -> str:
    """The program that wrote a file; empty when it does not say."""
    size = stream.seek(0, os.SEEK_END)
    try:
        opcode, body, _ = frame_at(stream, len(MAGIC), size)
        if opcode == Opcode.HEADER and isinstance(body, bytes):
            return str(mcap.Header.read(ReadDataStream(BytesIO(body))).library)
        return ""
    except (*UNPARSABLE, Damaged):
        return ""


def chunk_records(offset: int, body: Body, allowance: Allowance, wanted: Span = _always) -> Iterator[Record]:
    """The records in a chunk whose checksum holds. Raises Damaged."""
    head = body.head if isinstance(body, PackedChunk) else body
    start_ns, end_ns = _SPAN.unpack_from(head) if len(head) >= _SPAN.size else (0, 0)
    return chunk_contents(offset, body, allowance, parse, messages=wanted(start_ns, end_ns))


def chunk_contents(
    offset: int,
    body: Body,
    allowance: Allowance,
    made: Callable[[int, int, memoryview], Iterable[Item]],
    *,
    messages: bool,
) -> Iterator[Item]:
    """Yield `made` of (offset, opcode, body) of the schemas, the channels and, if wanted, the messages of a chunk.

    Raises Damaged, also for any other record in a chunk.
    """
    allowance.read(len(body))
    most, taken = allowance.records, 0
    for opcode, record in unpacked(offset, body, allowance):
        taken += 1
        is_message = opcode == _MESSAGE
        if not is_message:
            if opcode not in DEFINITIONS:
                raise Damaged(offset, f"a chunk with a record {opcode}; schemas, channels and messages are allowed")
            taken += len(record) // _CHANNEL_BYTES if opcode == Opcode.CHANNEL else 0
        if taken > most:
            allowance.records = 0.0
            raise Damaged(offset, f"a chunk with more records than one for {RECORD_BYTES} bytes of the file")
        if messages or not is_message:
            yield from made(offset, opcode, record)
    allowance.records -= taken


def parse(offset: int, opcode: int, body: Body | memoryview) -> list[Record]:
    """The one record that a body holds, or none when it only repeats or indexes others. Raises Damaged."""
    if isinstance(body, PackedChunk):
        return []
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
