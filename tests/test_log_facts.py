"""What a log says of its run may be anything: it is refused in one line, by every command, before it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.commands.log import log_app
from agent.commands.replay import open_replay
from agent.config.faults import ConfigError
from agent.log.format import LogError, RunFacts
from agent.log.reading import facts_of
from benchmarks.faults.hostile_logs import CONFIG, START_NS, channel, facts, log, message

ROW = {"modality": "imu", "rate_hz": 100.0}
DEEP = '{"a":' * 5000 + "1" + "}" * 5000
"""Nested further than Python's stack reaches."""


def configured(**keys: Any) -> dict[str, Any]:
    return {"sensors": {"imu": {**CONFIG["sensors"]["imu"], **keys}}}


@pytest.mark.parametrize(
    ("changes", "message_"),
    [
        ({"start_ns": "1" + "0" * 30}, "start_ns 1000000000000000000000000000000 is not a whole number from 0 up to"),
        ({"start_ns": "-1"}, "start_ns -1 is not a whole number"),
        ({"start_ns": str(2**63)}, "is not a whole number"),
        ({"start_ns": "1_000"}, "start_ns 1_000 is not a whole number"),
        ({"clock_offset_ns": "9" * 5000}, "999... is not a whole number from -9223372036854775808"),
        ({"part": "-3"}, "part -3 is not a whole number from 0"),
        ({"run_id": "\x1b]0;pwn\x07"}, r"run_id: '\x1b]0;pwn\x07' is not 1 to 64 letters"),
        ({"run_id": "../a"}, "run_id: '../a' is not"),
        ({"version": "\x1b[2J"}, r"layout \x1b[2J is not known, only 1"),
        ({"config": "[]"}, "config holds []; wanted names with values"),
        ({"config": "null"}, "config holds None; wanted names"),
        ({"config": DEEP}, "config: is nested more than 32 levels deep"),
        ({"config": json.dumps({"a": [[[0]]] * 100}).replace("0", "[" * 40 + "]" * 40)}, "more than 32 levels deep"),
        ({"config": "{" + " " * 2**20 + "}"}, "config has 1048578 characters; 1048576 are allowed"),
        ({"config": '{"a": ' + "9" * 10_000 + "}"}, "config is not JSON: Exceeds the limit"),
        ({"config": {"sensors": [1]}}, "config: sensors holds [1]; wanted the names of sensors"),
        ({"config": {"sensors": {"imu": 1}}}, "config: sensors holds {'imu': 1}; wanted"),
        ({"versions": [1]}, "versions holds [1]; wanted names"),
        ({"sensors": DEEP}, "sensors: is nested more than 32 levels deep"),
        ({"sensors": {"imu": [1]}}, "sensor 'imu' is [1]; wanted modality, rate_hz, scale and offset"),
        ({"sensors": {"imu": {**ROW, "x": 1}}}, "wanted modality, rate_hz, scale and offset"),
        ({"sensors": {"imu": {**ROW, "modality": ["imu"]}}}, "has the unknown modality ['imu']"),
        ({"sensors": {"imu": {**ROW, "rate_hz": "100"}}}, "its rate_hz, scale and offset must be numbers"),
        ({"sensors": {"imu": {**ROW, "rate_hz": True}}}, "must be numbers"),
        ({"sensors": {"imu": {**ROW, "rate_hz": 1e-300}}}, "has the rate_hz 1e-300; 0.001 to 1e+06 are possible"),
        ({"sensors": {"imu": {**ROW, "rate_hz": 1e300}}}, "has the rate_hz 1e+300"),
        ({"sensors": json.dumps({"imu": {**ROW, "rate_hz": -1}}).replace("-1", "NaN")}, "has the rate_hz nan"),
        ({"sensors": {"imu": {**ROW, "rate_hz": 10**4000}}}, "imu.rate_hz: a number of 13288 bits is too large"),
        ({"config": {"a": "x" * 10_001}}, "config: a: has 10001 characters; 10000 are allowed"),
        ({"sensors": {"imu": {**ROW, "scale": 0}}}, "has an impossible scale or offset"),
        ({"sensors": {"imu": {**ROW, "offset": 1e300}}}, "has an impossible scale or offset"),
        ({"sensors": {"..": ROW}}, "the name '..' is not 1 to 64 letters"),
        ({"sensors": {"\x1b[31m": ROW}}, r"the name '\x1b[31m' is not"),
        ({"sensors": {f"s{n}": ROW for n in range(300)}}, "sensors: are 300; 256 are allowed"),
    ],
)
def test_odd_facts_are_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], message_: str) -> None:
    path = tmp_path / "odd.mcap"
    path.write_bytes(log(channel(), message(), run=facts(**changes)))
    commands = (["info"], ["cut", str(tmp_path / "a")], ["merge", str(path), str(tmp_path / "a")])
    for command, *rest in (*commands, ["export", str(tmp_path / "a")]):
        result = CliRunner().invoke(log_app, [command, str(path), *rest])
        assert isinstance(result.exception, LogError), result.exception
        assert message_ in str(result.exception)
        assert str(result.exception).isprintable()
        assert len(str(result.exception)) < 500
    with pytest.raises(LogError):
        open_replay([path])
    assert CliRunner().invoke(log_app, ["repair", str(path), str(tmp_path / "a")]).exception is None


