"""Writes MCAP: chunks with their indexes, and the summary at the end. Knows nothing of disks and of what messages mean.

Own code rather than mcap's `Writer`, for what that cannot do: end a chunk before it grows too large, compress one chunk
and not the next, keep the index out of memory, and repeat schemas and channels, so that a chunk that is lost does not
take the rest of the file with it.

Source of the layout: the MCAP specification, https://mcap.dev/spec.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO

import lz4.frame
from mcap import records as mcap
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode

from agent.log.format import SEQUENCE_MASK
from agent.log.reading import MAGIC, MESSAGE_HEAD
from agent.log.unpacking import CHUNK_HEAD, RECORD_HEAD
from common.versions import version_of

LIBRARY = "sensebind"
"""Name of this program in the header of a file, before its version: samples lie in the order in which they came."""
REDEFINE_CHUNKS = 64
"""Number of chunks after which schemas and channels are written again: 12 kB in 16 MB."""
INDEX_BYTES_IN_MEMORY = 2**20
_BLOCK_BYTES = 2**18
_MAX_NS = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic, and what its messages are; without a schema when that has no name."""

    topic: str
    schema: str
    """Name of the schema."""
    schema_data: bytes
    schema_encoding: str = "protobuf"
    message_encoding: str = "protobuf"
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Beside:
    """A message that is written with another one, into the same chunk."""

    channel: Channel
    sequence: int
    log_ns: int
    data: bytes

    @property
    def size(self) -> int:
        """Bytes in a chunk."""
        return RECORD_HEAD.size + MESSAGE_HEAD.size + len(self.data)


class _Chunk:
    """Messages that are written together."""

    def __init__(self) -> None:
        self.size = 0
        self.start_ns = _MAX_NS
        self.end_ns = 0
        self.compress = False
        self.parts: list[bytes] = []
        self.index: dict[int, array[int]] = {}
        """Log time and offset of each message, one after the other, by channel."""

    def add(self, data: bytes) -> None:
        self.parts.append(data)
        self.size += len(data)

    def add_message(self, channel: int, sequence: int, log_ns: int, publish_ns: int, data: bytes) -> None:
        self.index.setdefault(channel, array("Q")).extend((log_ns, self.size))
        head = RECORD_HEAD.pack(Opcode.MESSAGE, MESSAGE_HEAD.size + len(data))
        self.add(head + MESSAGE_HEAD.pack(channel, sequence, log_ns, publish_ns) + data)
        self.start_ns, self.end_ns = min(self.start_ns, log_ns), max(self.end_ns, log_ns)


