"""Contents of a log, all of it read, so that every statement about it has been checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcap.records import Message

from agent.log.format import MODEL_RECORD, RAW_TOPIC, SENSORS_TOPIC, SEQUENCE_MASK, RunFacts
from agent.log.ordering import by_time
from agent.log.reading import facts_of, metadata_of, open_log
from agent.log.unpacking import Damaged
from agent.log.viewers.topics import viewer_topic
from agent.log.writing import LIBRARY


@dataclass
class TopicSurvey:
    """The messages of one sensor, or the events."""

    count: int = 0
    size: int = 0
    """Size in bytes."""
    first_ns: int = 0
    last_ns: int = 0
    """The earliest and the latest log time."""
    first_number: int = 0
    last_number: int = -1
    gaps: int = 0
    missing: int = 0
    """Numbers that are skipped: rows or images that were lost, or events that are not in the log."""

    def add(self, message: Message) -> None:
        """Take the next message."""
        if not self.count:
            self.first_ns = self.last_ns = message.log_time
            self.first_number = message.sequence
        else:
            skipped = (message.sequence - self.last_number - 1) & SEQUENCE_MASK
            if 0 < skipped <= SEQUENCE_MASK // 2:  # more is a step back
                self.gaps += 1
                self.missing += skipped
        self.count += 1
        self.size += len(message.data)
        self.first_ns, self.last_ns = min(self.first_ns, message.log_time), max(self.last_ns, message.log_time)
        self.last_number = message.sequence

    @property
    def rate_hz(self) -> float:
        """Messages a second; 0 when that cannot be told."""
        return (self.count - 1) * 1e9 / (self.last_ns - self.first_ns) if self.last_ns > self.first_ns else 0.0


@dataclass
class ViewerSurvey:
    """The messages of one topic for viewers, which are made of others and have no gaps of their own."""

    count: int = 0
    size: int = 0
    """Size in bytes."""


@dataclass
class Survey:
    """Contents of the files of one recording."""

    files: Sequence[Path]
    facts: RunFacts
    """Facts of the first file."""
    size: int = 0
    """Bytes on the disk."""
    model: str = ""
    topics: dict[str, TopicSurvey] = field(default_factory=dict)
    """Counts by topic of samples and events; samples on a sensor's raw topic are counted with the rest."""
    viewers: dict[str, ViewerSurvey] = field(default_factory=dict)
    """Counts by topic for viewers."""
    damages: list[str] = field(default_factory=list)
    """Places that are cut off or damaged, by file."""

    @property
    def first_ns(self) -> int:
        """The earliest log time of a sample or event."""
        return min((topic.first_ns for topic in self.topics.values()), default=self.facts.start_ns)

    @property
    def last_ns(self) -> int:
        """The latest log time of a sample or event."""
        return max((topic.last_ns for topic in self.topics.values()), default=self.facts.start_ns)


def survey(files: Sequence[Path]) -> Survey:
    """Read the files of a recording, in time order. Memory is bounded as of a Timeline. Raises ReplayError."""
    found = Survey(files, facts_of(files[0]))
    for path in files:
        found.size += path.stat().st_size
        with open_log(path) as stream:
            try:
                for given in by_time(stream, recorder=LIBRARY):
                    topic = given.channel.topic
                    if viewer_topic(topic):
                        viewers = found.viewers.setdefault(topic, ViewerSurvey())
                        viewers.count += 1
                        viewers.size += len(given.message.data)
                        continue
                    name = topic.replace(RAW_TOPIC, SENSORS_TOPIC, 1)
                    found.topics.setdefault(name, TopicSurvey()).add(given.message)
                found.model = (metadata_of(stream, MODEL_RECORD) or {}).get("model", found.model)
            except Damaged as damage:
                found.damages.append(f"{path}: {damage}")
    return found
