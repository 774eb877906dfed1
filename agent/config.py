"""The configuration: YAML, validated once, here, into plain dataclasses.

Every fault is a ConfigError of one line: which file, which key, what is wrong, what to do.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from agent.alerts.book import Query, QueryError
from agent.capture.source import SensorSpec, make_driver
from agent.clock import ManualClock
from agent.localization.doa import DirectionFinder, voiced_band_hz
from agent.streams import Keep, Stream, Streams
from drivers.driver import BadOption, Modality, image_like
from drivers.registry import DRIVERS, driver_class


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ModelSettings(_Strict):
    """Which weights, on what."""

    weights: str = "imagebind_nano"
    """`imagebind_nano` (shipped) or the path of a safetensors file."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


class ServerSettings(_Strict):
    """Where subscribers connect."""

    listen: str = "127.0.0.1:50051"
    insecure: bool = False
    """Allow an address other than loopback, without TLS."""


class WindowSettings(_Strict):
    """How far back a window reaches, in seconds; audio and IMU are what ImageBind was trained on."""

    hop_s: Annotated[float, Field(ge=0.05, le=60)] = 0.5
    vision_s: Annotated[float, Field(ge=0, le=10)] = 0.25
    """Distance of the two frames of a window."""
    audio_s: Annotated[float, Field(ge=0.5, le=10)] = 2.0
    imu_s: Annotated[float, Field(ge=5, le=10)] = 5.0


class SensorSettings(_Strict):
    """What the agent, rather than the driver, wants to know of a sensor."""

    type: str
    hfov_deg: Annotated[float, Field(gt=0, lt=180)] | None = None
    """Horizontal field of view of a camera: lets a direction of arrival be compared with the picture."""
    mic_positions_m: list[tuple[FiniteFloat, FiniteFloat, FiniteFloat]] | None = None
    """Where the microphones are, one x, y, z a channel; x forward, y left, z up."""
    max_lateness_s: Annotated[float, Field(ge=0, le=10)] = 0.2
    queue_depth: Annotated[int, Field(ge=2, le=4096)] | None = None
    logged: bool = True


class QuerySettings(_Strict):
    """A query that stands from the start."""

    text: str
    id: str | None = None
    modalities: list[Modality] = []
    threshold_on: float | None = None
    threshold_off: float | None = None
    min_duration_s: float | None = None
    cooldown_s: float | None = None


class AlertSettings(_Strict):
    """How queries are scored."""

    dense: bool = False
    """Score what is seen by the best of the whole picture and its patches: a small thing beside a large one counts."""
    logit_scales: dict[Modality, Annotated[float, Field(gt=0, le=1e4, allow_inf_nan=False)]] = {}
    """Overrides of the model's own factors on cosines, per modality."""


class LocalizationSettings(_Strict):
    """Which sensors find the audio source; by default the only camera and the only microphone."""

    camera: str | None = None
    microphone: str | None = None


class Settings(_Strict):
    """The whole file."""

    model: ModelSettings = ModelSettings()
    server: ServerSettings = ServerSettings()
    windows: WindowSettings = WindowSettings()
    sensors: dict[str, dict[str, Any]]
    queries: list[QuerySettings] = []
    background_prompts: list[str] | None = None
    alerts: AlertSettings = AlertSettings()
    localization: LocalizationSettings = LocalizationSettings()


@dataclass(frozen=True)
class Sensor:
    """One configured sensor."""

    spec: SensorSpec
    hfov_deg: float | None
    mic_positions_m: tuple[tuple[float, float, float], ...] | None


@dataclass(frozen=True)
class Config:
    """A valid configuration."""

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

    @property
    def streams(self) -> Streams:
        """The streams table."""
        return {name: sensor.spec.stream for name, sensor in self.sensors.items()}

    @property
    def specs(self) -> list[SensorSpec]:
        """What capture opens."""
        return [sensor.spec for sensor in self.sensors.values()]


def synthetic(seed: int | None = None, **options: Any) -> Config:
    """The synthetic world of `configs/synthetic.yaml`, with another seed or other options of its drivers."""
    with resources.as_file(resources.files("configs") / "synthetic.yaml") as path:
        tree = yaml.safe_load(path.read_text())
        for sensor in tree["sensors"].values():
            sensor.update(options if seed is None else {"seed": seed, **options})
        return parse(tree, str(path))


