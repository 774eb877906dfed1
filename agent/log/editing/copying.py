"""The contents of logs on their way into another log, or into a report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcap.opcode import Opcode
from mcap.records import Channel as ChannelRecord
from mcap.records import Message, Metadata, Schema

from agent.log.format import EVENTS_TOPIC, sensor_of
from agent.log.reading import Span, chunk_records, library_of, open_log, parse
from agent.log.unpacking import Allowance, Body, Damaged, PackedChunk
from agent.log.viewers.topics import ViewerTopic, viewer_topic
from agent.log.writing import LIBRARY, Beside, Channel, LogWriter
from common.printable import brief, shortened

Frame = tuple[int, int, Body]
_NAME_LENGTH = slice(28, 32)
"""Place of the length of the compression's name in a chunk."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A message, all that its channel is, and whether its chunk was compressed."""

    channel: Channel
    message: Message
    compressed: bool

    @property
    def sensor(self) -> str | None:
        """The sensor whose sample it is, if any."""
        return sensor_of(self.channel.topic)

    @property
    def is_event(self) -> bool:
        """True if it is an event."""
        return self.channel.topic == EVENTS_TOPIC

    @property
    def viewer(self) -> ViewerTopic | None:
        """Origin of the message, if it is one for viewers."""
        return viewer_topic(self.channel.topic)

    def is_of(self, sensors: Collection[str], *, events: bool) -> bool:
        """Return whether it belongs to some sensors, or to the events where those are wanted."""
        if viewer := self.viewer:
            return (events or not viewer.is_event) and (viewer.sensor is None or viewer.sensor in sensors)
        return events if self.is_event else self.sensor in sensors

    def write(self, writer: LogWriter, beside: Sequence[Beside] = ()) -> None:
        """Put it into another log, with other messages beside it."""
        message = self.message
        writer.add_message(
            self.channel,
            message.sequence,
            message.log_time,
            message.publish_time,
            message.data,
            compress=self.compressed,
            beside=beside,
        )


def order_of(files: Iterable[Path]) -> str:
    """The program, as LogWriter takes it, that put the messages of files in their order; empty for this one.

    A copy in the order of another program's file must not pass for a recording of ours, which replays as it lies.
    """
    for path in files:
        with open_log(path) as stream:
            library = library_of(stream)
        if not library.startswith(LIBRARY):
            return shortened(library) or "unknown"
    return ""


def _raise(damage: Damaged) -> None:
    raise damage


def contents(
    frames: Iterable[Frame],
    wanted: Span = lambda _start_ns, _end_ns: True,
    on_damage: Callable[[Damaged], None] = _raise,
) -> Iterator[Copied | Metadata]:
    """Yield messages and metadata in the order of the file; `on_damage` gets the parts that are neither.

    The messages of chunks that are not `wanted` are skipped. Raises whatever `frames` and `on_damage` raise.
    """
    schemas = {0: Schema(0, b"", "", "")}
    channels: dict[int, Channel] = {}
    allowance = Allowance()
    for offset, opcode, body in frames:
        is_chunk = opcode == Opcode.CHUNK
        head = body.head if isinstance(body, PackedChunk) else body
        compressed = is_chunk and any(head[_NAME_LENGTH])
        try:
            for record in chunk_records(offset, body, allowance, wanted) if is_chunk else parse(offset, opcode, body):
                if isinstance(record, Message):
                    channel = channels.get(record.channel_id)
                    if channel:
                        yield Copied(channel, record, compressed)
                    else:
                        on_damage(Damaged(offset, f"a message of channel {record.channel_id}, which was not declared"))
                elif isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, ChannelRecord):
                    channels[record.id] = _channel(offset, record, schemas)
                else:
                    yield record
        except Damaged as damage:
            on_damage(damage)


def _channel(offset: int, record: ChannelRecord, schemas: dict[int, Schema]) -> Channel:
    schema = schemas.get(record.schema_id)
    if schema is None:
        raise Damaged(offset, f"channel {brief(record.topic)} of a schema that was not declared")
    metadata = tuple(record.metadata.items())
    return Channel(record.topic, schema.name, schema.data, schema.encoding, record.message_encoding, metadata)
