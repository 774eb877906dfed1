"""The configuration: YAML, validated once, here, into plain dataclasses.

Every fault is a ConfigError of one line: which file, which key, what is wrong, what to do.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from agent.address import ListenError, split_address
from agent.clock import ManualClock
from agent.config.known_arrays import KNOWN_ARRAYS, KnownArray
from agent.config.recording import PictureFormat, RecordSettings, Retention
from agent.config.settings import (
    AlertSettings,
    ClipSettings,
    ModelSettings,
    QuerySettings,
    RecordingSettings,
    SensorSettings,
    ServerSettings,
    Settings,
    StreamOptions,
    WindowSettings,
)
from agent.config.validation import fault_lines, nearest
from agent.microphone_array import check_apart, check_array
from agent.query import Query, QueryError
from agent.streams import SensorSpec, Streams, fault_of_name, stream_of
from common.errors import UserFault
from common.plain_values import fault_of
from common.printable import brief, shortened
from common.yaml_file import YamlError, parse_yaml, read_yaml
from drivers.driver import BadOption, Modality, StreamFacts
from drivers.forms import FORMS, MAX_RATE_HZ, MIN_RATE_HZ
from drivers.registry import DRIVERS, driver_class, make_driver


class ConfigError(UserFault):
    """The configuration cannot be used. The message is the first fault, and `lines` are all that were found."""

    def __init__(self, *faults: str) -> None:
        more = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
        super().__init__(faults[0] + more)
        self._faults = faults

    @property
    def lines(self) -> Sequence[str]:
        """One line a fault."""
        return self._faults


class _Faults:
    """Faults found so far, each with its message, so that a user mends all of a file in one go."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Take note of a ConfigError that leaves the block, and go on after it."""
        try:
            yield
        except ConfigError as error:
            self._lines += error.lines

    def check(self) -> None:
        """Raise ConfigError if there is a fault."""
        if self._lines:
            raise ConfigError(*self._lines)


@dataclass(frozen=True)
class Sensor:
    """A sensor of the configuration: its driver, its stream and its place on the robot."""

    spec: SensorSpec
    hfov_deg: float | None
    mic_positions_m: tuple[tuple[float, float, float], ...] | None


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
    faults = _Faults()
    settings, at_fault = _validated(name, tree, faults)
    sensors: dict[str, Sensor] = {}
    trees = tree.get("sensors")
    for key, value in trees.items() if isinstance(trees, Mapping) else ():
        with faults.gathered():
            sensors[key] = _sensor(name, key, value, settings.windows, devices)
    with faults.gathered():
        if trees == {}:
            raise ConfigError(
                f"{name}: sensors: none is configured; add one, for example `camera: {{type: camera, source: 0}}`"
            )
    if devices:
        with faults.gathered():
            _check_device_files(name, sensors)
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
                chosen[key] = _choose(name, key, getattr(settings.localization, key), sensors, modality)
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


_LOCALIZING: dict[str, Modality] = {"camera": "vision", "microphone": "audio"}


def _validated(name: str, tree: Mapping[str, Any], faults: _Faults) -> tuple[Settings, set[int | str]]:
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


_DEVICES = ("port", "device", "source")
"""Options of drivers that may name a device file."""


def _check_device_files(name: str, sensors: Mapping[str, Sensor]) -> None:
    """Refuse two sensors on one device file, which they would take from each other in turns."""
    taken: dict[str, str] = {}
    for key, sensor in sensors.items():
        for option in _DEVICES:
            file = getattr(sensor.spec.options, option, None)
            if not isinstance(file, str) or not file.startswith("/dev/"):
                continue
            if file in taken:
                raise ConfigError(f"{name}: sensors.{key}.{option}: {file} is sensor {taken[file]}; give each its own")
            taken[file] = key


def _check_address(name: str, listen: str) -> None:
    try:
        split_address(listen)
    except ListenError as error:
        raise ConfigError(f"{name}: server.listen: {error}") from None


def _check_ids(name: str, queries: Sequence[Query]) -> None:
    ids = Counter(query.id for query in queries)
    if repeated := [query_id for query_id, count in ids.items() if count > 1]:
        raise ConfigError(f"{name}: queries: the id {repeated[0]!r} is given twice; give each query its own")