class LogWriter:
    """Writes one file through `write`, which appends all that it is given or raises; what it raises comes out.

    A chunk is written before a message would make it larger than `chunk_bytes`, and by `end_chunk`. Memory is
    bounded by one chunk and INDEX_BYTES_IN_MEMORY: a larger index goes to a temporary file.
    """

    def __init__(self, write: Callable[[bytes], None], chunk_bytes: int, library: str = "") -> None:
        """Write a header that names a `library`, by default this program."""
        self.size = 0
        """Number of bytes written."""
        self._sink = write
        self._chunk_bytes = chunk_bytes
        self._chunk = _Chunk()
        self._schemas: dict[tuple[str, str, bytes], mcap.Schema] = {}
        self._channels: dict[Channel, tuple[mcap.Schema | None, mcap.Channel]] = {}
        self._defined: set[Channel | int] = set()
        """Channels, and numbers of schemas, that the last chunks tell of."""
        self._chunk_indexes: IO[bytes] | None = None
        self._metadata_indexes: list[mcap.MetadataIndex] = []
        self._counts: Counter[int] = Counter()
        self.chunks = 0
        """Number of chunks written."""
        self._start_ns, self._end_ns = _MAX_NS, 0
        self._write(MAGIC + _packed(mcap.Header("", library or f"{LIBRARY} {version_of(LIBRARY)}")))

    def add_metadata(self, name: str, record: dict[str, str]) -> None:
        """Write a metadata record; it stands before the messages of the chunk that is being filled."""
        data = _packed(mcap.Metadata(name, record))
        self._write(data)
        self._metadata_indexes.append(mcap.MetadataIndex(self.size - len(data), len(data), name))

    def add_message(
        self,
        channel: Channel,
        sequence: int,
        log_ns: int,
        publish_ns: int,
        data: bytes,
        *,
        compress: bool = False,
        beside: Sequence[Beside] = (),
    ) -> None:
        """Put a message into the chunk, and those beside it."""
        if not self.fits(data, beside):
            self.end_chunk()
        number = self._define(channel)
        self._chunk.add_message(number, sequence & SEQUENCE_MASK, log_ns, publish_ns, data)
        for other in beside:
            number = self._define(other.channel)
            self._chunk.add_message(number, other.sequence, other.log_ns, other.log_ns, other.data)
        self._chunk.compress |= compress

    def fits(self, data: bytes, beside: Sequence[Beside] = ()) -> bool:
        """Return whether the chunk has room for a message and those beside it."""
        size = len(data) + sum(other.size for other in beside)
        return not self._chunk.index or self._chunk.size + size <= self._chunk_bytes

    def end_chunk(self) -> None:
        """Write what the chunk holds, if anything; when that fails it can be tried again."""
        chunk = self._chunk
        if not chunk.index:
            return
        data = b"".join(chunk.parts)
        name, packed = (b"lz4", lz4.frame.compress(data)) if chunk.compress else (b"", data)
        head = CHUNK_HEAD.pack(chunk.start_ns, chunk.end_ns, len(data), zlib.crc32(data), len(name))
        begin, size = self.size, len(head) + len(name) + 8 + len(packed)
        record = [RECORD_HEAD.pack(Opcode.CHUNK, size), head, name, struct.pack("<Q", len(packed)), packed]
        index_begin = index_at = begin + RECORD_HEAD.size + size
        offsets = b""
        for channel, entries in chunk.index.items():
            record.append(_message_index(channel, entries))
            offsets += struct.pack("<HQ", channel, index_at)
            index_at += len(record[-1])
        self._write(b"".join(record))
        self._chunk = _Chunk()
        index = struct.pack("<QQQQI", chunk.start_ns, chunk.end_ns, begin, index_begin - begin, len(offsets)) + offsets
        index += struct.pack("<QI", index_at - index_begin, len(name)) + name
        index += struct.pack("<QQ", len(packed), len(data))
        if self._chunk_indexes is None:
            self._chunk_indexes = SpooledTemporaryFile(INDEX_BYTES_IN_MEMORY)  # noqa: SIM115  `close` closes it
        self._chunk_indexes.write(RECORD_HEAD.pack(Opcode.CHUNK_INDEX, len(index)) + index)
        self._counts.update({channel: len(entries) // 2 for channel, entries in chunk.index.items()})
        self._start_ns, self._end_ns = min(self._start_ns, chunk.start_ns), max(self._end_ns, chunk.end_ns)
        self.chunks += 1
        if self.chunks % REDEFINE_CHUNKS == 0:
            self._defined.clear()

    def drop_chunk(self) -> None:
        """Leave out what the chunk holds."""
        self._chunk = _Chunk()

    def finish(self) -> None:
        """Write the last chunk, the summary and the end of the file."""
        self.end_chunk()
        end = _packed(mcap.DataEnd(0))
        begin = at = self.size + len(end)
        crc, held = 0, [end]
        groups: list[tuple[Opcode, Iterable[bytes]]] = [
            (Opcode.SCHEMA, map(_packed, self._schemas.values())),
            (Opcode.CHANNEL, (_packed(record) for _, record in self._channels.values())),
            (Opcode.STATISTICS, [_packed(self._statistics())]),
            (Opcode.CHUNK_INDEX, self._read_chunk_indexes()),
            (Opcode.METADATA_INDEX, map(_packed, self._metadata_indexes)),
        ]
        offsets = b""
        for opcode, blocks in groups:
            group_begin = at
            for block in blocks:
                crc = zlib.crc32(block, crc)
                at += len(block)
                held.append(block)
                # In few pieces: a slow disk takes its time for each.
                if at - self.size >= _BLOCK_BYTES:
                    self._write(b"".join(held))
                    held = []
            if at > group_begin:
                offsets += _packed(mcap.SummaryOffset(opcode, group_begin, at - group_begin))
        footer = RECORD_HEAD.pack(Opcode.FOOTER, 20) + struct.pack("<QQ", begin, at)
        crc = zlib.crc32(footer, zlib.crc32(offsets, crc))
        self._write(b"".join([*held, offsets, footer, struct.pack("<I", crc), MAGIC]))

    def close(self) -> None:
        """Close the temporary file; may be called again."""
        if self._chunk_indexes:
            self._chunk_indexes.close()

    def _write(self, data: bytes) -> None:
        self._sink(data)
        self.size += len(data)

    def _define(self, channel: Channel) -> int:
        """The number of a channel, which the chunks tell of from now on."""
        if channel not in self._channels:
            schema = self._schema(channel) if channel.schema else None
            number, metadata = len(self._channels) + 1, dict(channel.metadata)
            schema_id = schema.id if schema else 0
            record = mcap.Channel(number, channel.topic, channel.message_encoding, metadata, schema_id)
            self._channels[channel] = schema, record
        schema, record = self._channels[channel]
        if channel not in self._defined:
            if schema and schema.id not in self._defined:
                self._defined.add(schema.id)
                self._chunk.add(_packed(schema))
            self._defined.add(channel)
            self._chunk.add(_packed(record))
        return record.id

    def _schema(self, channel: Channel) -> mcap.Schema:
        key = (channel.schema, channel.schema_encoding, channel.schema_data)
        schema = mcap.Schema(len(self._schemas) + 1, channel.schema_data, channel.schema_encoding, channel.schema)
        return self._schemas.setdefault(key, schema)

    def _statistics(self) -> mcap.Statistics:
        return mcap.Statistics(
            attachment_count=0,
            channel_count=len(self._channels),
            channel_message_counts=dict(self._counts),
            chunk_count=self.chunks,
            message_count=self._counts.total(),
            message_end_time=self._end_ns,
            message_start_time=self._start_ns if self._counts else 0,
            metadata_count=len(self._metadata_indexes),
            schema_count=len(self._schemas),
        )

    def _read_chunk_indexes(self) -> Iterator[bytes]:
        if self._chunk_indexes is None:
            return
        self._chunk_indexes.seek(0)
        while block := self._chunk_indexes.read(_BLOCK_BYTES):
            yield block


def _packed(record: mcap.McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    data: bytes = builder.end()  # type: ignore[no-untyped-call]  # mcap does not annotate it
    return data


def _message_index(channel: int, entries: array[int]) -> bytes:
    if sys.byteorder == "big":
        entries.byteswap()
    data = entries.tobytes()
    return RECORD_HEAD.pack(Opcode.MESSAGE_INDEX, 6 + len(data)) + struct.pack("<HI", channel, len(data)) + data
