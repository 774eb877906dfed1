"""A log as a source: its samples in the order in which they were recorded, on the log's own clock, nothing dropped.

A log that was cut off (a killed recorder, a full disk, a partial copy) is read up to its last whole chunk: reading goes
from front to back and needs no index.
"""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from mcap.exceptions import InvalidMagic, McapError
from mcap.records import Channel, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import MAGIC_SIZE, StreamReader

from agent.capture.source import CaptureReport, CaptureState, check_form
from agent.clock import ManualClock
from agent.log import messages as log_messages
from agent.log.format import FACTS_RECORD, SEQUENCE_MASK, ReplayError, RunFacts, sensor_of
from drivers.driver import BadData, Sample
from drivers.remote import Remote

log = logging.getLogger(__name__)

BATCH = 32
"""Samples that one `poll` returns at most."""
MAX_RECORD_BYTES = 256 * 2**20
"""Larger than any chunk: a chunk ends with the message that fills it. Keeps a damaged length from being allocated."""

# What reading bytes that are cut off or damaged raises; KeyError: a message whose channel never came.
_UNREADABLE = (McapError, ValueError, KeyError, struct.error, OverflowError, MemoryError)


def facts_of(path: Path) -> RunFacts:
    """Read what a log says of its run. Raises ReplayError."""
    with _open(path) as stream:
        record = _find_facts(path, stream)
    if record is None:
        raise ReplayError(f"{path}: has no record {FACTS_RECORD!r}; sensebind replays only what it recorded itself")
    try:
        return RunFacts.from_record(record)
    except ValueError as error:
        raise ReplayError(f"{path}: its record {FACTS_RECORD!r} cannot be used: {error}") from None


def config_of(path: Path) -> dict[str, Any]:
    """Return the configuration of the recorded run, for `agent.config.parse`. Raises ReplayError."""
    return facts_of(path).config


class Replay:
    """A Source that reads one log. `clock` is the log's: it stands at the newest sample that was returned."""

    def __init__(self, path: Path, sensors: Collection[str] | None = None) -> None:
        """Read the facts of a log; only `sensors` are replayed, by default all it holds. Raises ReplayError."""
        self.facts = facts_of(path)
        self.clock = ManualClock(self.facts.start_ns)
        self.unfinished = ""
        """Why the log ended before its end; empty when it is whole."""
        self._path = path
        wanted = self.facts.sensors if sensors is None else sensors
        self._sensors = {name: sensor for name, sensor in self.facts.sensors.items() if name in wanted}
        self._states: dict[str, CaptureState] = {
            name: "starting" if name in self._sensors else "ended" for name in wanted
        }
        self._errors = {name: "" if name in self._sensors else "not in the log" for name in wanted}
        self._drops: dict[str, Counter[str]] = {name: Counter() for name in wanted}
        self._sequence: dict[str, int] = {}
        self._stream: BinaryIO | None = None
        self._samples: Iterator[tuple[str, Sample]] = iter(())
        self._ended = False

    def start(self) -> None:
        """Open the log. Raises ReplayError."""
        self._stream = _open(self._path)
        self._samples = self._read(self._stream)

    def poll(self, timeout_s: float) -> list[tuple[str, Sample]]:  # noqa: ARG002  reading never waits for long
        """Return the next (sensor, sample) of the log and move the clock to the newest of them."""
        batch = list(islice(self._samples, BATCH))
        for _, sample in batch:
            self.clock.sleep_until(sample.end_ns)
        if len(batch) < BATCH:
            self._end()
        return batch

    def reports(self) -> dict[str, CaptureReport]:
        """How reading goes, per sensor."""
        return {
            name: CaptureReport(state, self._errors[name], 0, dict(self._drops[name]))
            for name, state in self._states.items()
        }

    @property
    def remotes(self) -> dict[str, Remote]:
        """None: nobody pushes into what was recorded."""
        return {}

    @property
    def ended(self) -> bool:
        """Whether all of the log was returned."""
        return self._ended

    def stop(self) -> None:
        """Close the log; may be called again."""
        self._samples = iter(())
        self._end()
        if self._stream:
            self._stream.close()

    def _end(self) -> None:
        self._ended = True
        self._states = dict.fromkeys(self._states, "ended")

    def _read(self, stream: BinaryIO) -> Iterator[tuple[str, Sample]]:
        schemas: dict[int, str] = {}
        channels: dict[int, Channel] = {}
        try:
            for record in _records(stream):
                if isinstance(record, Schema):
                    schemas[record.id] = record.name
                elif isinstance(record, Channel):
                    channels[record.id] = record
                elif isinstance(record, Message):
                    channel = channels[record.channel_id]
                    name = sensor_of(channel.topic)
                    if name in self._sensors:
                        yield from self._decode(name, schemas[channel.schema_id], record)
        except _UNREADABLE as error:
            self.unfinished = f"{self._path}: the log is cut off or damaged; what stands before is replayed"
            log.warning("%s (%s at byte %d)", self.unfinished, type(error).__name__, stream.tell())

    def _decode(self, name: str, schema: str, message: Message) -> Iterator[tuple[str, Sample]]:
        """The one sample of a message, or none when it is bad."""
        sensor = self._sensors[name]
        # What was lost before the first sample is before the log.
        previous = self._sequence.get(name, message.sequence - 1)
        lost = (message.sequence - previous - 1) & SEQUENCE_MASK
        self._sequence[name] = message.sequence
        if lost:
            self._drops[name]["not recorded"] += lost
        try:
            sample = log_messages.decode(schema, sensor, message.log_time, message.data)
            check_form(sample, sensor.modality)
        except BadData as error:
            self._errors[name] = str(error)
            self._drops[name]["bad data"] += 1
            return
        self._states[name] = "running"
        yield name, replace(sample, lost=lost)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise ReplayError(f"{path}: cannot be read: {error.strerror}; give the path of a log") from None


def _find_facts(path: Path, stream: BinaryIO) -> dict[str, str] | None:
    try:
        for record in _records(stream):
            if isinstance(record, Metadata) and record.name == FACTS_RECORD:
                return record.metadata
    except InvalidMagic:
        raise ReplayError(f"{path}: is no log; give an MCAP file that sensebind recorded") from None
    except _UNREADABLE:
        if stream.tell() < MAGIC_SIZE:
            raise ReplayError(f"{path}: is empty, or cut off within its first bytes") from None
    return None


def _records(stream: BinaryIO) -> Iterator[McapRecord]:
    """The records from front to back. Ends by one of `_UNREADABLE` where they are cut off or damaged."""
    return StreamReader(stream, validate_crcs=True, record_size_limit=MAX_RECORD_BYTES).records
