"""A robot's own recording, from the log to weights that run: the commands of docs/training.md, on a short drive."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from recorded_run import START_NS, recorded, samples_of

from agent.commands.verbs import app
from agent.config.parse import parse
from agent.config.settings import ModelSettings
from agent.embedding.weights import load_embedder
from agent.log.format import RunFacts, logged_sensors
from models.files import checkpoint, store

PAGE = Path(__file__).parents[1] / "docs/training.md"
SENSORS: dict[str, dict[str, Any]] = {
    "front": {"type": "synthetic_camera", "width": 160, "height": 120},
    "rear": {"type": "synthetic_camera", "width": 160, "height": 120},
    "microphone": {"type": "synthetic_microphone"},
    "imu": {"type": "synthetic_imu", "rate_hz": 100.0},
}


def drive(path: Path, names: list[str], seconds: float) -> None:
    """Record some of the sensors for a while, as quickly as they can be read."""
    common = {"seed": 11, "pace": "fast", "duration_s": seconds}
    config = parse({"sensors": {name: {**SENSORS[name], **common} for name in names}})
    handed = samples_of(config)
    recorded(path, handed, RunFacts("drive", START_NS, 0, logged_sensors(config.specs), config.tree))


def commands(block: int, steps: str) -> list[list[str]]:
    """The commands of a block of the page after the recording, with few steps."""
    found = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)[block]
    lines = [shlex.split(line, comments=True)[1:] for line in found.splitlines()]
    return [[steps if word == "100" else word for word in words] for words in lines if words[0] != "record"]


def run(words: list[str]) -> None:
    app(words, standalone_mode=False)


def test_the_commands_of_the_page_train_on_three_sensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    drive(Path("drive.mcap"), ["front", "microphone", "imu"], 11.0)
    told = []
    for words in commands(0, steps="3"):
        run(words)
        told.append(capsys.readouterr().out.splitlines())
    exported, trained, scored, _ = told
    assert exported[0] == "shards/drive: 4 examples in 1 shards; images with audio 4, imu 3"
    assert trained[:2] == [
        "4 examples; pairs of an image with audio 4, imu 3",
        "not trained, as they are in imagebind_nano: vision, depth, thermal, text",
    ]
    assert trained[-1] == "runs/drive/imagebind_nano.safetensors"
    assert {line.split()[0] for line in scored} == {
        *("vision_to_audio_r1", "audio_to_vision_r1", "audio_chance_r1"),
        *("vision_to_imu_r1", "imu_to_vision_r1", "imu_chance_r1"),
    }
    weights = Path("runs/drive/imagebind_nano.safetensors")
    before, after = (checkpoint.load(path).state_dict() for path in (store.find("imagebind_nano"), weights))
    changed = {name.split(".")[1] for name in before if not before[name].equal(after[name])}
    assert changed == {"audio", "imu"}
    embedder, _ = load_embedder(ModelSettings(weights=str(weights), device="cpu"), {"vision", "audio", "depth"})
    assert embedder.embed_texts(["a dog"]).shape == (1, 128)


def test_two_cameras_are_exported_one_by_one_and_trained_on_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    drive(Path("drive.mcap"), ["front", "rear", "microphone", "imu"], 6.5)
    for words in commands(1, steps="1"):
        run(words)
    assert "4 examples; pairs of an image with audio 4, imu 2" in capsys.readouterr().out.splitlines()
