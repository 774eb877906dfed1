"""Training examples out of a log: whole and aligned moments only, as preprocessing makes them of the samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recorded_run import START_NS, Handed, recorded

from agent.capture.offline import Offline
from agent.clock import ManualClock
from agent.commands.exchange import export_log
from agent.config.parse import Config, parse, synthetic
from agent.exchange import shards
from agent.exchange.shards import export_shards
from agent.log.format import LogError, RunFacts, logged_sensors
from agent.windows.windower import Windower
from drivers.driver import Sample
from models import preprocess
from models.datasets.dataset import DatasetError, read
from models.datasets.pairs import PairSampler, load


@pytest.fixture(scope="module")
def world() -> tuple[Config, Handed]:
    """Twelve seconds of the synthetic world, with an IMU of another rate than the model's."""
    config = synthetic(7, pace="fast", duration_s=12.0)
    tree = {**config.tree, "sensors": {**config.tree["sensors"]}}
    tree["sensors"]["imu"] = {**tree["sensors"]["imu"], "rate_hz": 200.0}
    config = parse(tree)
    source = Offline(config.specs, ManualClock(START_NS))
    source.start()
    handed: Handed = []
    while not source.ended:
        handed += source.poll(0.0)
    source.stop()
    return config, handed


def run_of(config: Config) -> RunFacts:
    return RunFacts("run.7", START_NS, 0, logged_sensors(config.specs), config.tree)


def test_shards_hold_what_preprocessing_makes_of_the_samples(world: tuple[Config, Handed], tmp_path: Path) -> None:
    config, handed = world
    log = recorded(tmp_path / "run.mcap", handed, run_of(config))
    report = export_shards(log, tmp_path / "shards", every_s=1.0)
    assert (report.examples, report.shards, report.unfinished) == (7, 1, "")
    assert report.left_out == {"audio: too short": 1, "audio: gap": 1, "imu: too short": 3}

    windower = Windower(config.streams, 10**9, START_NS)
    for name, sample in handed:
        windower.push(name, sample)
    ticks = [tick for tick in windower.finish() if all(w.data is not None for w in tick.windows.values())]
    examples = list(read(tmp_path / "shards"))
    assert [example.key for example in examples] == [f"run_7-{tick.t_ns}" for tick in ticks]
    loaded = load(tmp_path / "shards", ["vision", "audio", "depth", "thermal", "imu"])
    assert len(loaded) == len(ticks)
    for row, tick in enumerate(ticks):
        window = {w.modality: w for w in tick.windows.values()}
        data = {modality: w.data[None] for modality, w in window.items() if w.data is not None}
        wanted = {
            "vision": (preprocess.vision(data["vision"]), 0.12),  # JPEG twice
            "audio": (preprocess.audio(data["audio"], window["audio"].rate_hz), 0.01),
            "depth": (preprocess.depth(data["depth"]), 0.03),
            "thermal": (preprocess.thermal(data["thermal"]), 0.01),
            "imu": (preprocess.imu(data["imu"], window["imu"].rate_hz), 2e-3),
        }
        for modality, (expected, tolerance) in wanted.items():
            found = loaded.batch(modality, [row])  # type: ignore[arg-type]
            assert (found - expected).abs().mean() < tolerance, modality
    for modality in ("audio", "depth", "thermal", "imu"):
        _, groups = PairSampler(loaded.about, modality).draw(8, np.random.default_rng(0))
        assert groups == [("any", "")] * 8
    with pytest.raises(DatasetError, match="no pair of an image and text"):
        PairSampler(loaded.about, "text")


def test_only_whole_and_aligned_moments_become_examples(
    world: tuple[Config, Handed],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, handed = world

    def kept(name: str, sample: Sample) -> bool:
        at_s = (sample.t_ns - START_NS) / 1e9
        sound_lost = name == "microphone" and 6.2 < at_s < 6.4
        depth_late = name == "depth" and 8.5 < at_s < 9.1
        return not (sound_lost or depth_late)

    log = recorded(tmp_path / "run.mcap", [(n, s) for n, s in handed if kept(n, s)], run_of(config))
    report = export_shards(log, tmp_path / "shards", every_s=1.0)
    assert report.examples == 4
    missing = {"audio: too short": 1, "imu: too short": 3, "audio: gap": 1 + 2, "depth: not of the same moment": 1}
    assert report.left_out == missing
    with pytest.raises(LogError, match="shards: exists already"):
        export_shards(log, tmp_path / "shards", every_s=1.0)
    monkeypatch.setattr(shards, "EXAMPLES_PER_SHARD", 3)
    export_log(log, tmp_path / "again", "shards", every_s=1.0)
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("again: 4 examples in 2 shards")
    assert "left out: 3 audio: gap" in said
    assert [e.key for e in read(tmp_path / "again")] == [e.key for e in read(tmp_path / "shards")]


def test_a_robot_with_few_sensors_gives_examples_of_what_it_has(world: tuple[Config, Handed], tmp_path: Path) -> None:
    config, handed = world
    log = recorded(tmp_path / "run.mcap", handed, run_of(config))
    assert export_shards(log, tmp_path / "shards", ["camera", "microphone"]).examples == 5
    example = next(read(tmp_path / "shards"))
    assert example.audio is not None
    assert example.depth_m is example.temperature_c is example.imu is None
    assert len(load(tmp_path / "shards", ["vision", "audio"])) == 5
    with pytest.raises(DatasetError, match="hold no usable example"):
        load(tmp_path / "shards", ["vision", "imu"])


def test_shards_need_a_camera_and_no_two_sensors_of_a_modality(world: tuple[Config, Handed], tmp_path: Path) -> None:
    config, handed = world
    log = recorded(tmp_path / "run.mcap", handed[:40], run_of(config))
    for sensors in (["camera"], ["depth", "imu"]):
        with pytest.raises(LogError, match="an image and something else of one moment; found " + ", ".join(sensors)):
            export_shards(log, tmp_path / "shards", sensors)
    mute = recorded(tmp_path / "mute.mcap", [], replace(run_of(config), sensors={}))
    with pytest.raises(LogError, match="something else of one moment; found no sensor"):
        export_shards(mute, tmp_path / "shards")
    with pytest.raises(LogError, match=r"holds no moment with all modalities: .* too short"):
        export_shards(log, tmp_path / "shards", every_s=0.25)
    second = {**config.tree, "sensors": {**config.tree["sensors"], "rear": config.tree["sensors"]["camera"]}}
    run = replace(run_of(config), config=second)
    run = replace(run, sensors={**run.sensors, "rear": run.sensors["camera"]})
    log = recorded(tmp_path / "two.mcap", handed[:40], run)
    with pytest.raises(LogError, match=r"has 2 vision sensors \(camera, rear\); say which"):
        export_shards(log, tmp_path / "shards")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mute.mcap", "run.mcap", "two.mcap"]
