"""`sensebind config check`: all faults of a file at once, and what its sensors give."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from running_agent import DEADLINE_S, SENSEBIND

from agent.config.faults import ConfigError
from agent.config.parse import parse
from agent.lab.probe import probe
from agent.streams import SensorSpec

FAULTY = """
sensor: {cam: {type: camera}}
sensors:
  camera: {type: camra, source: 0}
  imu: {type: imu_wit, prt: /dev/ttyUSB0, bauds: 3}
  ear: {type: synthetic_microphone, block_ms: 0}
model: 3
windows: {hop_s: 0}
"""


def checked(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SENSEBIND, "config", "check", *words], capture_output=True, text=True, timeout=DEADLINE_S)


def test_all_faults_of_a_file_are_told_at_once_one_line_each(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(FAULTY)
    done = checked(str(path))
    assert done.returncode == 1
    told = [line.removeprefix(f"sensebind: {path}: ") for line in done.stderr.splitlines()]
    wanted = [
        r"sensor: unknown key; did you mean 'sensors'\?",
        r"model: must be a group of keys of its own \(found 3\)",
        r"windows\.hop_s: .* 0\.05 \(found 0\)",
        r"sensors\.camera\.type: there is no driver 'camra'; did you mean 'camera'\?",
        r"sensors\.imu\.prt: unknown key; did you mean 'port'\?",
        r"sensors\.imu\.bauds: unknown key; did you mean 'baud'\?",
        r"sensors\.ear.*block_ms.*",
    ]
    assert len(told) == len(wanted)
    for line, pattern in zip(told, wanted, strict=True):
        assert re.fullmatch(pattern, line), line


def test_faults_of_several_parts_that_are_each_well_formed_are_told_at_once() -> None:
    tree = {
        "sensors": {"eye": {"type": "synthetic_camera"}},
        "server": {"listen": "nowhere"},
        "queries": [{"text": "a dog", "id": "x"}, {"text": "a cat", "id": "x"}, {"text": ""}],
        "localization": {"camera": "eyes"},
    }
    with pytest.raises(ConfigError) as refused:
        parse(tree, "robot.yaml")
    told = "\n".join(refused.value.lines)
    for part in ("server.listen: ", "queries[2]: ", "queries: the id 'x' is given twice", "'eyes'"):
        assert part in told
    assert len(refused.value.lines) == 4
    assert str(refused.value) == f"{refused.value.lines[0]}; and 3 more"


def test_a_part_that_is_not_well_formed_hides_no_fault_of_another_and_causes_none() -> None:
    tree = {
        "model": {"dtype": "fp16"},
        "sensors": {"eye": {"type": "camera", "source": 0, "widht": 640, "height": "480p"}},
        "server": {"listen": "nowhere"},
        "queries": [{"text": "a dog", "clip": True}],
        "localization": {"camera": "eye"},
        "record": {"compression": {"eye": "lz4"}},
        "clips": {"folder": 7},
    }
    with pytest.raises(ConfigError) as refused:
        parse(tree, "robot.yaml")
    assert [line.split(": ")[1] for line in refused.value.lines] == [
        "model.dtype",
        "clips.folder",
        "sensors.eye.widht",
        "sensors.eye.height",
        "server.listen",
    ]


def test_a_probe_tells_what_each_sensor_gives_and_why_one_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(
        "sensors:\n"
        "  eye: {type: synthetic_camera, width: 64, height: 48, rate_hz: 20}\n"
        "  ear: {type: synthetic_microphone}\n"
        f"  turn: {{type: imu_wit, port: {tmp_path}/ttyUSB7}}\n"
    )
    done = checked(str(path), "--probe", "--patience", "15")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == f"{path}: no fault; sensors: eye, ear, turn; queries: 0"
    assert re.fullmatch(r"eye: vision of 48 x 64 x 3, \d+\.\d of 20 Hz", lines[1])
    assert re.fullmatch(r"ear: audio of \d+ x 4, \d{4,5}\.\d of 16000 Hz", lines[2])
    assert lines[3].startswith(f"turn: {tmp_path}/ttyUSB7: no such device")
    assert lines[4].endswith("imagebind_nano.safetensors")
    assert done.stderr == "sensebind: 1 of 3 sensors give nothing: turn\n"


def test_a_probe_leaves_out_what_other_processes_fill() -> None:
    streams = parse({"sensors": {"far": {"type": "remote", "modality": "vision", "rate_hz": 5}}})
    assert isinstance(streams.specs[0], SensorSpec)
    assert probe(streams.specs, 0.5) == []
