"""Writes a run into a log, on a thread of its own: whoever hands something in never waits for the disk or a codec."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from google.protobuf.message import Message
from mcap.well_known import MessageEncoding
from mcap.writer import CompressionType, Writer
from mcap_protobuf.schema import register_schema

from agent.log import messages as log_messages
from agent.log.format import (
    EVENTS_TOPIC,
    FACTS_RECORD,
    MODEL_RECORD,
    SENSORS_TOPIC,
    SEQUENCE_MASK,
    RecordError,
    RunFacts,
)
from drivers.driver import BadData, Sample
from protos import perception_pb2 as pb

log = logging.getLogger(__name__)

CHUNK_BYTES = 256 * 1024
"""A killed recording loses at most the chunk being filled."""
QUEUE_BYTES = 64 * 2**20
ITEM_BYTES = 512
"""What waiting costs beside the data itself."""
CLOSE_S = 30.0
"""Longest wait for the rest to be written."""

State = Literal["recording", "failed", "closed"]
QUEUE_FULL, STOPPED, BAD_DATA = "queue full", "recording stopped", "bad data"


@dataclass(frozen=True, slots=True)
class RecorderReport:
    """How recording goes. Of everything handed in: written + drops + still waiting; after the end nothing waits."""

    state: State
    error: str
    """Why it failed, one line."""
    written: dict[str, int]
    """What the file holds for good, by topic."""
    drops: dict[str, dict[str, int]]
    """By topic and reason."""


@dataclass(frozen=True, slots=True)
class _Item:
    topic: str
    payload: Sample | pb.Event | str
    """A sample, an event, or the name of the model."""
    size: int


class Recorder:
    """Records from its construction until `close`. Any thread may hand in.

    At most `max_bytes` wait to be written: when full, the oldest is dropped and counted; with `lossless` (offline runs)
    the one who hands in waits instead.
    """

    def __init__(self, path: Path, facts: RunFacts, *, max_bytes: int = QUEUE_BYTES, lossless: bool = False) -> None:
        """Begin the file. Raises RecordError when it exists already or cannot be made."""
        self._path = path
        self._facts = facts
        self._max_bytes = max_bytes
        self._lossless = lossless
        self._changed = threading.Condition()
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._state: State = "recording"
        self._error = ""
        self._written: Counter[str] = Counter()
        self._drops: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._missing: Counter[str] = Counter()
        """Rows or images dropped since the last sample that was written, by topic."""
        self._unflushed: Counter[str] = Counter()
        """In the chunk that is being filled, by topic."""
        self._sequence: dict[str, int] = {}
        self._file = _LogFile(path, facts, self._on_flushed)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def write_sample(self, sensor: str, sample: Sample) -> None:
        """Hand in a sample; its array must not change any more. Sensors that are not logged are passed over."""
        if sensor in self._facts.sensors:
            self._put(_Item(SENSORS_TOPIC + sensor, sample, sample.data.nbytes + ITEM_BYTES))

    def write_event(self, event: pb.Event) -> None:
        """Hand in an event that the bus has published; it must not change any more."""
        self._put(_Item(EVENTS_TOPIC, event, event.ByteSize() + ITEM_BYTES))

    def write_model(self, name: str) -> None:
        """Note which weights the run uses (name and hash), once that is known."""
        self._put(_Item(MODEL_RECORD, name, ITEM_BYTES))

    def report(self) -> RecorderReport:
        """How it goes."""
        with self._changed:
            drops = {topic: dict(reasons) for topic, reasons in self._drops.items()}
            return RecorderReport(self._state, self._error, dict(self._written), drops)

    def close(self) -> None:
        """Write what waits and finish the file; may be called again."""
        with self._changed:
            if self._state == "recording":
                self._state = "closed"
            self._changed.notify_all()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            log.error("%s: the disk takes too long; the log stays unfinished, but can be replayed", self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _put(self, item: _Item) -> None:
        with self._changed:
            if self._lossless:
                self._changed.wait_for(lambda: self._state != "recording" or self._queued_bytes < self._max_bytes)
            if self._state != "recording":
                self._drop(item, STOPPED)
                return
            self._queue.append(item)
            self._queued_bytes += item.size
            while not self._lossless and self._queued_bytes > self._max_bytes and len(self._queue) > 1:
                oldest = self._queue.popleft()
                self._queued_bytes -= oldest.size
                self._drop(oldest, QUEUE_FULL)
            self._changed.notify_all()

    def _drop(self, item: _Item, reason: str) -> None:
        self._drops[item.topic][reason] += 1
        if isinstance(item.payload, Sample):
            sample = item.payload
            self._missing[item.topic] += sample.lost + (len(sample.data) if sample.rate_hz else 1)

    def _run(self) -> None:
        try:
            while item := self._next():
                self._write(item)
            self._file.finish()
        except OSError as error:
            self._fail(f"{self._path}: recording stopped: {error.strerror or error}; the agent goes on without it")
        except Exception as error:
            log.exception("%s: recording failed", self._path)
            self._fail(f"{self._path}: recording stopped: {error}")
        finally:
            self._file.close()

    def _next(self) -> _Item | None:
        """Wait for something to write; None once closed and everything is written."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._state != "recording")
            if not self._queue:
                return None
            item = self._queue.popleft()
            self._queued_bytes -= item.size
            self._changed.notify_all()
            return item

    def _write(self, item: _Item) -> None:
        payload = item.payload
        self._unflushed[item.topic] += 1
        if isinstance(payload, Sample):
            self._write_sample(item, payload)
        elif isinstance(payload, pb.Event):
            self._file.write(EVENTS_TOPIC, payload, payload.capture_ns, payload.publish_ns, payload.seq)
        else:
            self._file.add_metadata(MODEL_RECORD, {"model": payload})

    def _write_sample(self, item: _Item, sample: Sample) -> None:
        name = item.topic.removeprefix(SENSORS_TOPIC)
        with self._changed:
            missing = self._missing.pop(item.topic, 0)
        lost = sample.lost + missing
        try:
            topic, message = log_messages.encode(name, self._facts.sensors[name], replace(sample, lost=lost))
        except BadData as error:
            with self._changed:
                first = not self._drops[item.topic][BAD_DATA]
                self._missing[item.topic] += missing
                self._unflushed[item.topic] -= 1
                self._drop(item, BAD_DATA)
            if first:
                log.warning("%s: not recorded: %s; more of them are counted, not logged", name, error)
            return
        sequence = (self._sequence.get(name, -1) + 1 + lost) & SEQUENCE_MASK
        self._sequence[name] = sequence
        self._file.write(topic, message, sample.t_ns, sample.t_ns, sequence)

    def _on_flushed(self) -> None:
        with self._changed:
            self._written += self._unflushed
        self._unflushed.clear()

    def _fail(self, error: str) -> None:
        log.error("%s", error)
        with self._changed:
            self._state, self._error = "failed", error
            while self._queue:
                self._drop(self._queue.popleft(), STOPPED)
            for topic, count in self._unflushed.items():
                self._drops[topic][STOPPED] += count
            self._queued_bytes = 0
            self._changed.notify_all()