@pytest.mark.parametrize(
    ("config", "message_"),
    [
        (configured(rate_hz="100 Hz"), "sensors.imu.rate_hz: must be a number"),
        (
            configured(rate_hz=1e-300),
            "sensors.imu.rate_hz: must be greater than or equal to 0.001 (found 1e-300)",
        ),
        (configured(rate_hz=1e300), "sensors.imu.rate_hz: must be less than or equal to 1000000"),
        (configured(type="\x1b[31m"), r"there is no driver '\x1b[31m'"),
        (configured(queue_depth=10**18), "sensors.imu.queue_depth: must be less than"),
        ({**CONFIG, "queries": [{}] * 20_000}, "queries: List should have at most 256 items"),
        ({**CONFIG, "queries": [{"text": "a", "threshold_on": 1e-40}]}, "threshold_on: is 1e-40; below 1e-06 it would"),
        ({**CONFIG, "background_prompts": ["a"] * 20_000}, "background_prompts: List should have at most 256 items"),
        ({**CONFIG, "windows": []}, "windows: must be a group of keys of its own"),
        ({}, "sensors: none is configured"),
    ],
)
def test_an_odd_configuration_is_refused_when_it_is_used(tmp_path: Path, config: dict[str, Any], message_: str) -> None:
    path = tmp_path / "odd.mcap"
    path.write_bytes(log(channel(), message(), run=facts(config=config)))
    with pytest.raises(ConfigError) as raised:
        open_replay([path])
    assert message_ in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 500
    result = CliRunner().invoke(log_app, ["info", str(path)])
    assert result.exception is None, "a log can be looked at whatever it was configured to"


def test_facts_within_the_limits_come_back(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    path.write_bytes(log(run=facts(start_ns=str(2**63 - 1), clock_offset_ns="-5", part="12", versions={"a": "1"})))
    found = facts_of(path)
    assert (found.start_ns, found.offset_ns, found.part, found.versions) == (2**63 - 1, -5, 12, {"a": "1"})
    assert RunFacts.from_record(found.to_record()) == found
    assert found.sensors["imu"].rate_hz == 100.0


def test_a_log_cannot_steer_the_terminal(tmp_path: Path) -> None:
    topic, path = "/\x1b]0;pwn\x07\x1b[31m[red]\u202e", tmp_path / "run.mcap"
    path.write_bytes(log(channel(topic=topic), message(t_ns=START_NS)))
    for words in (
        ["info", str(path)],
        ["repair", str(path), str(tmp_path / "a")],
        ["cut", str(path), str(tmp_path / "b")],
    ):
        result = CliRunner().invoke(log_app, words)
        assert all(character.isprintable() or character == "\n" for character in result.output)
    shown = CliRunner().invoke(log_app, ["info", str(path)], env={"COLUMNS": "200"}).output
    assert r"\x1b]0;pwn\x07\x1b[31m[red]\u202e" in shown
