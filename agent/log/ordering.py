"""The messages of a log file by time, within bounded memory, whatever order and size its records have.

MCAP asks for no order: tools write one topic after the other, merge files end to end, and let chunks overlap. Places of
the file are opened when the time comes that they begin with, and a message is held until no closed place can hold an
earlier one. When places overlap by more than is held at once, the latest messages are let go and read again later.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

import numpy as np
from mcap.opcode import Opcode
from mcap.records import Channel, Message, Schema

from agent.log.format import ReplayError
from agent.log.reading import DEFINITIONS, Record, chunk_contents, chunk_records, frame_at, frames, library_of, parse
from agent.log.seeking import Places, places_of
from agent.log.unpacking import CHUNK_HEAD, RECORD_HEAD, Allowance, Body, Damaged, PackedChunk
from common.printable import brief

HELD_BYTES = 64 * 2**20
"""Size limit of the messages that are held at once, beside those of one chunk."""
MESSAGE_BYTES = 600
"""Memory that a message takes beyond its data."""
MOST_WORK = 4096
"""Bytes that may be read and unpacked again for each byte of the file."""
_MAX_NS = 2**64 - 1

Moment = Callable[[Schema, Channel, Message], int]
"""Time at which a message takes its turn, not before its log time."""


@dataclass(frozen=True, slots=True)
class Given:
    """A message of a file."""

    schema: Schema
    channel: Channel
    message: Message


class MessageTurn(NamedTuple):
    """Order of a message: by its turn, then as in the file."""

    at_ns: int
    offset: int
    number: int


_Held = tuple[MessageTurn, Given]
_FIRST = MessageTurn(-1, 0, 0)
_NO_SCHEMA = Schema(0, b"", "", "")


def log_time(_schema: Schema, _channel: Channel, message: Message) -> int:
    """Return the log time of a message."""
    return message.log_time


def by_time(
    stream: BinaryIO,
    from_ns: int = 0,
    moment: Moment = log_time,
    *,
    recorder: str | None = None,
    held_bytes: int = HELD_BYTES,
) -> Iterator[Given]:
    """Yield the messages of a file in the order of their turns, from the first place on that holds any at or after a
    time; equal ones in the order of the file.

    A file whose header names the library `recorder` gives them as they lie there: our recorder writes samples in the
    order in which they came, which a replay repeats.

    What stands before the first damage in the file is given, then Damaged is raised. Raises ReplayError for a file
    that is so mixed up that sorting it costs far more than its size explains.
    """
    sorter = _Sorter(stream, from_ns, moment, held_bytes)
    if recorder is not None and library_of(stream).startswith(recorder):
        yield from sorter.as_written()
    else:
        again: MessageTurn | None = _FIRST
        while again is not None:
            again = yield from sorter.sweep(again)
    if sorter.damage is not None:
        raise sorter.damage


@dataclass
class _Pending:
    """Messages that wait for their turn."""

    most_bytes: int
    rows: list[_Held] = field(default_factory=list)
    """Sorted, but for those added last."""
    size: int = 0
    limit: MessageTurn | None = None
    """The earliest that was let go."""

    def add(self, turn: MessageTurn, given: Given) -> None:
        if self.limit is not None and turn >= self.limit:
            return
        self.rows.append((turn, given))
        self.size += _size(given)
        if self.size > self.most_bytes:
            self._let_go()

    def _let_go(self) -> None:
        """Keep the earlier half, and one message at least."""
        self.rows.sort()
        kept = size = 0
        for _, given in self.rows:
            size += _size(given)
            if kept and size > self.most_bytes // 2:
                break
            kept, self.size = kept + 1, size
        if kept < len(self.rows):
            self.limit = self.rows[kept][0]
            del self.rows[kept:]

    def before(self, at_ns: int) -> Iterator[Given]:
        """Give, and forget, those whose turn comes before a time."""
        self.rows.sort()
        count = bisect_left(self.rows, at_ns, key=_at_ns)
        rows, self.rows = self.rows[:count], self.rows[count:]
        for _, given in rows:
            self.size -= _size(given)
            yield given


class _Sorter:
    """Reads one file as often as it takes."""

    def __init__(self, stream: BinaryIO, from_ns: int, moment: Moment, held_bytes: int) -> None:
        self._stream = stream
        self._file_bytes = stream.seek(0, os.SEEK_END)
        self._places = places_of(stream)
        self.damage: Damaged | None = self._places.damage
        wanted = np.flatnonzero(self._places.ends_ns >= np.uint64(min(max(from_ns, 0), _MAX_NS)))
        self._order = wanted[np.argsort(self._places.starts_ns[wanted], kind="stable")]
        self._last_ns: dict[int, int] = {}
        """The last turn in each place that was read."""
        self._moment = moment
        self._held_bytes = held_bytes
        self._reads_again = False
        self._work = MOST_WORK * float(self._file_bytes)
        self._schemas: dict[int, Schema] = {0: _NO_SCHEMA}
        self._channels: dict[int, Channel] = {}
        self._all_defined = False
        for record in _definitions(self._places):
            self._define(record)

    def as_written(self) -> Iterator[Given]:
        """Yield the messages in the order of the file."""
        allowance = Allowance()
        for at in np.sort(self._order).tolist():
            try:
                for _, given in self._contents(at, allowance):
                    yield given
            except Damaged as damage:
                self.damage = damage
                return

    def sweep(self, after: MessageTurn) -> Generator[Given, None, MessageTurn | None]:
        """Yield the messages after one; return the first that another sweep has to read again, if any."""
        pending = _Pending(self._held_bytes)
        allowance = Allowance()
        self._reads_again = after != _FIRST
        for at in self._order.tolist():
            offset, start_ns = int(self._places.offsets[at]), int(self._places.starts_ns[at])
            if self._last_ns.get(at, after.at_ns) < after.at_ns or self._is_behind_damage(offset):
                continue
            yield from pending.before(start_ns)
            if pending.limit is not None and start_ns > pending.limit.at_ns:
                break
            last_ns = 0
            try:
                for turn, given in self._contents(at, allowance):
                    last_ns = max(last_ns, turn.at_ns)
                    if turn > after:
                        pending.add(turn, given)
            except Damaged as damage:
                self.damage = damage
            self._last_ns[at] = last_ns
        yield from pending.before(_MAX_NS + 1)
        limit = pending.limit
        return None if limit is None else limit._replace(number=limit.number - 1)  # it comes after this one

    def _is_behind_damage(self, offset: int) -> bool:
        return self.damage is not None and offset > self.damage.offset

    def _contents(self, at: int, allowance: Allowance) -> Iterator[_Held]:
        """The messages of a place. Raises Damaged."""
        offset = int(self._places.offsets[at])
        number = 0
        for record in self._records(offset, int(self._places.lengths[at]), allowance):
            if not isinstance(record, Message):
                self._define(record)
                continue
            channel = self._channel(offset, record.channel_id)
            schema = self._schemas[channel.schema_id]
            at_ns = max(record.log_time, self._moment(schema, channel, record))
            yield MessageTurn(at_ns, offset, number), Given(schema, channel, record)
            number += 1

    def _records(self, offset: int, length: int, allowance: Allowance) -> Iterator[Record]:
        end = offset + length
        while offset < end:
            opcode, body, after = frame_at(self._stream, offset, self._file_bytes)
            if self._reads_again:
                self._pay(opcode, body)
            if opcode == Opcode.CHUNK:
                yield from chunk_records(offset, body, allowance)
            elif opcode == Opcode.MESSAGE or opcode in DEFINITIONS:
                yield from parse(offset, opcode, body)
            offset = after

    def _pay(self, opcode: int, body: Body) -> None:
        head = body.head if isinstance(body, PackedChunk) else body
        unpacked = CHUNK_HEAD.unpack_from(head)[2] if opcode == Opcode.CHUNK and len(head) >= CHUNK_HEAD.size else 0
        self._work -= RECORD_HEAD.size + len(body) + unpacked
        if self._work < 0:
            raise ReplayError("the messages are too far out of order; sort the file by time first")

    def _channel(self, offset: int, number: int) -> Channel:
        """The channel of a message. Raises Damaged."""
        if number not in self._channels and not self._all_defined:
            # Places are not opened in the order of the file, and not every file repeats its channels in the summary.
            self._all_defined = True
            for record in _all_definitions(self._stream):
                self._define(record)
        channel = self._channels.get(number)
        if channel is None:
            raise Damaged(offset, f"a message of channel {number}, which was not declared")
        if channel.schema_id not in self._schemas:
            raise Damaged(offset, f"channel {brief(channel.topic)} of a schema that was not declared")
        return channel

    def _define(self, record: Record) -> None:
        if isinstance(record, Schema):
            self._schemas[record.id] = record
        elif isinstance(record, Channel):
            self._channels[record.id] = record


def _at_ns(held: _Held) -> int:
    return held[0].at_ns


def _size(given: Given) -> int:
    return len(given.message.data) + MESSAGE_BYTES


def _definitions(places: Places) -> Iterator[Record]:
    """The schemas and channels of the summary, as far as they can be read."""
    data = places.definitions or b""
    at = 0
    with suppress(Damaged):
        while at < len(data):
            opcode, length = RECORD_HEAD.unpack_from(data, at)
            begin, at = at + RECORD_HEAD.size, at + RECORD_HEAD.size + length
            yield from parse(0, opcode, data[begin:at])


def _all_definitions(stream: BinaryIO) -> Iterator[Record]:
    """The schemas and channels that a file declares, up to the first damage."""
    allowance = Allowance()
    with suppress(Damaged):
        for offset, opcode, body in frames(stream):
            if opcode == Opcode.CHUNK:
                yield from chunk_contents(offset, body, allowance, parse, messages=False)
            elif opcode in DEFINITIONS:
                yield from parse(offset, opcode, body)
