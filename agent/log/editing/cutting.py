"""A piece of a recording as a log of its own: some time, some sensors, all as it was."""

from __future__ import annotations

import difflib
import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mcap.records import Metadata

from agent.log.editing.copying import Copied, contents, order_of
from agent.log.format import FACTS_RECORD, LogError, LoggedSensor, ReplayError, RunFacts
from agent.log.reading import Span, facts_of, frames, open_log
from agent.log.unpacking import Damaged
from agent.log.whole_file import whole_log
from agent.log.writing import LogWriter

log = logging.getLogger(__name__)

_NEVER_NS = 2**64


@dataclass
class Written:
    """A log that was made of others."""

    path: Path
    messages: Counter[str] = field(default_factory=Counter)
    """Number of samples and events, by topic."""
    for_viewers: int = 0
    """Number of messages for viewers."""

    def count(self, item: Copied) -> None:
        """Note that a message was written."""
        if item.viewer:
            self.for_viewers += 1
        else:
            self.messages[item.channel.topic] += 1


def cut(
    files: Sequence[Path],
    out: Path,
    *,
    from_ns: int | None = None,
    to_ns: int | None = None,
    sensors: Collection[str] | None = None,
    events: bool = True,
) -> Written:
    """Write the messages captured from `from_ns`, by default the start, up to and without `to_ns`, by default the end.

    Numbers, stamps and contents stay as they are. The facts name the sensors that are left and the time at which the
    piece begins; the configuration stays that of the run. A file that is cut off or damaged gives the part before.
    Memory is bounded by a chunk.

    Raises ReplayError for a file that is not a log or lacks a sensor, LogError when nothing is left, RecordError when
    the piece cannot be written.
    """
    facts = facts_of(files[0])
    chosen = _chosen(files[0], facts, sensors)
    from_ns, to_ns = from_ns or 0, _NEVER_NS if to_ns is None else to_ns
    piece = replace(facts, start_ns=max(from_ns, facts.start_ns), sensors=chosen, part=0)
    written = Written(out)
    with whole_log(out, order_of(files)) as writer:
        writer.add_metadata(FACTS_RECORD, piece.to_record())
        others = OtherMetadata(writer)
        for item in read(files, lambda start_ns, end_ns: end_ns >= from_ns and start_ns < to_ns):
            if isinstance(item, Metadata):
                others.copy(item)
            elif from_ns <= item.message.log_time < to_ns and item.is_of(chosen, events=events):
                item.write(writer)
                written.count(item)
        if not written.messages:
            raise LogError(
                f"{files[0]}: holds no message of these sensors in this time range; widen --from and --to, or name "
                "other sensors"
            )
    return written


def read(files: Sequence[Path], wanted: Span = lambda _start_ns, _end_ns: True) -> Iterator[Copied | Metadata]:
    """Yield the contents of a recording's files; of a file that is cut off or damaged the part before, with a line in
    the log.
    """
    for path in files:
        with open_log(path) as stream:
            try:
                yield from contents(frames(stream), wanted)
            except Damaged as damage:
                log.warning("%s: %s; the part before is used", path, damage)


class OtherMetadata:
    """Copies metadata but for the facts, each record once: the files of a recording repeat them."""

    def __init__(self, writer: LogWriter) -> None:
        """`writer` gets the copies."""
        self._writer = writer
        self._seen: set[bytes] = set()
        """Digests: records may be long."""

    def copy(self, item: Metadata) -> None:
        """Copy a record, unless one like it was."""
        key = hashlib.sha256(repr((item.name, item.metadata)).encode(errors="surrogatepass")).digest()
        if item.name != FACTS_RECORD and key not in self._seen:
            self._seen.add(key)
            self._writer.add_metadata(item.name, item.metadata)


def _chosen(path: Path, facts: RunFacts, sensors: Collection[str] | None) -> dict[str, LoggedSensor]:
    for name in sensors or ():
        if name not in facts.sensors:
            close = difflib.get_close_matches(name[:80], facts.sensors, n=1, cutoff=0.5) or [", ".join(facts.sensors)]
            raise ReplayError(f"{path}: has no sensor {name!r}; it has {close[0]}")
    return {name: sensor for name, sensor in facts.sensors.items() if sensors is None or name in sensors}
