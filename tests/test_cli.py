"""The command as a user runs it: what goes wrong is one line and exit code 1, and signals end it in order."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals
from typing import Any

import pytest
import typer
import yaml
from command_tree import commands_of
from real_sources import free_port
from running_agent import DEADLINE_S, SENSEBIND, RunningAgent, Subscriber, busy_factor

from agent.commands.verbs import app
from protos import perception_pb2 as pb

THERMAL = {"type": "synthetic_thermal", "seed": 7, "width": 64, "height": 64}
STOPS_S = 5.0


def sensebind(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SENSEBIND, *words], capture_output=True, text=True, timeout=DEADLINE_S)


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1, done
    assert done.stderr.startswith("sensebind: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.endswith("\n")
    for part in parts:
        assert part in done.stderr


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sensors: {eye: {type: synthetic_camera, seeed: 3}}", ["sensors.eye.seeed: unknown key", "'seed'"]),
        ("sensors: {eye: {type: synthetic_camera}}\nwindow: {}", ["window: unknown key", "'windows'"]),
        ("sensors: {eye: {type: camra}}", ["sensors.eye.type: there is no driver 'camra'", "'camera'"]),
        (
            "sensors: {ear: {type: synthetic_microphone, mic_positions_m: [[0, 0, 0]]}}",
            ["sensors.ear.mic_positions_m: 1 positions for 4 channels"],
        ),
        ("sensors: {imu: {type: imu_wit, axes: up}}", ["sensors.imu: axes"]),
        ("sensors: {eye: {type: synthetic_camera, width: -5}}", ["sensors.eye.width: is -5"]),
        ("sensors: {ear: {type: microphone, block_ms: 0}}", ["sensors.ear: block_ms is 0.0, wanted 1 to 1000"]),
        ("sensors: [", ["agent.yaml:1: not YAML"]),
        ("\0", ["agent.yaml", "not YAML"]),
        ("- a list", ["agent.yaml: holds no keys"]),
    ],
)
def test_a_config_that_cannot_be_used(text: str, parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    assert_one_line(sensebind("run", "--config", str(path)), *parts)


def test_a_config_that_cannot_be_read(tmp_path: Path) -> None:
    assert_one_line(
        sensebind("run", "--config", str(tmp_path / "none.yaml")), "none.yaml: cannot be read: No such file"
    )
    picture = tmp_path / "picture.yaml"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    assert_one_line(sensebind("run", "--config", str(picture)), "picture.yaml", "not text")


@pytest.mark.parametrize(("content", "part"), [(None, "no such weights file"), (b"garbage" * 99, "damaged")])
def test_weights_that_cannot_be_loaded(content: bytes | None, part: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    if content:
        weights.write_bytes(content)
    path = config(tmp_path, weights, thermal=THERMAL)
    assert_one_line(sensebind("run", "--config", str(path), "--listen", "127.0.0.1:0"), str(weights), part)


def config(folder: Path, weights: Path, **sensors: dict[str, Any]) -> Path:
    path = folder / "agent.yaml"
    path.write_text(yaml.safe_dump({"model": {"weights": str(weights), "device": "cpu"}, "sensors": sensors}))
    return path


def test_an_address_that_another_program_has(tmp_path: Path) -> None:
    path = config(tmp_path, tmp_path / "never read", thermal=THERMAL)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = sensebind("run", "--config", str(path), "--listen", address)
    assert_one_line(done, f"{address}: another program listens there")


@pytest.mark.parametrize("words", [["run"], ["record", "--out", "run.mcap"]])
def test_an_address_that_others_reach_needs_the_flag(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*words, "--config", str(config(tmp_path, tmp_path / "none", thermal=THERMAL)), "--listen", "0.0.0.0:0"]
    assert_one_line(sensebind(*words), "0.0.0.0:0", "--insecure")
    accepted = sensebind(*words, "--insecure")
    assert accepted.stdout.startswith("sensebind listens at 0.0.0.0:")
    assert "no such weights file" in accepted.stderr


@pytest.mark.parametrize("words", [["watch"], ["status"], ["query", "list"], ["query", "add", "a dog"]])
def test_no_agent(words: list[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    assert_one_line(sensebind(*words, "--address", address), f"no agent at {address}", "sensebind run")


def test_a_modality_that_there_is_not() -> None:
    done = sensebind("query", "add", "a dog", "--modality", "smell")
    assert_one_line(done, "'smell' is not a modality", "vision, audio, depth, thermal, imu")


def test_every_command_option_and_argument_has_help() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    commands = dict(commands_of(group))
    assert "golden check" in commands
    bare = [name for name, command in commands.items() if not command.help]
    bare += [
        f"{name} {option.name}" for name, command in commands.items() for option in command.params if not option.help
    ]
    assert not bare


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, nano_weights: Path) -> Iterator[RunningAgent]:
    """A thermal camera that works, and a camera that is not there."""
    sensors = {"thermal": THERMAL, "camera": {"type": "camera", "source": "/dev/video99"}}
    tree = {"model": {"weights": str(nano_weights), "device": "cpu"}, "sensors": sensors}
    with RunningAgent(tree, tmp_path_factory.mktemp("agent")) as agent:
        yield agent


def test_a_device_that_is_missing_costs_its_modality_only(agent: RunningAgent) -> None:
    with Subscriber(agent.address) as subscriber:
        event = subscriber.wait("an embedding", lambda e: e.HasField("embedding") and e.embedding.windows[0].present)
    assert {w.sensor: w.missing_reason for w in event.embedding.windows} == {"thermal": "", "camera": "lost"}
    streams = {stream.sensor: stream for stream in agent.status().streams}
    assert streams["camera"].state == pb.StreamHealth.STATE_LOST
    assert "/dev/video99" in streams["camera"].reason
    assert "\n" not in streams["camera"].reason
    assert streams["thermal"].samples > 0


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["add", ""], ["text: is empty"]),
        (["add", "a dog " * 1700], ["text", "1000"]),
        (["add", "a dog", "--threshold", "7"], ["threshold_on"]),
        (["add", "a dog", "--id", "not an id!"], ["id"]),
        (["remove", "nonsense"], ["nonsense"]),
    ],
)
def test_a_query_that_makes_no_sense(words: list[str], parts: list[str], agent: RunningAgent) -> None:
    done = sensebind("query", *words, "--address", agent.address)
    assert_one_line(done, *parts)
    assert len(done.stderr) < 400


def test_a_query_is_added_listed_and_removed(agent: RunningAgent) -> None:
    at = ["--address", agent.address]
    added = sensebind("query", "add", "a dog barking", "--threshold", "0.4", *at)
    assert (added.returncode, added.stdout.split()[0]) == (0, "a-dog-barking")
    listed = sensebind("query", "list", *at)
    assert [line.split("\t")[:3] for line in listed.stdout.splitlines()] == [["a-dog-barking", "a dog barking", "0.40"]]
    assert sensebind("query", "remove", "a-dog-barking", *at).returncode == 0
    assert sensebind("query", "list", *at).stdout == ""


def test_status_shows_every_stream(agent: RunningAgent) -> None:
    done = sensebind("status", "--address", agent.address)
    assert done.returncode == 0
    assert "thermal" in done.stdout
    assert "camera" in done.stdout


def test_the_status_is_a_json_document_for_programs(agent: RunningAgent) -> None:
    done = sensebind("status", "--address", agent.address, "--json")
    told = json.loads(done.stdout)
    assert {stream["sensor"] for stream in told["streams"]} == {"thermal", "camera"}
    assert all("reason" in stream and "drops" in stream for stream in told["streams"])
    assert told["ticks_shed"].keys() <= {"model loading", "behind"}


def test_the_version_and_the_help_have_the_usual_options() -> None:
    assert sensebind("--version").stdout == f"sensebind {version('sensebind')}\n"
    assert sensebind("-h").stdout == sensebind("--help").stdout
    assert "--seconds" in sensebind("record", "-h").stdout


def test_a_recording_ends_by_itself_after_the_seconds_asked_for(tmp_path: Path, nano_weights: Path) -> None:
    out = tmp_path / "short.mcap"
    path = config(tmp_path, nano_weights, thermal=THERMAL)
    done = sensebind("record", "--config", str(path), "--out", str(out), "--listen", "127.0.0.1:0", "--seconds", "2.5")
    assert done.returncode == 0, done.stderr
    assert re.search(r"short\.mcap: [1-9]\d* messages written", done.stdout)


def test_a_recording_that_ends_before_the_model_is_loaded_ends_in_order(tmp_path: Path, nano_weights: Path) -> None:
    out = tmp_path / "short.mcap"
    path = config(tmp_path, nano_weights, thermal=THERMAL)
    done = sensebind("record", "--config", str(path), "--out", str(out), "--listen", "127.0.0.1:0", "--seconds", "0.3")
    assert (done.returncode, done.stderr) == (0, "")
    assert "sensebind runs" not in done.stdout
    assert "short.mcap: " in done.stdout


def test_sigterm_ends_an_agent_in_order(agent: RunningAgent) -> None:
    began = time.monotonic()
    assert agent.end(SIGTERM) == 0
    assert time.monotonic() - began < STOPS_S * busy_factor()
    assert "Traceback" not in agent.stderr


@pytest.mark.parametrize("by", [SIGINT])
def test_a_signal_ends_an_agent_that_still_loads_its_model(by: Signals, tmp_path: Path, nano_weights: Path) -> None:
    path = config(tmp_path, nano_weights, thermal=THERMAL)
    with subprocess.Popen(
        [*SENSEBIND, "run", "--config", str(path), "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("sensebind listens at ")
        process.send_signal(by)
        out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert out == err == ""


def test_an_agent_that_can_take_no_samples_any_more_ends(tmp_path: Path, nano_weights: Path) -> None:
    path = config(tmp_path, nano_weights, thermal=THERMAL)
    program = """
from agent.capture.live import Capture
from agent.cli import main

def poll(self, timeout_s):
    raise RuntimeError("a bug in capture")

Capture.poll = poll
main()
"""
    words = [sys.executable, "-c", program, "run", "--config", str(path), "--listen", "127.0.0.1:0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("a bug in capture")
