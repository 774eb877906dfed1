"""Two recordings as one log: different sensors of one time, or pieces of one run that follow each other.

What may be merged, so that numbers, stamps and facts stay true:

- sensors that only one of them has: their messages are put in order of time, each log's own order kept;
- a sensor that both have: only of one run, and only where its numbers in one come after those in the other;
- events of one run: each once. Events of two runs: no, since their run ids and numbers would contradict each other.

The facts are those of the run whose events are in it, else of the first; what the other said of itself is kept in the
metadata record `sensebind.merged`.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from mcap.records import Metadata

from agent.log.editing.copying import Copied, order_of
from agent.log.editing.cutting import OtherMetadata, Written, read
from agent.log.editing.survey import Survey, survey
from agent.log.format import EVENTS_TOPIC, FACTS_RECORD, MODEL_RECORD, LogError, RunFacts
from agent.log.whole_file import whole_log
from agent.streams import LONGEST_HOLE_S

MERGED_RECORD = "sensebind.merged"
SEAM_S = 5.0
"""Overlap that is allowed of pieces that follow each other: samples and events come late."""
_REMEMBERED_EVENTS = 16_384
_NS = 1_000_000_000


def merge(first: Sequence[Path], second: Sequence[Path], out: Path) -> Written:
    """Write one log of two recordings, each given by its files. Memory is bounded by two chunks.

    Raises ReplayError for a file that is not a log, LogError when they do not go together, RecordError when the log
    cannot be written.
    """
    one, other = survey(first), survey(second)
    _check(one, other)
    follow = bool(_shared(one, other))
    if follow and not _comes_before(one, other):
        one, other = other, one
    # Facts of the run whose events are in it.
    main, minor = (other, one) if EVENTS_TOPIC not in one.topics and EVENTS_TOPIC in other.topics else (one, other)
    written = Written(out)
    with whole_log(out, order_of([*first, *second])) as writer:
        writer.add_metadata(FACTS_RECORD, _merged_facts(main.facts, minor.facts).to_record())
        writer.add_metadata(MERGED_RECORD, minor.facts.to_record())
        metadata = OtherMetadata(writer)
        contents = [
            _without_model(read(log.files)) if log is minor and minor.model != main.model else read(log.files)
            for log in (one, other)
        ]
        for item in _events_once(chain(*contents) if follow else heapq.merge(*contents, key=_log_time)):
            if isinstance(item, Metadata):
                metadata.copy(item)
            else:
                item.write(writer)
                written.count(item)
    return written


def _check(one: Survey, other: Survey) -> None:
    """Raises LogError when two recordings do not go together."""
    names = f"{one.files[0]} and {other.files[0]}"
    same_run = one.facts.run_id == other.facts.run_id
    for name, sensor in one.facts.sensors.items():
        if other.facts.sensors.get(name, sensor) != sensor:
            raise LogError(f"{names}: {name!r} is a different sensor in each; cut one of them without it")
    shared = _shared(one, other)
    if shared and not same_run:
        raise LogError(
            f"{names} both have {', '.join(shared)}, in two runs, in each of which numbers begin anew; "
            "keep them apart, or cut one of them without it"
        )
    if shared and not (_comes_before(one, other) or _comes_before(other, one)):
        raise LogError(f"{names} both hold the same time of {', '.join(shared)}; cut one of them first")
    if not same_run and EVENTS_TOPIC in one.topics and EVENTS_TOPIC in other.topics:
        raise LogError(f"{names} both hold events, of two runs; cut one of them with --no-events first")
    apart_s = (max(one.first_ns, other.first_ns) - min(one.last_ns, other.last_ns)) / _NS
    if apart_s > LONGEST_HOLE_S:
        raise LogError(
            f"{names} are {apart_s:.0f} s apart, more than the {LONGEST_HOLE_S:.0f} s that a replay bridges in a file; "
            "keep them apart: the files of one run in a folder are replayed as one"
        )
    if shared and -apart_s > SEAM_S:
        raise LogError(f"{names} follow each other by their numbers, but overlap by {-apart_s:.0f} s; cut one of them")


def _shared(one: Survey, other: Survey) -> list[str]:
    """The topics of sensors that both have samples of."""
    return sorted((one.topics.keys() & other.topics.keys()) - {EVENTS_TOPIC})


def _comes_before(one: Survey, other: Survey) -> bool:
    return all(one.topics[name].last_number < other.topics[name].first_number for name in _shared(one, other))


def _merged_facts(main: RunFacts, minor: RunFacts) -> RunFacts:
    sensors = minor.config.get("sensors", {}) | main.config.get("sensors", {})
    return replace(
        main,
        start_ns=min(main.start_ns, minor.start_ns),
        sensors=minor.sensors | main.sensors,
        config=main.config | {"sensors": sensors},
        part=0,
    )


def _without_model(contents: Iterator[Copied | Metadata]) -> Iterator[Copied | Metadata]:
    return (item for item in contents if not (isinstance(item, Metadata) and item.name == MODEL_RECORD))


def _events_once(contents: Iterable[Copied | Metadata]) -> Iterator[Copied | Metadata]:
    """Everything, but an event that both have, and what viewers get of it, only the first time."""
    events: OrderedDict[tuple[str, int], None] = OrderedDict()
    for item in contents:
        if isinstance(item, Copied) and (key := _key_of(item)):
            if key in events:
                continue
            events[key] = None
            if len(events) > _REMEMBERED_EVENTS:
                events.popitem(last=False)
        yield item


def _key_of(item: Copied) -> tuple[str, int] | None:
    """What tells two messages apart that are not of a sensor: an event's number, else the time; None for a sensor's."""
    viewer = item.viewer
    if item.is_event or (viewer and viewer.is_event):
        return item.channel.topic, item.message.sequence
    return (item.channel.topic, item.message.log_time) if viewer and viewer.sensor is None else None


def _log_time(item: Copied | Metadata) -> int:
    return item.message.log_time if isinstance(item, Copied) else 0
