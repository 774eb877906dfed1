"""A complete copy of a log that was cut off or damaged: everything in it that can be read, with an index.

Chunks carry a checksum, so that one that is whole is known as such wherever it is found: after damage, reading goes on
with the next one. What was in between shows as gaps of the sensors' numbers.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mcap.opcode import Opcode

from agent.log.editing.copying import Copied, Frame, contents, order_of
from agent.log.format import FACTS_RECORD, ReplayError
from agent.log.reading import MAGIC, frame_at, open_log
from agent.log.seeking import places_of
from agent.log.unpacking import CHUNK_HEAD, MAX_CHUNK_BYTES, RECORD_HEAD, Damaged
from agent.log.whole_file import whole_log

_KNOWN = frozenset(Opcode)
_ANY_SIZE = (Opcode.ATTACHMENT, Opcode.CHUNK)
_PRIVATE = 0x80
"""Opcodes from here on are private records of other programs."""
_MAX_TOLD = 20
_SCAN_BYTES = 2**22
_CHUNK_START_BYTES = RECORD_HEAD.size + CHUNK_HEAD.size + 4
# The start of a chunk below 256 MiB: opcode, length, both times, size, checksum, and the name of its compression.
_CHUNK_START = re.compile(
    rb"\x06[\s\S]{3}[\x00-\x10]\x00{4}[\s\S]{16}[\s\S]{3}[\x00-\x10]\x00{4}[\s\S]{4}"
    rb"(?:\x00{4}|\x03\x00{3}lz4|\x04\x00{3}zstd)"
)


@dataclass
class Repaired:
    """Result of a repair: copied messages and damages."""

    messages: Counter[str] = field(default_factory=Counter)
    """Number of copied messages, by topic."""
    damages: list[str] = field(default_factory=list)
    """The first of what could not be read."""
    more_damages: int = 0
    has_facts: bool = False
    """True if it can be replayed."""

    def add_damage(self, damage: Damaged) -> None:
        """Note what could not be read."""
        if len(self.damages) < _MAX_TOLD:
            self.damages.append(str(damage))
        else:
            self.more_damages += 1


def repair(source: Path, out: Path) -> Repaired:
    """Write an indexed copy of everything in a log that can be read. Memory is bounded by a chunk.

    Raises ReplayError when that is nothing, RecordError when the copy cannot be written.
    """
    repaired = Repaired()
    with open_log(source) as stream, whole_log(out, order_of([source])) as writer:
        for item in contents(_salvaged(stream, repaired), on_damage=repaired.add_damage):
            if isinstance(item, Copied):
                item.write(writer)
                repaired.messages[item.channel.topic] += 1
            else:
                writer.add_metadata(item.name, item.metadata)
                repaired.has_facts |= item.name == FACTS_RECORD
        if not repaired.messages and not repaired.has_facts:
            raise ReplayError(f"{source}: holds nothing that can be read; give an MCAP file")
    return repaired


def _salvaged(stream: BinaryIO, repaired: Repaired) -> Iterator[Frame]:
    """Yield the records of a file up to its summary, across damage; first the schemas and channels of the summary."""
    size = stream.seek(0, os.SEEK_END)
    yield from _definitions(stream)
    stream.seek(0)
    if stream.read(len(MAGIC)) != MAGIC:
        repaired.add_damage(Damaged(0, "the file does not begin as MCAP does"))
    offset, chunked = len(MAGIC), False
    while offset < size:
        length = _frame_length(stream, offset, size)
        if length is None:
            found = _next_chunk(stream, offset + 1, size)
            repaired.add_damage(Damaged(offset, f"{found - offset} bytes that are not records"))
            offset = found
            continue
        try:
            opcode, body, after = frame_at(stream, offset, size)
        except Damaged as damage:
            repaired.add_damage(damage)
            return
        if opcode == Opcode.DATA_END:
            return
        chunked |= opcode == Opcode.CHUNK
        if chunked and opcode == Opcode.MESSAGE:
            # No writer mixes them, and one flipped bit makes a message of an index, which no checksum covers.
            repaired.add_damage(Damaged(offset, "a message outside of the chunks"))
        else:
            yield offset, opcode, body
        offset = after
    repaired.add_damage(Damaged(size, "the file ends without its summary"))


def _definitions(stream: BinaryIO) -> Iterator[Frame]:
    data = places_of(stream).definitions or b""
    at = 0
    while at < len(data):
        opcode, length = RECORD_HEAD.unpack_from(data, at)
        begin, at = at + RECORD_HEAD.size, at + RECORD_HEAD.size + length
        yield 0, opcode, data[begin:at]


def _frame_length(stream: BinaryIO, offset: int, size: int) -> int | None:
    """The length of the record at an offset; None when there is none, or its length cannot be right."""
    length = _plausible_length(stream, offset)
    if length is None or offset + RECORD_HEAD.size + length > size:
        return None
    stream.seek(offset)
    start = stream.read(_CHUNK_START_BYTES + 8)
    if _is_chunk(start, length) != (start[0] == Opcode.CHUNK):  # or a chunk whose opcode is damaged
        return None
    if start[0] == Opcode.CHUNK:
        return length
    after = offset + RECORD_HEAD.size + length
    if start[0] != Opcode.FOOTER and after + RECORD_HEAD.size <= size and _plausible_length(stream, after) is None:
        return None
    return length


def _plausible_length(stream: BinaryIO, offset: int) -> int | None:
    stream.seek(offset)
    head = stream.read(RECORD_HEAD.size)
    if len(head) < RECORD_HEAD.size:
        return None
    opcode, length = RECORD_HEAD.unpack(head)
    any_size = opcode in _ANY_SIZE or opcode >= _PRIVATE
    return length if any_size or (opcode in _KNOWN and length <= MAX_CHUNK_BYTES) else None


def _is_chunk(start: bytes, length: int) -> bool:
    """Return whether the start of a chunk says twice how long it is."""
    if len(start) < RECORD_HEAD.size + CHUNK_HEAD.size:
        return False
    name_length: int = CHUNK_HEAD.unpack_from(start, RECORD_HEAD.size)[-1]
    at = RECORD_HEAD.size + CHUNK_HEAD.size + name_length
    packed = int.from_bytes(start[at : at + 8], "little")
    return at + 8 <= len(start) and CHUNK_HEAD.size + name_length + 8 + packed == length


def _next_chunk(stream: BinaryIO, offset: int, size: int) -> int:
    """The offset of the next chunk that lies whole in the file; its end when there is none."""
    while offset < size:
        stream.seek(offset)
        block = stream.read(_SCAN_BYTES)
        at = 0
        while match := _CHUNK_START.search(block, at):
            found = offset + match.start()
            if _frame_length(stream, found, size) is not None:
                return found
            at = match.start() + 1
        offset += max(1, len(block) - _CHUNK_START_BYTES)
    return size
