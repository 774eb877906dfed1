"""Driver classes by a sensor's `type:` in the configuration; imported when used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from drivers.driver import Clock, Driver

DRIVERS: dict[str, str] = {
    "camera": "drivers.camera:Camera",
    "microphone": "drivers.microphone:Microphone",
    "audio_file": "drivers.audio_file:AudioFile",
    "depth_png": "drivers.depth:DepthPng",
    "depth_v4l2": "drivers.depth:DepthV4l2",
    "thermal_png": "drivers.thermal:ThermalPng",
    "thermal_y16": "drivers.thermal:ThermalY16",
    "imu_csv": "drivers.imu.csv:CsvImu",
    "imu_wit": "drivers.imu.wit:WitImu",
    "remote": "drivers.remote:Remote",
    "synthetic_camera": "drivers.synthetic:SyntheticCamera",
    "synthetic_microphone": "drivers.synthetic:SyntheticMicrophone",
    "synthetic_depth": "drivers.synthetic:SyntheticDepth",
    "synthetic_thermal": "drivers.synthetic:SyntheticThermal",
    "synthetic_imu": "drivers.synthetic:SyntheticImu",
}


def driver_class(type_name: str) -> type[Driver]:
    """Return the driver class of a `type:` name; KeyError when there is none."""
    module, _, name = DRIVERS[type_name].partition(":")
    found: type[Driver] = getattr(import_module(module), name)
    return found


def find_driver(type_name: str) -> type[Driver]:
    """Return the class behind a registry name or a `module:Class` path; KeyError when there is none."""
    if ":" not in type_name:
        return driver_class(type_name)
    module, _, name = type_name.partition(":")
    found: type[Driver] = getattr(import_module(module), name)
    return found


def make_driver(type_name: str, options: Any, clock: Clock) -> Driver:
    """Make an unconnected driver; every driver's constructor takes its options and the run's clock."""
    constructor: Callable[[Any, Clock], Driver] = find_driver(type_name)
    return constructor(options, clock)
