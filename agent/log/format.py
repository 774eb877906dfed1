"""What a log is: its topics, and the facts of the run that it carries. Shared by the recorder and replay.

A log is an MCAP file, or several: the parts of one recording, each complete. Samples are on `/sensors/<name>`, in the
order in which they came, with their capture time as log time and the sensor's running number as `sequence`: it skips as
many numbers as rows or images are missing before a sample, and runs on from part to part. Events are on `/events`. The
facts are one metadata record, before everything else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from agent.capture.source import SensorSpec
from drivers.depth import MILLIMETRE_M
from drivers.driver import MODALITIES, Modality
from drivers.thermal import CENTIKELVIN_C, ZERO_KELVIN_C

EVENTS_TOPIC = "/events"
SENSORS_TOPIC = "/sensors/"
RAW_TOPIC = "/sensors_raw/"
"""For samples that do not fit the schema of their sensor's topic under `/sensors/`."""

FACTS_RECORD = "sensebind.run"
MODEL_RECORD = "sensebind.model"
VERSION = "1"
"""Of this layout."""

SEQUENCE_MASK = 0xFFFF_FFFF


class LogError(Exception):
    """A log cannot be written or read; the message is one line: which file, what is wrong, what to do."""


class RecordError(LogError):
    """The file cannot be begun."""


class ReplayError(LogError):
    """The file is not a log that can be replayed."""


@dataclass(frozen=True, slots=True)
class LoggedSensor:
    """One sensor of a log. Depth and thermal are stored as 16-bit counts: value = count * scale + offset."""

    modality: Modality
    rate_hz: float
    """Nominal: images, or rows, a second."""
    scale: float = 1.0
    """Metres, or degrees Celsius, of one count."""
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What one needs to know of a run to replay it."""

    run_id: str
    start_ns: int
    """When what this file holds began: the run's start, or the first sample of a later part."""
    offset_ns: int
    """UNIX time minus the monotonic clock."""
    sensors: dict[str, LoggedSensor]
    config: dict[str, Any]
    """The tree that `agent.config.parse` takes."""
    versions: dict[str, str] = field(default_factory=dict)
    part: int = 1
    """Which file of the recording this is, from 1; 0 is a piece taken out of one: a clip, a cut."""

    def to_record(self) -> dict[str, str]:
        """The facts as a metadata record holds them."""
        return {
            "version": VERSION,
            "run_id": self.run_id,
            "start_ns": str(self.start_ns),
            "clock_offset_ns": str(self.offset_ns),
            "sensors": json.dumps({name: asdict(sensor) for name, sensor in self.sensors.items()}),
            "config": json.dumps(self.config),
            "versions": json.dumps(self.versions),
            "part": str(self.part),
        }

    @classmethod
    def from_record(cls, record: dict[str, str]) -> RunFacts:
        """Read a metadata record. Raises ValueError saying what is wrong with it."""
        try:
            if record["version"] != VERSION:
                raise ValueError(f"layout {record['version']} is not known, only {VERSION}")
            sensors = {name: LoggedSensor(**row) for name, row in json.loads(record["sensors"]).items()}
            facts = cls(
                record["run_id"],
                int(record["start_ns"]),
                int(record["clock_offset_ns"]),
                sensors,
                json.loads(record["config"]),
                json.loads(record["versions"]),
                int(record.get("part", "1")),
            )
        except KeyError as error:
            raise ValueError(f"{error} is missing") from None
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None
        for name, sensor in sensors.items():
            if sensor.modality not in MODALITIES:
                raise ValueError(f"sensor {name!r} has the unknown modality {sensor.modality!r}")
        return facts


def sensor_of(topic: str) -> str | None:
    """The sensor whose samples a topic carries; None for another topic."""
    for prefix in (SENSORS_TOPIC, RAW_TOPIC):
        if topic.startswith(prefix):
            return topic.removeprefix(prefix)
    return None


def logged_sensors(specs: Iterable[SensorSpec]) -> dict[str, LoggedSensor]:
    """The sensors that a log holds. A device's own counts are kept where its options tell their scale."""
    return {spec.name: _logged_sensor(spec) for spec in specs if spec.stream.logged}


def _logged_sensor(spec: SensorSpec) -> LoggedSensor:
    modality, rate_hz = spec.stream.modality, spec.stream.rate_hz
    if modality == "depth":
        return LoggedSensor(modality, rate_hz, getattr(spec.options, "scale_m", MILLIMETRE_M))
    if modality == "thermal":
        scale_c = getattr(spec.options, "scale_c", CENTIKELVIN_C)
        return LoggedSensor(modality, rate_hz, scale_c, getattr(spec.options, "offset_c", ZERO_KELVIN_C))
    return LoggedSensor(modality, rate_hz)
