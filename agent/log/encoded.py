"""Samples and events encoded for a log: for the recorder, and for clips cut from its memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from mcap_protobuf.schema import build_file_descriptor_set

from agent.config.recording import PictureFormat
from agent.log import messages
from agent.log.format import EVENTS_TOPIC, SENSORS_TOPIC, LoggedSensor
from agent.log.writing import Beside, Channel
from drivers.driver import Sample
from protos import perception_pb2 as pb
from protos.sensors_pb2 import SensorSample


@dataclass(frozen=True, slots=True)
class Encoded:
    """A message of a log."""

    channel: Channel
    topic: str
    """Topic that it counts as: a sensor's topic, also where its schema has another."""
    log_ns: int
    publish_ns: int
    data: bytes
    rows: int = 0
    """Rows or images in it; 0 for an event."""
    lost: int = 0
    """Rows or images missing before it."""
    seq: int = 0
    """The seq of an event; 0 for a sample."""
    beside: tuple[Beside, ...] = ()
    """Messages for viewers, which are written with it and counted nowhere."""

    @property
    def size(self) -> int:
        """Bytes of it and of the messages beside it."""
        return len(self.data) + sum(other.size for other in self.beside)

    def message_data(self, lost: int) -> bytes:
        """The message, which says how many are missing before it where its schema can."""
        if not lost or self.channel.schema != messages.SAMPLE_SCHEMA:
            return self.data
        # Protobuf messages that follow each other are one: https://protobuf.dev/programming-guides/encoding/#last-one-wins
        return self.data + SensorSample(lost=lost).SerializeToString()


def encode_sample(name: str, sensor: LoggedSensor, sample: Sample, pictures: PictureFormat) -> Encoded:
    """Encode a sample, which takes milliseconds for a picture. Raises BadData."""
    topic, message = messages.encode(name, sensor, replace(sample, lost=0), pictures)
    message_class: Any = type(message)
    return Encoded(
        channel_of(topic, message_class),
        SENSORS_TOPIC + name,
        sample.t_ns,
        sample.t_ns,
        message.SerializeToString(),
        rows=rows_of(sample),
        lost=sample.lost,
    )


def encode_event(event: pb.Event) -> Encoded:
    """Return an event as a message of `/events`."""
    data = event.SerializeToString()
    channel = channel_of(EVENTS_TOPIC, pb.Event)
    return Encoded(channel, EVENTS_TOPIC, event.capture_ns, event.publish_ns, data, seq=event.seq)


def rows_of(sample: Sample) -> int:
    """Rows of a block, or one image."""
    return len(sample.data) if sample.rate_hz else 1


class Numbers:
    """The running numbers of a log's messages: they skip as many as rows or images are missing before a sample."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._missing: dict[str, int] = {}

    def miss(self, message: Encoded) -> None:
        """Leave a message out."""
        if message.rows:
            self._missing[message.topic] = self._missing.get(message.topic, 0) + message.rows + message.lost

    def take(self, message: Encoded) -> tuple[int, int]:
        """Return the number of the next message of a log, and the number of those missing before it."""
        if not message.rows:
            return message.seq, 0
        lost = message.lost + self._missing.pop(message.topic, 0)
        number = self._last[message.topic] = self._last.get(message.topic, -1) + 1 + lost
        return number, lost

    def copy(self) -> Numbers:
        """Return the numbers as they are now."""
        copied = Numbers()
        copied._last, copied._missing = dict(self._last), dict(self._missing)
        return copied


@lru_cache(1024)
def channel_of(topic: str, message_class: Any) -> Channel:
    """Return the channel of a topic with messages of a protobuf class."""
    return Channel(topic, message_class.DESCRIPTOR.full_name, _schema_data(message_class))


@lru_cache
def _schema_data(message_class: Any) -> bytes:
    data: bytes = build_file_descriptor_set(message_class).SerializeToString()
    return data
