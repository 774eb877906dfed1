"""Layout of a log: its topics, and the facts of the run that it carries. Shared by the recorder and replay.

A log is an MCAP file, or several: the parts of one recording, each complete. Samples are on `/sensors/<name>`, in the
order in which they came, with their capture time as log time and the sensor's running number as `sequence`: it skips as
many numbers as rows or images are missing before a sample, and runs on from part to part. Events are on `/events`. The
facts are one metadata record, before everything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from agent.streams import MAX_SENSORS, SensorSpec, Stream, fault_of_name
from common.errors import UserFault
from common.plain_values import MAX_LEVELS, fault_of
from common.printable import brief, shortened
from drivers.driver import MODALITIES, Modality
from drivers.forms import FORMS, MAX_RATE_HZ, MIN_RATE_HZ

EVENTS_TOPIC = "/events"
SENSORS_TOPIC = "/sensors/"
RAW_TOPIC = "/sensors_raw/"
"""Prefix of topics for samples that do not fit the schema of their sensor's topic under `/sensors/`."""

FACTS_RECORD = "sensebind.run"
MODEL_RECORD = "sensebind.model"
VERSION = "1"
"""Version of this layout."""

SEQUENCE_MASK = 0xFFFF_FFFF

MAX_TIME_NS = 2**63
MAX_PARTS = 10**6
MAX_FACT_CHARACTERS = 2**20
"""Length limit of the sensors, the configuration and the versions, as JSON."""
_MIN_SCALE = 1e-12
_RUN_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class LogError(UserFault):
    """A log cannot be written or read; the message is one line: which file, what is wrong, what to do."""


class RecordError(LogError):
    """The log cannot be created or written; the message is one line."""


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
    """Facts of a run that a replay needs."""

    run_id: str
    start_ns: int
    """Begin of this file: the run's start, or the first sample of a later part."""
    offset_ns: int
    """UNIX time minus the monotonic clock."""
    sensors: dict[str, LoggedSensor]
    config: dict[str, Any]
    """The tree that `agent.config.parse.parse` takes."""
    versions: dict[str, str] = field(default_factory=dict)
    part: int = 1
    """Number of this file in the recording, from 1; 0 for a piece taken out of one: a clip, a cut."""

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
        """Read a metadata record, which may hold anything. Raises ValueError that names its fault.

        What comes out is within the limits of this module: names that are names, times that are times, and a
        configuration of plain values whose sensors, if it has any, are mappings.
        """
        try:
            if record["version"] != VERSION:
                raise ValueError(f"layout {shortened(record['version'])} is not known, only {VERSION}")
            run_id = record["run_id"]
            if not _RUN_ID.fullmatch(run_id):
                raise ValueError(f"run_id: {brief(run_id)} is not 1 to 64 letters, digits, '_', '.', ':' or '-'")
            return cls(
                run_id,
                _whole_number(record, "start_ns", 0, MAX_TIME_NS),
                _whole_number(record, "clock_offset_ns", -MAX_TIME_NS, MAX_TIME_NS),
                {name: _stored_sensor(name, row) for name, row in _stored_sensors(record).items()},
                _stored_config(record),
                {name: str(version) for name, version in _mapping(record, "versions").items()},
                _whole_number({"part": "1", **record}, "part", 0, MAX_PARTS),
            )
        except KeyError as error:
            raise ValueError(f"{error} is missing") from None


def sensor_of(topic: str) -> str | None:
    """The sensor whose samples a topic carries; None for another topic."""
    for prefix in (SENSORS_TOPIC, RAW_TOPIC):
        if topic.startswith(prefix):
            return topic.removeprefix(prefix)
    return None


def logged_sensors(specs: Iterable[SensorSpec]) -> dict[str, LoggedSensor]:
    """The sensors that a log holds. A device's own counts are kept where its driver tells their scale."""
    return {spec.name: _logged_sensor(spec.stream) for spec in specs if spec.stream.logged}


def _logged_sensor(stream: Stream) -> LoggedSensor:
    form = FORMS[stream.modality]
    scale = form.count_scale if stream.scale is None else stream.scale
    offset = form.count_offset if stream.offset is None else stream.offset
    return LoggedSensor(stream.modality, stream.rate_hz, scale, offset)


def _whole_number(record: Mapping[str, str], key: str, least: int, limit: int) -> int:
    text = record[key]
    number = int(text) if re.fullmatch("-?[0-9]{1,20}", text) else limit
    if not least <= number < limit:
        raise ValueError(f"{key} {shortened(text)} is not a whole number from {least} up to and without {limit}")
    return number


def _mapping(record: Mapping[str, str], key: str) -> dict[str, Any]:
    """A mapping of plain values from JSON."""
    text = record[key]
    if len(text) > MAX_FACT_CHARACTERS:
        raise ValueError(f"{key} has {len(text)} characters; {MAX_FACT_CHARACTERS} are allowed")
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(f"{key}: is nested more than {MAX_LEVELS} levels deep") from None
    except ValueError as error:
        raise ValueError(f"{key} is not JSON: {shortened(str(error))}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{key} holds {brief(found)}; wanted names with values")
    if fault := fault_of(found):
        raise ValueError(f"{key}: {fault}")
    return found


def _stored_sensors(record: Mapping[str, str]) -> dict[str, Any]:
    found = _mapping(record, "sensors")
    if len(found) > MAX_SENSORS:
        raise ValueError(f"sensors: are {len(found)}; {MAX_SENSORS} are allowed")
    return found


def _stored_config(record: Mapping[str, str]) -> dict[str, Any]:
    found = _mapping(record, "config")
    sensors = found.get("sensors", {})
    if not (isinstance(sensors, dict) and all(isinstance(sensor, dict) for sensor in sensors.values())):
        raise ValueError(f"config: sensors holds {brief(sensors)}; wanted the names of sensors, each with its keys")
    return found


def _stored_sensor(name: str, row: Any) -> LoggedSensor:
    if fault := fault_of_name(name):
        raise ValueError(f"sensors: {fault}")
    try:
        sensor = LoggedSensor(**row)
    except TypeError:
        raise ValueError(f"sensor {name!r} is {brief(row)}; wanted modality, rate_hz, scale and offset") from None
    if sensor.modality not in MODALITIES:
        raise ValueError(f"sensor {name!r} has the unknown modality {brief(sensor.modality)}")
    numbers = (sensor.rate_hz, sensor.scale, sensor.offset)
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise ValueError(f"sensor {name!r} is {brief(row)}; its rate_hz, scale and offset must be numbers")
    if not MIN_RATE_HZ <= sensor.rate_hz <= MAX_RATE_HZ:
        raise ValueError(
            f"sensor {name!r} has the rate_hz {brief(sensor.rate_hz)}; {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g} are possible"
        )
    if not (_MIN_SCALE <= sensor.scale <= 1 / _MIN_SCALE and abs(sensor.offset) <= 1 / _MIN_SCALE):
        raise ValueError(f"sensor {name!r} has an impossible scale or offset: {brief(row, 200)}")
    return LoggedSensor(sensor.modality, float(sensor.rate_hz), float(sensor.scale), float(sensor.offset))
