"""A recording as a source: its samples in the order in which they were recorded, on the log's own clock.

A log that was cut off (a killed recorder, a full disk, a partial copy) is read up to its last whole chunk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from agent.capture.source import CaptureReport, CaptureState
from agent.faults import Faults
from agent.log import messages as log_messages
from agent.log.format import EVENTS_TOPIC, SEQUENCE_MASK, ReplayError, sensor_of
from agent.log.replay.control import ALL, ReplayOptions
from agent.log.replay.pictures import LoggedPicture, StoredPicture
from agent.log.replay.source import Due, ReplaySource
from agent.log.timeline import Entry, Timeline
from drivers.driver import BadData, Clock, Sample
from drivers.forms import check_form, image_like

SensorSample: TypeAlias = tuple[str, Sample]


class SampleReplay(ReplaySource[SensorSample]):
    """A Source that reads one recording. `clock` is the log's: it stands at the newest sample that was returned."""

    def __init__(
        self,
        log: Path | Timeline,
        sensors: Collection[str] | None = None,
        options: ReplayOptions = ALL,
        pace: Clock | None = None,
        faults: Faults | None = None,
    ) -> None:
        """Only `sensors` are replayed, by default all of the log's. `faults` counts by sensor. Raises ReplayError."""
        self._faults = faults or Faults()
        super().__init__(log if isinstance(log, Timeline) else Timeline([log]), options, pace)
        wanted = self.timeline.sensors if sensors is None else sensors
        self._sensors = {name: sensor for name, sensor in self.timeline.sensors.items() if name in wanted}
        self._wanted = list(wanted)
        self._begin()

    def reports(self) -> dict[str, CaptureReport]:
        """Return the counts of reading, per sensor."""
        return {
            name: CaptureReport("ended" if self.ended else state, self._errors[name], 0, dict(self._drops[name]))
            for name, state in self._states.items()
        }

    def _begin(self) -> None:
        """Know nothing of what was read before."""
        self._states: dict[str, CaptureState] = {
            name: "starting" if name in self._sensors else "ended" for name in self._wanted
        }
        self._errors = {name: "" if name in self._sensors else "not in the log" for name in self._wanted}
        self._drops: dict[str, Counter[str]] = {name: Counter() for name in self._wanted}
        self._sequence: dict[str, int] = {}

    def _read(self, from_ns: int | None) -> Iterator[Due[SensorSample]]:
        self._begin()
        return self._samples(from_ns)

    def _samples(self, from_ns: int | None) -> Iterator[Due[SensorSample]]:
        known_ns = 0
        for entry in self.timeline.read(from_ns):
            message = entry.message
            known_ns = max(known_ns, entry.file_start_ns)
            if entry.topic == EVENTS_TOPIC:
                known_ns = max(known_ns, message.log_time)
                continue
            name = sensor_of(entry.topic)
            if name not in self._sensors or (from_ns is not None and message.log_time < from_ns):
                continue
            sample = self._decode_or_count(name, entry)
            if sample is not None:
                yield Due((name, sample), sample.t_ns, sample.end_ns, known_ns)

    def _decode_or_count(self, name: str, entry: Entry) -> Sample | None:
        with self._faults.guard(name):
            return self._decode(name, entry)
        self._drops[name]["fault"] += 1
        return None

    def _decode(self, name: str, entry: Entry) -> Sample | None:
        """The sample of a message; None when it is bad."""
        sensor, message = self._sensors[name], entry.message
        lost = self._lost(name, message.sequence)
        sample: Sample
        try:
            if image_like(sensor.modality):
                picture = StoredPicture(entry.schema, sensor, message.data, partial(self._note_bad, name))
                sample = LoggedPicture(message.log_time, picture, lost=lost)
            else:
                sample = log_messages.decode(entry.schema, sensor, message.log_time, message.data)
                check_form(sample, sensor.modality)
                sample = replace(sample, lost=lost)
        except BadData as error:
            self._note_bad(name, error)
            return None
        self._states[name] = "running"
        return sample

    def _lost(self, name: str, sequence: int) -> int:
        """Rows or images that are missing before a message. What was lost before the first is before the log."""
        previous = self._sequence.get(name, sequence - 1)
        lost = (sequence - previous - 1) & SEQUENCE_MASK
        if lost > SEQUENCE_MASK // 2:  # it goes back: pieces of a recording that overlap
            return 0
        self._sequence[name] = sequence
        if lost:
            self._drops[name]["not recorded"] += lost
        return lost

    def _note_bad(self, name: str, error: BadData) -> None:
        self._errors[name] = str(error)
        self._drops[name]["bad data"] += 1


def check_sensors(timeline: Timeline, wanted: Collection[str], configured: Collection[str]) -> None:
    """Raise ReplayError for a sensor that a recording, or the configuration, lacks."""
    for where, known in ((str(timeline), timeline.sensors), ("the configuration", configured)):
        if missing := [name for name in wanted if name not in known]:
            names = ", ".join(sorted(known)) or "none"
            raise ReplayError(f"{where}: has no sensor {missing[0]!r}; its sensors are: {names}")


def with_sensors(config: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
    """A configuration's tree with some of its sensors, and no choice of one that it lacks then."""
    tree = {**config, "sensors": {name: sensor for name, sensor in config["sensors"].items() if name in wanted}}
    chosen = {key: name for key, name in (config.get("localization") or {}).items() if name in wanted}
    return {**tree, "localization": chosen}
