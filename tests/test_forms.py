"""The table of forms, and what drivers say of their streams by it."""

from __future__ import annotations

import dataclasses
from typing import Any

import faulty_drivers
import numpy as np
import odd_drivers
import pytest

from agent.config.faults import ConfigError
from agent.config.parse import parse
from agent.streams import stream_of
from drivers.driver import MODALITIES, BadData, Driver, Modality, Sample, StreamFacts
from drivers.forms import FORMS, check_form
from drivers.imu.rows import possible
from drivers.registry import DRIVERS, driver_class, find_driver

RATE_HZ = 123.0


def sample(modality: Modality, *, columns: int = 4) -> Sample:
    form = FORMS[modality]
    shape = [size or default for size, default in zip(form.shape(columns=columns), (5, 7, 3), strict=False)]
    return Sample(0, np.zeros(shape, form.dtype), 0.0 if form.image_like else RATE_HZ)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_sample_of_the_form_passes_and_every_other_is_refused(modality: Modality) -> None:
    good = sample(modality)
    check_form(good, modality)
    others = [
        dataclasses.replace(good, data=good.data.astype(np.float64)),
        dataclasses.replace(good, data=good.data[..., None]),
        dataclasses.replace(good, data=good.data[:0]),
        dataclasses.replace(good, rate_hz=RATE_HZ if FORMS[modality].image_like else 0.0),
    ]
    if modality in ("vision", "imu"):
        others.append(dataclasses.replace(good, data=good.data[..., :2]))
    for other in others:
        with pytest.raises(BadData, match=f"a {modality} sample of "):
            check_form(other, modality)


@pytest.mark.parametrize("rate_hz", [5e-4, 2e6, float("nan"), -1.0])
def test_rows_of_a_rate_that_no_log_holds_are_refused(rate_hz: float) -> None:
    with pytest.raises(BadData, match="sample of rate"):
        check_form(dataclasses.replace(sample("audio"), rate_hz=rate_hz), "audio")


def test_an_inertial_row_is_possible_up_to_the_limits_of_its_form() -> None:
    lowest, highest = zip(*FORMS["imu"].limits, strict=True)
    assert possible(lowest)
    assert possible(highest)
    assert not possible((*highest[:5], highest[5] * 1.01))
    assert not possible((lowest[0] * 1.01, *lowest[1:]))
    assert not possible((float("nan"), *lowest[1:]))


VALUES: dict[str, Any] = {
    "rate_hz": 48_000, "width": 64, "height": 48, "channels": 3, "block_ms": 20.0, "latency_ms": 7.0,
    "scale_m": 0.5, "scale_c": 0.25, "offset_c": -11.0, "modality": "audio",
}  # fmt: skip
SAID: dict[str, tuple[str, Any]] = {
    "block_ms": ("block_s", 0.02), "latency_ms": ("latency_s", 0.007), "scale_m": ("scale", 0.5),
    "scale_c": ("scale", 0.25), "offset_c": ("offset", -11.0),
}  # fmt: skip


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_driver_says_of_its_stream_what_its_options_say(driver: str) -> None:
    made = driver_class(driver)
    known = {f.name: f for f in dataclasses.fields(made.Options)}
    needed = {name: "x" for name, f in known.items() if f.default is f.default_factory is dataclasses.MISSING}
    given = {key: value for key, value in VALUES.items() if key in known}
    facts = made.stream(made.Options(**{**needed, **given}))
    for key, value in given.items():
        name, wanted = SAID.get(key, (key, value))
        assert getattr(facts, name) == wanted, key
    assert facts.modality in MODALITIES
    assert "rate_hz" in given


def test_a_third_partys_driver_is_of_the_usual_rate_until_it_says_another() -> None:
    class Fast(faulty_drivers.FaultyCamera):
        @classmethod
        def stream(cls, options: faulty_drivers.FaultyOptions) -> StreamFacts:
            return StreamFacts(cls.modality, rate_hz=1 / options.period_s, width=options.height, height=options.height)

    def row(driver: type[Driver]) -> tuple[float, int]:
        facts = driver.stream(faulty_drivers.FaultyOptions(period_s=0.01, height=16))
        stream = stream_of("eye", facts, window_s=0.0, max_lateness_s=0.1)
        return stream.rate_hz, stream.sample_bytes

    assert row(find_driver("faulty_drivers:FaultyCamera")) == (30.0, 1920 * 1080 * 3)
    assert row(Fast) == (100.0, 16 * 16 * 3)
    odd = find_driver("odd_drivers:NanMicrophone")
    assert odd is odd_drivers.NanMicrophone
    assert odd.stream(odd.Options(rate_hz=8_000)) == StreamFacts("audio", rate_hz=8_000, channels=4)


def test_a_replay_has_the_streams_of_the_run_though_no_driver_can_be_made_of_it() -> None:
    tree = {
        "sensors": {
            "sound": {"type": "audio_file", "rate_hz": 8_000, "channels": 2, "path": "", "pace": "never"},
            "array": {"type": "synthetic_microphone", "rate_hz": 48_000},
            "pushed": {"type": "remote", "modality": "depth", "rate_hz": 5, "width": 10, "height": 20},
        }
    }
    streams = parse(tree, devices=False).streams
    assert (streams["sound"].rate_hz, streams["sound"].modality) == (8_000, "audio")
    assert streams["array"].sample_bytes == 24_000 * 4 * 4
    assert streams["pushed"].sample_bytes == 10 * 20 * 4
    with pytest.raises(ConfigError, match=r"sensors\.sound"):
        parse(tree)
    del tree["sensors"]["pushed"]["modality"]
    with pytest.raises(ConfigError, match=r"sensors\.pushed\.modality: is not given"):
        parse(tree, devices=False)
