"""Sensors of a configuration: their drivers' options, their streams, and their places on the robot."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from agent.clock import ManualClock
from agent.config.faults import ConfigError
from agent.config.known_arrays import KNOWN_ARRAYS, KnownArray
from agent.config.settings import SensorSettings, StreamOptions, WindowSettings
from agent.config.validation import fault_lines, nearest
from agent.microphone_array import check_apart, check_array
from agent.streams import SensorSpec, fault_of_name, stream_of
from common.printable import brief, shortened
from drivers.driver import BadOption, Modality, StreamFacts
from drivers.forms import FORMS, MAX_RATE_HZ, MIN_RATE_HZ
from drivers.registry import DRIVERS, driver_class, make_driver

_MOST_RING_BYTES = 2**30
_DEVICES = ("port", "device", "source")
"""Options of drivers that may name a device file."""


@dataclass(frozen=True)
class Sensor:
    """A sensor of the configuration: its driver, its stream and its place on the robot."""

    spec: SensorSpec
    hfov_deg: float | None
    mic_positions_m: tuple[tuple[float, float, float], ...] | None


def sensor_of(name: str, key: str, tree: dict[str, Any], windows: WindowSettings, devices: bool) -> Sensor:
    """Validate one sensor, as `parse` does. Raises ConfigError."""
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


def check_device_files(name: str, sensors: Mapping[str, Sensor]) -> None:
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


def chosen_for(name: str, key: str, wanted: str | None, sensors: dict[str, Sensor], modality: Modality) -> str | None:
    """The sensor that localization uses: the one named, or the only one there is."""
    candidates = [s for s, sensor in sensors.items() if sensor.spec.stream.modality == modality]
    if wanted is not None and wanted not in candidates:
        raise ConfigError(
            f"{name}: localization.{key}: no {modality} sensor is called {brief(wanted)}{nearest(wanted, candidates)}"
        )
    if wanted is None and len(candidates) == 1:
        return candidates[0]
    return wanted