def _sensor(name: str, key: str, tree: dict[str, Any], windows: WindowSettings, devices: bool) -> Sensor:
    where = f"{name}: sensors.{key}"
    if fault := fault_of_name(key):
        raise ConfigError(f"{name}: sensors: {fault}")
    if not isinstance(tree, dict) or "type" not in tree:
        raise ConfigError(f"{where}: has no `type:`; known: {', '.join(sorted(DRIVERS))}")
    own = {k: v for k, v in tree.items() if k in SensorSettings.model_fields}
    try:
        settings = SensorSettings.model_validate(own)
    except ValidationError as error:
        raise ConfigError(*(f"{where}.{line}" for line in fault_lines(error, SensorSettings))) from None
    if settings.type not in DRIVERS:
        raise ConfigError(f"{where}.type: there is no driver {brief(settings.type)}{nearest(settings.type, DRIVERS)}")
    array = None if settings.mic_array is None else KNOWN_ARRAYS[settings.mic_array]
    if array is not None:
        tree = _channels_of(array, settings.type) | tree
    options = (_driver_options if devices else _recorded_options)(where, settings.type, tree)
    facts = driver_class(settings.type).stream(options)
    if facts.modality not in FORMS:
        raise ConfigError(f"{where}.modality: is not given; a sensor of type {settings.type} has none of its own")
    if devices:
        _check_options(where, settings.type, options)
    _check_facts(where, facts)
    window_s = {"vision": windows.vision_s, "audio": windows.audio_s, "imu": windows.imu_s}
    stream = stream_of(
        key,
        facts,
        window_s=window_s.get(facts.modality, 0.0),
        max_lateness_s=settings.max_lateness_s,
        queue_depth=settings.queue_depth,
        logged=settings.logged,
    )
    ring_bytes = (stream.queue_depth + 1) * stream.sample_bytes
    if ring_bytes > _MOST_RING_BYTES:
        size = f"{ring_bytes / 2**30:.0f} GiB"
        raise ConfigError(f"{where}: its queue would take {size}; make queue_depth, the picture or the rate smaller")
    positions = None if settings.mic_positions_m is None else tuple(settings.mic_positions_m)
    if array is not None:
        if positions is not None:
            raise ConfigError(f"{where}: has both mic_array and mic_positions_m; leave one out")
        positions = array.mic_positions_m
        if facts.channels not in (None, len(positions)):
            raise ConfigError(
                f"{where}.mic_array: {settings.mic_array} has {len(positions)} microphones, but the sensor "
                f"{facts.channels} channels; set channels: {array.channels}, use_channels: {list(array.use_channels)}"
            )
    if positions is not None and facts.channels not in (None, len(positions)):
        raise ConfigError(
            f"{where}.mic_positions_m: {len(positions)} positions for {facts.channels} channels; give one each"
        )
    if positions is not None and len(positions) > 1:
        try:
            check_array(np.array(positions), stream.rate_hz)
            if devices:
                check_apart(np.array(positions))
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None
    return Sensor(SensorSpec(key, settings.type, options, stream), settings.hfov_deg, positions)


def _channels_of(array: KnownArray, type_name: str) -> dict[str, Any]:
    """The channels of an array as options of a driver that has them; those that are given in the file go before."""
    options = {f.name for f in dataclasses.fields(driver_class(type_name).Options)}
    if not {"channels", "use_channels"} <= options:
        return {}
    return {"channels": array.channels, "use_channels": array.use_channels}


def _driver_options(where: str, type_name: str, tree: dict[str, Any]) -> Any:
    """The options of a sensor's driver."""
    options_class = driver_class(type_name).Options
    known = [f.name for f in dataclasses.fields(options_class)]
    # Both the agent and a synthetic camera want to know the field of view.
    given = {k: v for k, v in tree.items() if k in known}
    everything = [*known, *SensorSettings.model_fields]
    faults = [f"{shortened(key)}: unknown key{nearest(key, everything)}" for key in tree if key not in everything]
    try:
        options = TypeAdapter(options_class).validate_python(given)
    except ValidationError as error:
        faults += fault_lines(error)
    if faults:
        raise ConfigError(*(f"{where}.{line}" for line in faults))
    return options


def _recorded_options(where: str, type_name: str, tree: dict[str, Any]) -> Any:
    """Return the options that the streams table follows from; all others are the driver's defaults, or None."""
    options_class = driver_class(type_name).Options
    fields = {f.name: f for f in dataclasses.fields(options_class)}
    known = fields.keys() & StreamOptions.model_fields.keys()
    try:
        told = StreamOptions.model_validate({key: tree[key] for key in known & tree.keys()})
    except ValidationError as error:
        raise ConfigError(*(f"{where}.{line}" for line in fault_lines(error))) from None
    needed = [name for name, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    return options_class(**{**dict.fromkeys(needed), **told.model_dump(exclude_unset=True)})


def _check_facts(where: str, facts: StreamFacts) -> None:
    """Refuse what no stream can be, before queues are sized by it."""
    for key in ("rate_hz", "width", "height", "channels", "block_s"):
        value = getattr(facts, key)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{where}.{key}: is {brief(value)}; it must be positive")
    if facts.rate_hz is not None and not MIN_RATE_HZ <= facts.rate_hz <= MAX_RATE_HZ:
        raise ConfigError(
            f"{where}.rate_hz: is {facts.rate_hz:g}; {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g} a second are possible"
        )


def _check_options(where: str, type_name: str, options: Any) -> None:
    """Refuse by the driver's own word what could never work, before anything is started."""
    try:
        make_driver(type_name, options, ManualClock())
    except BadOption as error:
        raise ConfigError(f"{where}: {error}") from None


_MOST_RING_BYTES = 2**30


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


def _choose(name: str, key: str, wanted: str | None, sensors: dict[str, Sensor], modality: Modality) -> str | None:
    """The sensor that localization uses: the one named, or the only one there is."""
    candidates = [s for s, sensor in sensors.items() if sensor.spec.stream.modality == modality]
    if wanted is not None and wanted not in candidates:
        raise ConfigError(
            f"{name}: localization.{key}: no {modality} sensor is called {brief(wanted)}{nearest(wanted, candidates)}"
        )
    if wanted is None and len(candidates) == 1:
        return candidates[0]
    return wanted