class _LogFile:
    """An MCAP file that is flushed at every end of a chunk, and then says so. Raises OSError once it is begun."""

    def __init__(self, path: Path, facts: RunFacts, on_flushed: Callable[[], None]) -> None:
        self._on_flushed = on_flushed
        try:
            self._stream = path.open("xb")
        except FileExistsError:
            raise RecordError(f"{path}: exists already; give another name, or remove it first") from None
        except OSError as error:
            raise RecordError(
                f"{path}: cannot be written: {error.strerror}; give a file in a folder that can"
            ) from None
        self._writer = Writer(self._stream, chunk_size=CHUNK_BYTES, compression=CompressionType.NONE)
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        try:
            self._writer.start(library=f"sensebind {version('sensebind')}")
            self.add_metadata(FACTS_RECORD, facts.to_record())
        except OSError as error:
            self.close()
            raise RecordError(f"{path}: cannot be written: {error.strerror}") from None

    def add_metadata(self, name: str, record: dict[str, str]) -> None:
        self._writer.add_metadata(name, record)
        self._stream.flush()

    def write(self, topic: str, message: Message, log_ns: int, publish_ns: int, sequence: int) -> None:
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._writer.register_channel(topic, MessageEncoding.Protobuf, self._schema(message))
            self._channels[topic] = channel
        end = self._stream.tell()
        data = message.SerializeToString()
        self._writer.add_message(channel, log_ns, data, publish_ns, sequence & SEQUENCE_MASK)
        if self._stream.tell() != end:  # that filled the chunk
            self._flush()

    def finish(self) -> None:
        self._writer.finish()  # type: ignore[no-untyped-call]  # mcap does not annotate it
        self._flush()

    def close(self) -> None:
        # On a full disk, closing fails once more over what could not be written.
        with contextlib.suppress(OSError):
            self._stream.close()

    def _flush(self) -> None:
        self._stream.flush()
        self._on_flushed()

    def _schema(self, message: Message) -> int:
        name = message.DESCRIPTOR.full_name
        if name not in self._schemas:
            self._schemas[name] = register_schema(self._writer, type(message))
        return self._schemas[name]
