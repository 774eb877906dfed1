"""Which driver class stands behind a sensor's `type:` in the config; imported when used."""

from __future__ import annotations

from importlib import import_module

from drivers.driver import Driver

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
    "synthetic_camera": "drivers.synthetic.devices:SyntheticCamera",
    "synthetic_microphone": "drivers.synthetic.devices:SyntheticMicrophone",
    "synthetic_depth": "drivers.synthetic.devices:SyntheticDepth",
    "synthetic_thermal": "drivers.synthetic.devices:SyntheticThermal",
    "synthetic_imu": "drivers.synthetic.devices:SyntheticImu",
}


def driver_class(type_name: str) -> type[Driver]:
    """Return the driver class of a `type:` name; KeyError when there is none."""
    module, _, name = DRIVERS[type_name].partition(":")
    found: type[Driver] = getattr(import_module(module), name)
    return found
