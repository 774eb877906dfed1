"""Samples from elsewhere as a log, with a configuration by which it can be replayed as it is."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agent.config.parse import parse
from agent.config.recording import PictureFormat
from agent.log.encoded import Encoded, encode_sample
from agent.log.format import LogError, LoggedSensor, RunFacts
from agent.log.whole_file import save_log
from common.printable import brief
from drivers.driver import BadData, Modality, Sample

PICTURES = PictureFormat(jpeg_quality=95)
"""Better than a recording's usual: these pictures have mostly been compressed before."""
MAX_LOST = 2**31 - 1
"""Numbers of samples wrap at twice this: a longer gap cannot be told from a step back."""


@dataclass(slots=True)
class ImportedSensor:
    """Counts of one imported sensor."""

    modality: Modality
    samples: int = 0
    """Number of samples in the log: pictures, or blocks of rows."""
    rows: int = 0
    """Pictures, or rows of audio and IMU."""
    missing: int = 0
    """Pictures or rows known to be missing before others."""
    faults: Counter[str] = field(default_factory=Counter)
    """Samples that were left out or altered, by reason."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """Result of an import."""

    sensors: dict[str, ImportedSensor]
    skipped: list[str]
    """Inputs that were not imported at all, one line each."""
    notes: list[str] = field(default_factory=list)
    """Further lines about what was imported."""


def write_log(
    path: Path,
    facts: RunFacts,
    samples: Iterable[tuple[str, Sample]],
    faults: Mapping[str, Counter[str]],
) -> dict[str, ImportedSensor]:
    """Write a log, whole or not at all; return what became of each sensor. Raises LogError, also for no samples at all.

    `faults` go into the answer as they are at the end; what cannot be stored is added to them.
    """
    found = {name: ImportedSensor(sensor.modality, faults=faults[name]) for name, sensor in facts.sensors.items()}

    def encoded() -> Iterator[Encoded]:
        for name, sample in samples:
            sample = replace(sample, lost=min(sample.lost, MAX_LOST))
            imported = found[name]
            try:
                message = encode_sample(name, facts.sensors[name], sample, PICTURES)
            except (BadData, ValueError):  # a time before 1970, or after the year 9999
                imported.faults["samples that cannot be stored"] += 1
                continue
            yield message
            imported.samples += 1
            imported.rows += message.rows
            imported.missing += message.lost
        if not any(imported.samples for imported in found.values()):
            raise LogError(f"{path}: not written: the source holds no sample")

    save_log(path, facts, encoded())
    return found


def facts_of_import(
    start_ns: int,
    sensors: Mapping[str, tuple[LoggedSensor, Mapping[str, Any]]],
    config: Mapping[str, Any],
    where: str,
) -> RunFacts:
    """The facts of a run that never was: `sensors` are (as logged, options such as the size of pictures).

    `config` is what is known of the configuration: its sensors may say all of a sensor (with `type`) or add to what is
    known here. Raises ConfigError, which begins with `where`, and LogError.
    """
    given = config.get("sensors", {})
    if not (isinstance(given, dict) and all(isinstance(own, dict) for own in given.values())):
        raise LogError(f"{where}: sensors: holds {brief(given)}; wanted the names of sensors, each with its keys")
    tree = {**config, "sensors": dict(given)}
    for name, (sensor, options) in sensors.items():
        own = given.get(name, {})
        if "type" not in own:
            own = {"type": "remote", "modality": sensor.modality, "rate_hz": sensor.rate_hz, **options, **own}
        tree["sensors"][name] = own
    streams = parse(tree, where).streams
    for name, (sensor, _) in sensors.items():
        if streams[name].modality != sensor.modality:
            said = streams[name].modality
            raise LogError(f"{where}: sensors.{name} is a sensor of {said}, but what was found is {sensor.modality}")
    logged = {name: sensor for name, (sensor, _) in sensors.items()}
    facts = RunFacts(uuid.uuid4().hex[:12], start_ns, 0, logged, tree, {"sensebind": version("sensebind")})
    try:
        return RunFacts.from_record(facts.to_record())  # a written log can be read
    except ValueError as error:
        raise LogError(f"{where}: {error}") from None
