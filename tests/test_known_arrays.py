"""Microphone arrays by name: their channels in a recording of all that the device gives, and directions from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from agent.clock import ManualClock
from agent.config.faults import ConfigError
from agent.config.known_arrays import KNOWN_ARRAYS
from agent.config.parse import Config, parse
from agent.perceiving.localization.doa import DirectionFinder
from common.physics import SPEED_OF_SOUND_MPS
from drivers.registry import make_driver

RATE_HZ = 16_000


def recorded(name: str, azimuth_deg: float, path: Path) -> NDArray[np.float32]:
    """Two seconds of a noise from afar as the device gives them: its other channels hold the mean, and silence."""
    array = KNOWN_ARRAYS[name]
    rng, n = np.random.default_rng(3), 2 * RATE_HZ
    spectrum, f_hz = np.fft.rfft(rng.normal(0, 0.05, n)), np.fft.rfftfreq(n, 1 / RATE_HZ)
    towards = np.array([np.cos(np.radians(azimuth_deg)), np.sin(np.radians(azimuth_deg)), 0])
    earlier_s = np.array(array.mic_positions_m) @ towards / SPEED_OF_SOUND_MPS
    heard = np.fft.irfft(spectrum * np.exp(2j * np.pi * f_hz * earlier_s[:, None]), n).T
    rows = np.zeros((n, array.channels), np.float32)
    rows[:, 0] = heard.mean(1)
    rows[:, list(array.use_channels)] = heard + rng.normal(0, 0.001, heard.shape)
    soundfile.write(path, rows, RATE_HZ, subtype="FLOAT")
    return rows


def config(**options: Any) -> Config:
    return parse({"sensors": {"ears": {"type": "audio_file", "rate_hz": RATE_HZ, "pace": "fast", **options}}})


@pytest.mark.parametrize("name", KNOWN_ARRAYS)
def test_directions_of_an_array_that_is_named(name: str, tmp_path: Path) -> None:
    for azimuth_deg in (-150, -30, 10, 100):
        recorded(name, azimuth_deg, tmp_path / "all.wav")
        sensor = config(path=str(tmp_path / "all.wav"), mic_array=name, block_ms=1000).sensors["ears"]
        assert sensor.spec.stream.sample_bytes >= RATE_HZ * 4 * len(KNOWN_ARRAYS[name].use_channels)
        with make_driver(sensor.spec.type, sensor.spec.options, ManualClock()) as driver:
            rows = driver.read(1.0).data
        assert rows.flags.c_contiguous
        found = DirectionFinder(np.array(sensor.mic_positions_m), RATE_HZ).find(rows)
        assert found is not None
        assert found.azimuth_deg == pytest.approx(azimuth_deg, abs=1.0)


def test_channels_that_are_given_go_before_those_of_the_array(tmp_path: Path) -> None:
    """Its ADC behind another card: the microphones are channels 2 to 5 of 8."""
    soundfile.write(tmp_path / "it.wav", np.zeros((100, 8), np.float32), RATE_HZ)
    chosen = config(
        path=str(tmp_path / "it.wav"), mic_array="respeaker_4mic_hat", channels=8, use_channels=[2, 3, 4, 5]
    )
    assert chosen.specs[0].options.use_channels == (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": 6, "use_channels": [1]}, "has 4 microphones, but the sensor 1 channels; set channels: 6, use_ch"),
        ({"channels": 4}, r"use_channels is \(1, 2, 3, 4\), wanted different channels of 0 to 3"),
        ({"mic_positions_m": [[0, 0, 0]] * 4}, "has both mic_array and mic_positions_m; leave one out"),
    ],
)
def test_what_does_not_fit_an_array(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(path="any.wav", mic_array="respeaker_usb_4mic", **options)


def test_a_replay_knows_the_channels_that_were_taken() -> None:
    tree = {"sensors": {"ears": {"type": "microphone", "mic_array": "respeaker_usb_4mic"}}}
    live, replayed = (parse(tree, devices=devices) for devices in (True, False))
    assert replayed.streams == live.streams
    assert replayed.sensors["ears"].mic_positions_m == live.sensors["ears"].mic_positions_m