class _Loader(yaml.SafeLoader):
    """YAML in which a key that is given twice is an error: one of the two would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping of its keys. Raises ConstructorError."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path) -> Config:
    """Read and validate a YAML file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; give the path of a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not text: {error.reason} at byte {error.start}; give a YAML file") from None
    try:
        tree = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f":{where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{path}{line}: not YAML: {' '.join(str(problem).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds no keys; it needs at least `sensors:`")
    return parse(tree, str(path))


def parse(tree: dict[str, Any], name: str = "config") -> Config:
    """Validate a tree of plain values; `name` goes before every message. Raises ConfigError."""
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{name}: {_one_line(error, Settings)}") from None
    if not settings.sensors:
        raise ConfigError(
            f"{name}: sensors: none is configured; add one, for example `camera: {{type: camera, source: 0}}`"
        )
    sensors = {key: _sensor(name, key, value, settings.windows) for key, value in settings.sensors.items()}
    queries = tuple(_query(name, index, query) for index, query in enumerate(settings.queries))
    if repeated := [query.id for query in queries if [q.id for q in queries].count(query.id) > 1]:
        raise ConfigError(f"{name}: queries: the id {repeated[0]!r} is given twice; ids name one query each")
    if settings.background_prompts == []:
        raise ConfigError(f"{name}: background_prompts: is empty; leave it out for the usual ones")
    return Config(
        name=name,
        tree=settings.model_dump(mode="json", exclude_unset=True),
        sensors=sensors,
        model=settings.model,
        server=settings.server,
        hop_ns=round(settings.windows.hop_s * 1e9),
        queries=queries,
        background_prompts=None if settings.background_prompts is None else tuple(settings.background_prompts),
        alerts=settings.alerts,
        camera=_choose(name, "camera", settings.localization.camera, sensors, "vision"),
        microphone=_choose(name, "microphone", settings.localization.microphone, sensors, "audio"),
    )


def _sensor(name: str, key: str, tree: dict[str, Any], windows: WindowSettings) -> Sensor:
    where = f"{name}: sensors.{key}"
    if not _SENSOR_NAME.fullmatch(key):
        raise ConfigError(f"{name}: sensors: the name {key!r} is not 1 to 64 letters, digits, '_', '.' or '-'")
    if not isinstance(tree, dict) or "type" not in tree:
        raise ConfigError(f"{where}: has no `type:`; known: {', '.join(sorted(DRIVERS))}")
    own = {k: v for k, v in tree.items() if k in SensorSettings.model_fields}
    try:
        settings = SensorSettings.model_validate(own)
    except ValidationError as error:
        raise ConfigError(f"{where}.{_one_line(error, SensorSettings)}") from None
    if settings.type not in DRIVERS:
        raise ConfigError(f"{where}.type: there is no driver {settings.type!r}{_nearest(settings.type, DRIVERS)}")
    options_class = driver_class(settings.type).Options
    known = [f.name for f in dataclasses.fields(options_class)]
    # Both the agent and a synthetic camera want to know the field of view.
    given = {k: v for k, v in tree.items() if k in known}
    for option in tree:
        if option not in known and option not in own:
            raise ConfigError(
                f"{where}.{option}: unknown key{_nearest(option, [*known, *SensorSettings.model_fields])}"
            )
    try:
        options = TypeAdapter(options_class).validate_python(given)
    except ValidationError as error:
        raise ConfigError(f"{where}.{_one_line(error)}") from None
    _check_options(where, settings.type, options)
    modality: Modality = getattr(options, "modality", None) or driver_class(settings.type).modality
    stream = _stream(key, modality, options, settings, windows)
    ring_bytes = (stream.queue_depth + 1) * stream.sample_bytes
    if ring_bytes > _MOST_RING_BYTES:
        size = f"{ring_bytes / 2**30:.0f} GiB"
        raise ConfigError(f"{where}: its queue would take {size}; make queue_depth, the picture or the rate smaller")
    positions = None if settings.mic_positions_m is None else tuple(settings.mic_positions_m)
    channels = getattr(options, "channels", None) or getattr(driver_class(settings.type), "channels", None)
    if positions is not None and channels is not None and len(positions) != channels:
        raise ConfigError(f"{where}.mic_positions_m: {len(positions)} positions for {channels} channels; give one each")
    if positions is not None and len(positions) > 1:
        try:
            DirectionFinder(np.array(positions), stream.rate_hz, band_hz=voiced_band_hz(stream.rate_hz))
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None
    return Sensor(SensorSpec(key, settings.type, options, stream), settings.hfov_deg, positions)


