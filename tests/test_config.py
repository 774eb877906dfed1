"""The configuration: what it becomes, and the line that each fault gives."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from agent.config.faults import ConfigError
from agent.config.parse import load, parse, synthetic
from agent.config.settings import SensorSettings
from drivers.registry import DRIVERS, driver_class

CAMERA = {"type": "synthetic_camera", "hfov_deg": 60}
MICROPHONE = {"type": "synthetic_microphone"}


def tree(**changes: Any) -> dict[str, Any]:
    return {"sensors": {"camera": dict(CAMERA), "mic": dict(MICROPHONE)}, **changes}


def _nested(levels: int) -> Any:
    return {"a": _nested(levels - 1)} if levels else 0


def test_the_shipped_default_has_five_modalities_of_one_scene() -> None:
    config = synthetic()
    assert {s.modality for s in config.streams.values()} == {"vision", "audio", "depth", "thermal", "imu"}
    assert {sensor.spec.options.seed for sensor in config.sensors.values()} == {7}
    assert (config.camera, config.microphone) == ("camera", "microphone")
    assert [q.text for q in config.queries] == ["a dog barking", "a baby crying", "a helicopter flying"]


def test_the_robots_configuration_is_valid_and_names_every_device_driver() -> None:
    path = Path(__file__).parent.parent / "configs" / "robot.yaml"
    config = load(path)
    assert {s.modality for s in config.streams.values()} == {"vision", "audio", "depth", "thermal", "imu"}
    text = path.read_text()
    for driver in DRIVERS:
        assert driver.startswith("synthetic_") or driver in text


def test_another_seed_is_given_to_every_sensor() -> None:
    assert {sensor.spec.options.seed for sensor in synthetic(42).sensors.values()} == {42}


def test_a_stream_follows_from_the_drivers_options() -> None:
    config = parse({"sensors": {"c": {"type": "camera", "source": 0, "width": 640, "height": 480, "rate_hz": 15}}})
    stream = config.streams["c"]
    assert (stream.rate_hz, stream.samples_hz, stream.keep) == (15, 15, "latest")
    assert stream.sample_bytes == 640 * 480 * 3
    audio = parse({"sensors": {"m": {"type": "microphone", "channels": 4, "rate_hz": 16000}}}).streams["m"]
    assert (audio.rate_hz, audio.keep, audio.window_s) == (16000, "all", 2.0)
    assert audio.sample_bytes >= 16000 * 4 * 4 * 0.05
    long = parse({"sensors": {"m": {"type": "microphone", "rate_hz": 16000, "block_ms": 1000}}}).streams["m"]
    assert long.sample_bytes >= 16000 * 4


def test_a_key_that_agent_and_driver_share_reaches_both() -> None:
    sensor = parse(tree()).sensors["camera"]
    assert sensor.hfov_deg == sensor.spec.options.hfov_deg == 60


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"sensers": {}}, ["sensers: unknown key", "'sensors'"]),
        ({"model": {"wieghts": "x"}}, ["model.wieghts: unknown key", "'weights'"]),
        ({"sensors": {"c": {"type": "synthetic_camera", "widht": 3}}}, ["sensors.c.widht: unknown key", "'width'"]),
        ({"sensors": {"c": {"type": "camra"}}}, ["sensors.c.type", "'camra'", "'camera'"]),
        ({"sensors": {"c": {"source": 0}}}, ["sensors.c", "no `type:`"]),
        ({"sensors": {"c": {**CAMERA, "width": "wide"}}}, ["sensors.c.width: must be a whole number", "'wide'"]),
        ({"sensors": {"c": {**CAMERA, "hfov_deg": 200}}}, ["sensors.c.hfov_deg", "less than 180", "200"]),
        ({"sensors": {"c": {**CAMERA, "hfov_deg": 1.3}}}, ["sensors.c.hfov_deg", "greater than or equal to 4", "1.3"]),
        ({"sensors": {}}, ["sensors", "none is configured"]),
        ({"windows": {"hop_s": 0}}, ["windows.hop_s", "0.05"]),
        ({"queries": [{"text": ""}]}, ["queries[0]", "text", "is empty"]),
        ({"queries": [{"text": "a dog", "threshold_on": 2}]}, ["queries[0]", "threshold_on"]),
        ({"queries": [{"text": "a", "id": "x"}, {"text": "b", "id": "x"}]}, ["queries", "'x' is given twice"]),
        ({"background_prompts": []}, ["background_prompts", "is empty"]),
        ({"windows": {"imu_s": 2}}, ["windows.imu_s", "5"]),
        ({"alerts": {"logit_scales": {"audio": 0}}}, ["alerts.logit_scales.audio", "greater than 0"]),
        ({"sensors": {"a b": dict(CAMERA)}}, ["'a b'", "letters"]),
        ({"sensors": {"c": {**CAMERA, "queue_depth": 4096, "width": 1920, "height": 1080}}}, ["sensors.c", "24 GiB"]),
        (
            {"sensors": {"m": {**MICROPHONE, "mic_positions_m": [[0, 0, 0]] * 4}}},
            ["sensors.m: mic_positions_m", "stand in one place"],
        ),
        (
            {"sensors": {"m": {**MICROPHONE, "mic_positions_m": [[40, 0, 0], [0, 40, 0], [-40, 0, 0], [0, -40, 0]]}}},
            ["sensors.m: mic_positions_m", "80 m wide", "are the positions in metres?"],
        ),
        (
            {"sensors": {"m": {**MICROPHONE, "mic_positions_m": [[4e-4, 0, 0], [0, 0, 0], [0, 4e-4, 0], [0, 0, 0]]}}},
            ["sensors.m: mic_positions_m", "0.000565685 m wide", "are the positions in metres?"],
        ),
        (
            {"sensors": {"m": {**MICROPHONE, "mic_positions_m": [[4e-2, 0, 0], [0, 0, 0], [0, 4e-2, 0], [0, 0, 0]]}}},
            ["sensors.m: mic_positions_m", "microphones 1 and 3 are at one point"],
        ),
        (
            {"sensors": {name: {"type": "imu_wit", "port": "/dev/ttyUSB9"} for name in ("arm", "base")}},
            ["sensors.base.port: /dev/ttyUSB9 is sensor arm"],
        ),
        ({"model": {"dtype": "fp16"}}, ["model.dtype: must be 'float32', 'bfloat16' or 'float16' (found 'fp16')"]),
        ({"localization": {"camera": "front"}}, ["localization.camera", "'front'"]),
        ({"localization": {"camera": "f" * 500}}, ["localization.camera", "fff...; known"]),
        ({"sensors": {"..": dict(CAMERA)}}, ["the name '..'", "and not only dots"]),
        ({"sensors": {".": dict(CAMERA)}}, ["the name '.'"]),
        ({"sensors": {f"s{n}": dict(CAMERA) for n in range(300)}}, ["sensors: Dictionary should have at most 256"]),
        ({"sensors": {"c": {**CAMERA, "rate_hz": 1e-4}}}, ["sensors.c.rate_hz: is 0.0001", "0.001 to 1e+06"]),
        ({"sensors": {"c": {"type": "x" * 500}}}, ["sensors.c.type: there is no driver 'xxx", "xxx...; known"]),
        ({"server": {"listen": "0.0.0.0:99999999999"}}, ["server.listen: '0.0.0.0:99999999999' is not an address"]),
        ({"server": {"listen": "0.0.0.0:" + "9" * 5000}}, ["server.listen: '0.0.0.0:999", "999... is not an address"]),
        ({"server": {"listen": "here"}}, ["server.listen: 'here' is not an address"]),
        ({"queries": [{"text": "a dog"}] * 257}, ["queries: List should have at most 256 items", "not 257"]),
        ({"queries": [{"text": "a dog", "threshold_on": 1e-40}]}, ["queries[0]", "is 1e-40; below 1e-06 it would"]),
        ({"queries": 10**400}, ["queries: a number of 1329 bits is too large a number"]),
        ({"queries": [[[[]] * 9] * 9] * 9}, ["queries.0: ", "(found [[[], [], [], [], ...], "]),
        ({"a": {"b": [[0] * 99_000, [0] * 99_000]}}, ["holds more than 100000 values"]),
        ({"a": _nested(40)}, ["is nested more than 32 levels deep"]),
        ({"a": b"x"}, ["a: is bytes, which is not a plain value"]),
        ({"a": {1: "b"}}, ["a.1: is not a name for a key"]),
        ({"background_prompts": ["a"] * 300}, ["background_prompts: List should have at most 256 items"]),
        ({"background_prompts": ["a" * 1001]}, ["background_prompts.0: String should have at most 1000 characters"]),
        (
            {"sensors": {"m": {"type": "microphone", "channels": 4, "mic_positions_m": [[0, 0, 0]]}}},
            ["sensors.m.mic_positions_m", "1 positions for 4 channels"],
        ),
    ],
)
def test_a_fault_is_one_line_that_says_where_and_what(changes: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(tree(**changes), "robot.yaml")
    line = str(caught.value)
    assert line.startswith("robot.yaml: ")
    assert "\n" not in line
    for part in parts:
        assert part in line


NEEDED = {"source": 0, "path": "x", "port": "/dev/x", "modality": "audio", "rate_hz": 100}
ODD = (0, -1, 5e-324, 1e300, float("nan"), 10**400, "", "\x1b[31m", "a" * 10**5, "\ud800", "\0", [], {}, None, b"x")


@pytest.mark.parametrize("driver", DRIVERS)
def test_no_value_of_an_option_is_anything_but_taken_or_refused_in_one_line(driver: str) -> None:
    known = [f.name for f in dataclasses.fields(driver_class(driver).Options)]
    needed = {key: value for key, value in NEEDED.items() if key in known}
    refusals = []
    for option in {*known, *SensorSettings.model_fields}:
        for odd in ODD:
            for devices in (True, False):
                try:
                    parse({"sensors": {"s": {"type": driver, **needed, option: odd}}}, "c", devices=devices)
                except ConfigError as error:
                    refusals.append(str(error))
    assert len(refusals) > len(ODD) * len(known)
    assert all(len(refusal) < 500 and refusal.isprintable() for refusal in refusals)


def test_many_queries_cost_no_more_than_each() -> None:
    began = time.process_time()
    parse(tree(queries=[{"text": f"a dog {n}"} for n in range(256)]))
    with pytest.raises(ConfigError):
        parse(tree(queries=[{"text": f"a dog {n}"} for n in range(20_000)]))
    assert time.process_time() - began < 5


def test_a_file_that_is_missing_or_no_yaml_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "nothing.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("sensors:\n  a: [1,\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml:\d+: not YAML"):
        load(broken)
    twice = tmp_path / "twice.yaml"
    twice.write_text("sensors:\n  a: {type: camera}\n  b: {type: camera}\n  a: {type: camera}\n")
    with pytest.raises(ConfigError, match=r"twice\.yaml:4: not YAML: 'a' is given twice"):
        load(twice)
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    with pytest.raises(ConfigError, match="holds no keys"):
        load(empty)


def test_two_cameras_leave_the_choice_to_the_user() -> None:
    two = {"sensors": {"a": dict(CAMERA), "b": dict(CAMERA), "m": dict(MICROPHONE)}}
    assert parse(two).camera is None
    assert parse({**two, "localization": {"camera": "b"}}).camera == "b"
