"""The configuration: YAML, validated once, here, into plain dataclasses.

Every fault is a ConfigError of one line: which file, which key, what is wrong, what to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from agent.address import ListenError, split_address
from agent.config.faults import ConfigError, ConfigFaults
from agent.config.recording import PictureFormat, RecordSettings, Retention
from agent.config.sensors import Sensor, check_device_files, chosen_for, sensor_of
from agent.config.settings import (
    AlertSettings,
    ClipSettings,
    ModelSettings,
    QuerySettings,
    RecordingSettings,
    ServerSettings,
    Settings,
)
from agent.config.validation import fault_lines, nearest
from agent.query import Query, QueryError
from agent.streams import SensorSpec, Streams
from common.plain_values import fault_of
from common.yaml_file import YamlError, parse_yaml, read_yaml
from drivers.driver import Modality

_LOCALIZING: dict[str, Modality] = {"camera": "vision", "microphone": "audio"}


@dataclass(frozen=True)
class Config:
    """The valid configuration, as the rooms take it."""

    name: str
    tree: dict[str, Any]
    """The plain values that it was made from, for the log."""
    sensors: dict[str, Sensor]
    model: ModelSettings = field(default_factory=ModelSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    hop_ns: int = 500_000_000
    queries: tuple[Query, ...] = ()
    background_prompts: tuple[str, ...] | None = None
    alerts: AlertSettings = field(default_factory=AlertSettings)
    camera: str | None = None
    microphone: str | None = None
    record_folder: Path | None = None
    """Folder of the recordings of `sensebind run`; None: it does not record."""
    record: RecordSettings = field(default_factory=RecordSettings)
    clips: ClipSettings = field(default_factory=ClipSettings)

    @property
    def streams(self) -> Streams:
        """The table of streams, by sensor."""
        return {name: sensor.spec.stream for name, sensor in self.sensors.items()}

    @property
    def specs(self) -> list[SensorSpec]:
        """Drivers and their options, for capture."""
        return [sensor.spec for sensor in self.sensors.values()]

    @property
    def mic_positions_m(self) -> dict[str, NDArray[np.float64]]:
        """Positions [m, 3] of the microphones of each array, by sensor."""
        positions_m = {name: sensor.mic_positions_m for name, sensor in self.sensors.items()}
        return {name: np.array(of_it) for name, of_it in positions_m.items() if of_it is not None and len(of_it) > 1}


def synthetic(seed: int | None = None, **options: Any) -> Config:
    """The synthetic world of `configs/synthetic.yaml`, with another seed or other options of its drivers."""
    with resources.as_file(resources.files("configs") / "synthetic.yaml") as path:
        tree = parse_yaml(path.read_text(), str(path))
        for sensor in tree["sensors"].values():
            sensor.update(options if seed is None else {"seed": seed, **options})
        return parse(tree, str(path))


def load(path: Path) -> Config:
    """Read and validate a YAML file. Raises ConfigError."""
    try:
        tree = read_yaml(path)
    except YamlError as error:
        raise ConfigError(str(error)) from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds no keys; it needs at least `sensors:`")
    return parse(tree, str(path))


def parse(tree: Mapping[str, Any], name: str = "config", *, devices: bool = True) -> Config:
    """Validate a tree of plain values; `name` goes before every message. Raises ConfigError.

    Without `devices`, for a replay, sensors have of their drivers' options only those that the streams table follows
    from: no driver is made, and nothing that an option names is looked at.
    """
    if fault := fault_of(tree):
        raise ConfigError(f"{name}: {fault}")
    faults = ConfigFaults()
    settings, at_fault = _validated(name, tree, faults)
    sensors: dict[str, Sensor] = {}
    trees = tree.get("sensors")
    for key, value in trees.items() if isinstance(trees, Mapping) else ():
        with faults.gathered():
            sensors[key] = sensor_of(name, key, value, settings.windows, devices)
    with faults.gathered():
        if trees == {}:
            raise ConfigError(
                f"{name}: sensors: none is configured; add one, for example `camera: {{type: camera, source: 0}}`"
            )
    if devices:
        with faults.gathered():
            check_device_files(name, sensors)
    with faults.gathered():
        _check_address(name, settings.server.listen)
    queries: list[Query] = []
    for index, query in enumerate(settings.queries):
        with faults.gathered():
            queries.append(_query(name, index, query))
    with faults.gathered():
        _check_ids(name, queries)
    with faults.gathered():
        if settings.background_prompts == []:
            raise ConfigError(f"{name}: background_prompts: is empty; leave it out to use the built-in prompts")
    chosen: dict[str, str | None] = {}
    if isinstance(trees, Mapping) and sensors.keys() == trees.keys():  # else what is missing is a fault already
        for key, modality in _LOCALIZING.items():
            with faults.gathered():
                chosen[key] = chosen_for(name, key, getattr(settings.localization, key), sensors, modality)
    record = RecordSettings()
    with faults.gathered():
        record = _record(name, settings.record, trees if isinstance(trees, Mapping) else {})
    with faults.gathered():
        asking = [query.id for query in queries if query.clip]
        if asking and settings.clips.folder is None and "clips" not in at_fault:
            raise ConfigError(f"{name}: queries: {asking[0]!r} asks for clips, but clips.folder is not set; set it")
    faults.check()
    return Config(
        name=name,
        tree=settings.model_dump(mode="json", exclude_unset=True),
        sensors=sensors,
        model=settings.model,
        server=settings.server,
        hop_ns=round(settings.windows.hop_s * 1e9),
        queries=tuple(queries),
        background_prompts=None if settings.background_prompts is None else tuple(settings.background_prompts),
        alerts=settings.alerts,
        camera=chosen["camera"],
        microphone=chosen["microphone"],
        record_folder=Path(settings.record.folder).expanduser() if settings.record.folder else None,
        record=record,
        clips=settings.clips,
    )


def _validated(name: str, tree: Mapping[str, Any], faults: ConfigFaults) -> tuple[Settings, set[int | str]]:
    """The settings, and the keys at fault. These have their defaults, so that the others can be looked at."""
    try:
        return Settings.model_validate(tree), set()
    except ValidationError as error:
        found = error
    with faults.gathered():
        raise ConfigError(*(f"{name}: {line}" for line in fault_lines(found, Settings)))
    at_fault = {key for fault in found.errors(include_url=False, include_context=False) for key in fault["loc"][:1]}
    if not at_fault:  # the tree itself is none of keys
        faults.check()
    return Settings.model_validate({"sensors": {}} | {key: tree[key] for key in tree if key not in at_fault}), at_fault


def _check_address(name: str, listen: str) -> None:
    try:
        split_address(listen)
    except ListenError as error:
        raise ConfigError(f"{name}: server.listen: {error}") from None


def _check_ids(name: str, queries: Sequence[Query]) -> None:
    ids = Counter(query.id for query in queries)
    if repeated := [query_id for query_id, count in ids.items() if count > 1]:
        raise ConfigError(f"{name}: queries: the id {repeated[0]!r} is given twice; give each query its own")


def _record(name: str, settings: RecordingSettings, sensors: Iterable[str]) -> RecordSettings:
    known = [*sensors, "events"]
    for topic in settings.compression:
        if topic not in known:
            raise ConfigError(f"{name}: record.compression.{topic}: not a sensor{nearest(topic, known)}")
    return RecordSettings(
        split_bytes=None if settings.split_mb is None else round(settings.split_mb * 1e6),
        split_s=settings.split_s,
        retention=Retention(
            None if settings.keep_gb is None else round(settings.keep_gb * 1e9),
            None if settings.keep_days is None else settings.keep_days * 86_400,
        ),
        min_free_bytes=round(settings.min_free_mb * 1e6),
        pictures=PictureFormat(settings.colour, settings.jpeg_quality, settings.plane),
        compression=settings.compression,
        imu_plot_hz=settings.imu_plot_hz,
    )


def _query(name: str, index: int, settings: QuerySettings) -> Query:
    given = settings.model_dump(exclude_none=True)
    try:
        return Query.of_tree({"id": f"q{index + 1}", **given})
    except QueryError as error:
        raise ConfigError(f"{name}: queries[{index}]: {error}") from None