_POSITIVE = ("rate_hz", "width", "height", "channels", "block_ms")


def _check_options(where: str, type_name: str, options: Any) -> None:
    """Refuse what could never work before anything is started: by the driver's own word, and for its queues."""
    for key in _POSITIVE:
        value = getattr(options, key, None)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{where}.{key}: is {value}; it must be positive")
    try:
        make_driver(type_name, options, ManualClock())
    except BadOption as error:
        raise ConfigError(f"{where}: {error}") from None


# Rows of a block and pictures are bounded, so that a ring has a size before the device has been opened.
_LARGEST_FRAME = 1920 * 1080
_BLOCK_S = 0.5
_SENSOR_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_RING_BYTES = 2**30
_MOST_CHANNELS = 8
_USUAL_RATE_HZ = {"vision": 30.0, "audio": 16_000.0, "depth": 30.0, "thermal": 9.0, "imu": 100.0}
_IMAGE_BYTES = {"vision": 3, "depth": 4, "thermal": 4}


def _stream(key: str, modality: Modality, options: Any, settings: SensorSettings, windows: WindowSettings) -> Stream:
    """The row of the streams table that follows from a driver's options."""
    rate_hz = float(getattr(options, "rate_hz", None) or _USUAL_RATE_HZ[modality])
    if image_like(modality):
        pixels = (getattr(options, "width", None) or 0) * (getattr(options, "height", None) or 0) or _LARGEST_FRAME
        samples_hz, sample_bytes, keep = rate_hz, pixels * _IMAGE_BYTES[modality], "latest"
        depth = 4
    else:
        columns = (getattr(options, "channels", None) or _MOST_CHANNELS) if modality == "audio" else 6
        samples_hz = 1000.0 / getattr(options, "block_ms", 50.0)
        block_s = max(_BLOCK_S, 1.5 / samples_hz)
        sample_bytes, keep = max(256, round(rate_hz * block_s)) * columns * 4, "all"
        depth = 64
    window_s = {"vision": windows.vision_s, "audio": windows.audio_s, "imu": windows.imu_s}.get(modality, 0.0)
    stream_keep: Keep = "latest" if keep == "latest" else "all"
    return Stream(
        key,
        modality,
        rate_hz,
        min(samples_hz, rate_hz),
        sample_bytes,
        window_s,
        stream_keep,
        settings.queue_depth or depth,
        settings.max_lateness_s,
        settings.logged,
    )


def _query(name: str, index: int, settings: QuerySettings) -> Query:
    given = {k: v for k, v in settings.model_dump().items() if v is not None}
    given["modalities"] = tuple(given["modalities"])
    given.setdefault("id", f"q{index + 1}")
    try:
        return Query(**given)
    except QueryError as error:
        raise ConfigError(f"{name}: queries[{index}]: {error}") from None


def _choose(name: str, key: str, wanted: str | None, sensors: dict[str, Sensor], modality: Modality) -> str | None:
    """The sensor that localization uses: the one named, or the only one there is."""
    candidates = [s for s, sensor in sensors.items() if sensor.spec.stream.modality == modality]
    if wanted is not None and wanted not in candidates:
        raise ConfigError(
            f"{name}: localization.{key}: no {modality} sensor is called {wanted!r}{_nearest(wanted, candidates)}"
        )
    if wanted is None and len(candidates) == 1:
        return candidates[0]
    return wanted


def _nearest(key: str, known: Any) -> str:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def _one_line(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The first fault of a validation as `key.path: what (found ...)`, unknown keys with the nearest known one."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden" and model is not None:
        return f"{where}: unknown key{_nearest(str(first['loc'][-1]), _keys_at(model, first['loc'][:-1]))}"
    found = "" if first["type"] == "missing" else f" (found {first['input']!r})"
    more = f"; and {error.error_count() - 1} more" if error.error_count() > 1 else ""
    return f"{where}: {first['msg']}{found}{more}"


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys that the settings know at a path."""
    for part in path:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        inner = [annotation, *getattr(annotation, "__args__", ())]
        model = next(t for t in inner if isinstance(t, type) and issubclass(t, BaseModel))
    return list(model.model_fields)
