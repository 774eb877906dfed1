"""One or several files of a recording as one timeline, from any time on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from mcap.records import Channel, Message, Schema

from agent.log.files import recording_files
from agent.log.format import EVENTS_TOPIC, MODEL_RECORD, LoggedSensor, ReplayError, RunFacts
from agent.log.messages import end_ns
from agent.log.ordering import by_time
from agent.log.reading import facts_of, metadata_of, open_log
from agent.log.seeking import places_of
from agent.log.unpacking import Damaged
from agent.log.viewers.topics import viewer_topic
from agent.log.writing import LIBRARY
from agent.streams import LONGEST_HOLE_NS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of a log."""

    topic: str
    schema: str
    """The name of its schema."""
    message: Message
    file_start_ns: int
    """Begin of its file: the log's time has come to that at least."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of a recording."""

    path: Path
    facts: RunFacts


class Timeline:
    """The messages of a recording by time, its files one after the other.

    What our own recorder wrote keeps the order in which samples came. Memory is bounded by HELD_BYTES, a chunk, and
    some bytes for each chunk of one file, whatever the order in it.
    """

    def __init__(self, logs: Sequence[Path]) -> None:
        """Files, or folders of one run, in any order. Raises ReplayError: no log, or not the parts of one recording."""
        paths = dict.fromkeys(path for log_path in logs for path in recording_files(log_path))
        self.files = _in_order([LogFile(path, facts_of(path)) for path in paths])
        self.facts = self.files[0].facts
        """Facts of the run, as they stand in the first file."""
        self.sensors: dict[str, LoggedSensor] = {}
        for file in reversed(self.files):
            self.sensors |= file.facts.sensors
        self.unfinished = ""
        """File that ended early, as far as known by now; empty if none did."""

    def __str__(self) -> str:
        path = self.files[0].path
        return str(path) if len(self.files) == 1 else f"{path} and {len(self.files) - 1} more"

    @property
    def start_ns(self) -> int:
        """Begin of the recording."""
        return self.facts.start_ns

    @cached_property
    def end_ns(self) -> int:
        """The latest capture time of a message, that of an IMU's row included; the start of a recording that holds
        none. Raises ReplayError.
        """
        for file in reversed(self.files):
            with open_log(file.path) as stream:
                end_ns = places_of(stream).end_ns(longest_ns=LONGEST_HOLE_NS)
            if end_ns is not None:
                return max(end_ns, self.start_ns)
        return self.start_ns

    def read(self, from_ns: int | None = None) -> Iterator[Entry]:
        """Every message, or those from the first chunk on that holds one at or after a time. Raises ReplayError.

        Messages for viewers are left out: they only repeat others.
        A file that is cut off or damaged is read up to there; then the next one is.
        """
        for file in self.files[self._first_file(from_ns) :]:
            with open_log(file.path) as stream:
                try:
                    for given in by_time(stream, from_ns or 0, _sample_end, recorder=LIBRARY):
                        topic, schema = given.channel.topic, given.schema.name
                        if not viewer_topic(topic):
                            yield Entry(topic, schema, given.message, file.facts.start_ns)
                except Damaged as damage:
                    self.unfinished = f"{file.path}: the log is cut off or damaged; the part before is replayed"
                    log.warning("%s (%s)", self.unfinished, damage)

    def events(self) -> Iterator[Message]:
        """The messages of the topic of events."""
        return (entry.message for entry in self.read() if entry.topic == EVENTS_TOPIC)

    def model(self) -> str:
        """The name and hash of the weights that the run used; empty when it had none. Raises ReplayError."""
        for file in self.files:
            with open_log(file.path) as stream:
                try:
                    record = metadata_of(stream, MODEL_RECORD)
                except Damaged:
                    continue
            if record is not None:
                return record.get("model", "")
        return ""

    def _first_file(self, from_ns: int | None) -> int:
        """The first file that can hold anything from a time on: the one before that which begins by then.

        Samples come late, so what was captured last of a file may stand in the next one.
        """
        begun = [i for i, file in enumerate(self.files) if from_ns is not None and file.facts.start_ns <= from_ns]
        return max(0, begun[-1] - 1) if begun else 0


def _sample_end(schema: Schema, _channel: Channel, message: Message) -> int:
    return end_ns(schema.name, message.log_time, message.data)


def _in_order(files: Sequence[LogFile]) -> list[LogFile]:
    """Return files by their numbers, pieces by their time. Raises ReplayError."""
    numbered = all(file.facts.part for file in files)
    ordered = sorted(files, key=lambda file: file.facts.part if numbered else file.facts.start_ns)
    for file, after in pairwise(ordered):
        names = f"{file.path} and {after.path}"
        if file.facts.run_id != after.facts.run_id:
            runs = f"{file.facts.run_id} and {after.facts.run_id}"
            raise ReplayError(f"{names} are of different runs ({runs}); replay them one after the other")
        if numbered and file.facts.part == after.facts.part:
            raise ReplayError(f"{names} are both part {file.facts.part} of one recording; give one of them")
    return ordered
