"""Rare values that a sensor can measure reach the model live; guesses about units are left to files and callers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agent.embedding.embedder import Embedder
from agent.embedding.model import Embedded
from agent.streams import Stream
from agent.windows.windower import Windower
from drivers.driver import MODALITIES, Modality, Sample
from drivers.forms import FORMS, check_form
from drivers.imu.rows import possible
from models import preprocess
from models.files import checkpoint

HOP_NS = 500_000_000
BEGIN_NS = 1_700_000_000_000_000_000
RATE_HZ = {"audio": 8_000.0, "imu": 250.0}
SECONDS = {"audio": 2.0, "imu": 5.0}


@pytest.fixture(scope="module")
def embedder(nano_weights: Path) -> Embedder:
    return Embedder(checkpoint.load(nano_weights, torch.float32, torch.device("cpu"), MODALITIES))


def embedded(embedder: Embedder, modality: Modality, samples: list[Sample]) -> Embedded:
    """What the model makes of samples as a driver yields them, by way of the windows."""
    rate_hz = RATE_HZ.get(modality, 10.0)
    stream = Stream("it", modality, rate_hz, 10.0, 10**7, SECONDS.get(modality, 0.0), "all", 64, 0.2)
    windower = Windower({"it": stream}, HOP_NS, BEGIN_NS)
    for sample in samples:
        check_form(sample, modality)
        windower.push("it", sample, sample.end_ns)
    ticks = windower.advance(samples[-1].end_ns + HOP_NS)
    (found,) = embedder.embed([tick for tick in ticks if tick.windows["it"].newest_ns][-1:])
    return found


def pictures(modality: Modality, low: float, high: float) -> list[Sample]:
    size = (48, 64, 3) if modality == "vision" else (48, 64)
    ramp = np.linspace(low, high, 48 * 64)
    values = np.repeat(ramp[:, None], 3, axis=1) if modality == "vision" else ramp
    data = values.reshape(size).astype(FORMS[modality].dtype)
    return [Sample(BEGIN_NS + n * 100_000_000, data) for n in range(6)]


def rows(modality: Modality, wave: Callable[[NDArray[np.float64]], NDArray[Any]]) -> list[Sample]:
    rate_hz = RATE_HZ[modality]
    data = wave(np.arange(round((SECONDS[modality] + 1.0) * rate_hz)) / rate_hz).astype(np.float32)
    block = round(0.1 * rate_hz)
    return [
        Sample(BEGIN_NS + round(at * 1e9 / rate_hz), data[at : at + block], rate_hz)
        for at in range(0, len(data), block)
    ]


def motion(accel_mps2: float, gyro_rps: float) -> list[Sample]:
    """Swings that reach these values."""
    reach = np.repeat([accel_mps2, gyro_rps], 3)
    return rows("imu", lambda t_s: reach * np.sin(2 * np.pi * 2.5 * t_s)[:, None])


RARE: dict[str, tuple[Modality, list[Sample]]] = {
    "a fall, 600 m/s2": ("imu", motion(600.0, 5.0)),
    "a spin, 60 rad/s": ("imu", motion(20.0, 60.0)),
    "a valley, 250 m away": ("depth", pictures("depth", 200.0, 300.0)),
    "a fire that fills the picture, 250 degrees C": ("thermal", pictures("thermal", 200.0, 300.0)),
}


@pytest.mark.parametrize("name", RARE)
def test_what_a_sensor_rarely_measures_is_embedded(embedder: Embedder, name: str) -> None:
    modality, samples = RARE[name]
    found = embedded(embedder, modality, samples)
    assert found.missing == {}
    vector = found.vectors["it"]
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-3)


def at_the_limits(modality: Modality) -> list[Sample]:
    lowest, highest = (list(values) for values in zip(*FORMS[modality].limits, strict=True))
    match modality:
        case "imu":
            assert possible(tuple(lowest))  # type: ignore[arg-type]
            return motion(highest[0], highest[3])
        case "audio":
            return rows("audio", lambda t_s: highest[0] * np.sin(2 * np.pi * 440 * t_s)[:, None])
        case _:
            return pictures(modality, lowest[0], highest[0])


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_the_table_of_forms_holds_possible_is_neither_invalid_nor_unusable(
    embedder: Embedder, modality: Modality
) -> None:
    found = embedded(embedder, modality, at_the_limits(modality))
    assert found.missing == {}
    assert np.isfinite(found.vectors["it"]).all()


def beyond(modality: Modality) -> list[Sample]:
    match modality:
        case "imu":
            return motion(20.0, 1.05 * FORMS["imu"].limits[5][1])
        case "audio":
            return rows("audio", lambda t_s: 17.0 * np.sin(2 * np.pi * 440 * t_s)[:, None])
        case _:
            return pictures(modality, 1.0, 1.05 * FORMS[modality].limits[0][1])


@pytest.mark.parametrize("modality", [m for m in MODALITIES if m != "vision"])
def test_what_no_sensor_measures_is_invalid(embedder: Embedder, modality: Modality) -> None:
    assert embedded(embedder, modality, beyond(modality)).missing == {"it": "invalid: out of range"}


def test_public_functions_guess_units_until_they_are_told_not_to() -> None:
    still = np.zeros((1, 1300, 6), np.float32)
    still[..., 2] = 1000.0  # milli-g
    turning = np.zeros((1, 1300, 6), np.float32)
    turning[..., 2] = 9.8
    turning[..., 5] = 90.0  # degrees per second
    millimetres = np.full((1, 48, 64), 1500.0, np.float32)
    kelvin = np.full((1, 48, 64), 293.0, np.float32)
    integers = np.full((1, 4000, 1), 900.0, np.float32)
    in_g = np.zeros((1, 1300, 6), np.float32)
    in_g[..., 2] = 1.0
    kilometres = np.full((1, 48, 64), 0.0015, np.float32)
    raw_counts = np.full((1, 48, 64), 8000 * 0.01 - 273.15, np.float32)
    low_gain = np.full((1, 48, 64), 29515 // 10, np.uint16)
    guesses: list[tuple[Callable[..., torch.Tensor], tuple[Any, ...], str]] = [
        (preprocess.imu, (still, 250.0), "look like milli-g"),
        (preprocess.imu, (turning, 250.0), "look like degrees per second"),
        (preprocess.depth, (millimetres,), "look like millimetres"),
        (preprocess.thermal, (kelvin,), "look like kelvin"),
        (preprocess.audio, (integers, 8_000.0), "scale integer samples"),
        (preprocess.audio_clips, (integers, 8_000.0), "scale integer samples"),
        (preprocess.imu, (in_g, 250.0), "look like units of gravity"),
        (preprocess.depth, (kilometres,), "look like kilometres"),
        (preprocess.thermal, (raw_counts,), "look like raw counts or tenths of a kelvin"),
        (partial(preprocess.thermal_counts, kelvin_per_count=0.01), (low_gain,), "look like raw counts or tenths"),
    ]
    for function, arguments, words in guesses:
        with pytest.raises(preprocess.PreprocessError, match=words):
            function(*arguments)
        assert function(*arguments, guess_units=False).isfinite().all()
