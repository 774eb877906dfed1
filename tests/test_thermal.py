"""Thermal images; what depth and thermal share is tested with depth."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import TypeAdapter
from real_sources import PngSequence

from agent.clock import ManualClock
from drivers.driver import BadOption, DeviceNotFound
from drivers.thermal import ThermalPng, ThermalPngOptions, ThermalY16, ThermalY16Options, temperature_c


def test_hundredths_of_a_kelvin_are_the_default(tmp_path: Path) -> None:
    source = PngSequence(tmp_path / "thermal", first=29_315, step=100, count=4)
    with source, ThermalPng(ThermalPngOptions(str(source.directory), pace="fast"), ManualClock()) as thermal:
        samples = [thermal.read(0.1) for _ in range(4)]
    assert all(s.data.dtype == np.float32 for s in samples)
    assert [float(s.data[0, 0]) for s in samples] == pytest.approx([20.0, 21.0, 22.0, 23.0], abs=1e-4)
    assert all(np.allclose(s.data[60:], 20.0, atol=1e-4) for s in samples)
    assert [s.t_ns for s in samples] == [round(k * 1e9 / 9) for k in range(4)]


def test_scale_and_offset(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.full((2, 3), 1000, np.uint16))
    options = TypeAdapter(ThermalPng.Options).validate_python(
        {"path": str(tmp_path), "scale_c": 0.04, "offset_c": -10, "pace": "fast"}
    )
    assert pickle.loads(pickle.dumps(options)) == options
    with ThermalPng(options, ManualClock()) as thermal:
        assert np.allclose(thermal.read(0.1).data, 30.0)


def test_the_coldest_and_the_hottest_count() -> None:
    ends = temperature_c(np.array([[0, 65535]], np.uint16), 0.01, -273.15)
    assert ends[0] == pytest.approx([-273.15, 382.20], abs=1e-3)


def test_impossible_options_and_a_missing_device() -> None:
    with pytest.raises(BadOption, match="scale_c is 0"):
        ThermalPng(ThermalPngOptions("x", scale_c=0.0), ManualClock())
    for scale_c in (1e-5, 27.0):
        with pytest.raises(BadOption, match=r"wanted 0\.001 to 10 degrees a count"):
            ThermalPng(ThermalPngOptions("x", scale_c=scale_c), ManualClock())
    with pytest.raises(BadOption, match=r"offset_c is 273\.15, wanted -500 to 200 degrees Celsius"):
        ThermalY16(ThermalY16Options(offset_c=273.15), ManualClock())
    with pytest.raises(BadOption, match="offset_c is nan"):
        ThermalY16(ThermalY16Options(offset_c=float("nan")), ManualClock())
    with pytest.raises(DeviceNotFound, match="/dev/video98: no such device"):
        ThermalY16(ThermalY16Options("/dev/video98"), ManualClock()).connect()
