"""Contents of a recording, decoded: samples and events in the order in which they were written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError

from agent.log import messages
from agent.log.format import EVENTS_TOPIC, SEQUENCE_MASK, LoggedSensor, ReplayError, sensor_of
from agent.log.timeline import Entry, Timeline
from common.progress import Progress
from drivers.driver import BadData, Sample
from drivers.forms import check_form
from protos import perception_pb2 as pb

T = TypeVar("T")


class Contents:
    """A recording, one sample in memory at a time. To be iterated once.

    Damaged files give what stands before the damage; `timeline.unfinished` then says so.
    """

    def __init__(self, log: Path, sensors: Collection[str] = ()) -> None:
        """Open a recording and read only `sensors`, by default all. Raises ReplayError for a file that is not a log,
        or lacks one.
        """
        self.timeline = Timeline([log])
        self.sensors = chosen_sensors(self.timeline, sensors)
        self.bad: Counter[str] = Counter()
        """Messages that are not what they should be, by sensor; of events by EVENTS_TOPIC."""
        self._sequence: dict[str, int] = {}

    def __iter__(self) -> Iterator[tuple[str, Sample] | pb.Event]:
        for entry in self.timeline.read():
            name = sensor_of(entry.topic)
            try:
                if entry.topic == EVENTS_TOPIC:
                    yield pb.Event.FromString(entry.message.data)
                elif name is not None and name in self.sensors:
                    yield name, self._decode(name, entry)
            except (BadData, DecodeError):
                self.bad[name or EVENTS_TOPIC] += 1

    def _decode(self, name: str, entry: Entry) -> Sample:
        sensor, sequence = self.sensors[name], entry.message.sequence
        # Losses before the first sample are before the begin of the log.
        lost = (sequence - self._sequence.get(name, sequence - 1) - 1) & SEQUENCE_MASK
        self._sequence[name] = sequence
        sample = messages.decode(entry.schema, sensor, entry.message.log_time, entry.message.data)
        check_form(sample, sensor.modality)
        backwards = lost > SEQUENCE_MASK // 2
        return replace(sample, lost=0 if backwards else lost)


def chosen_sensors(timeline: Timeline, wanted: Collection[str]) -> dict[str, LoggedSensor]:
    """The `wanted` sensors of a recording, all of them when none is named. Raises ReplayError for one that it lacks."""
    if missing := [name for name in wanted if name not in timeline.sensors]:
        known = ", ".join(sorted(timeline.sensors)) or "none"
        raise ReplayError(f"{timeline}: holds no sensor {missing[0]!r}; its sensors are: {known}")
    return {name: sensor for name, sensor in timeline.sensors.items() if not wanted or name in wanted}


def over_time(items: Iterable[T], t_ns_of: Callable[[T], int], timeline: Timeline, progress: Progress) -> Iterator[T]:
    """Pass on what is made of a recording, in about the order of its time, and tell how many seconds of it are done."""
    of_s = (timeline.end_ns - timeline.start_ns) / 1e9
    done_s = 0.0
    for item in items:
        done_s = max(done_s, (t_ns_of(item) - timeline.start_ns) / 1e9)
        progress("seconds of the recording", min(done_s, of_s), of_s)
        yield item
