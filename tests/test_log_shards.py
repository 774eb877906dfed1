"""Training examples out of a log: whole windows of one moment only, as preprocessing makes them of the samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from recorded_run import START_NS, Handed, recorded, samples_of
from torch import Tensor

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
from models.modalities import Modality


@pytest.fixture(scope="module")
def world() -> tuple[Config, Handed]:
    """Twelve seconds of the synthetic world, with an IMU of another rate than the model's."""
    config = synthetic(7, pace="fast", duration_s=12.0)
    tree = {**config.tree, "sensors": {**config.tree["sensors"]}}
    tree["sensors"]["imu"] = {**tree["sensors"]["imu"], "rate_hz": 200.0}
    config = parse(tree)
    return config, samples_of(config)


def run_of(config: Config) -> RunFacts:
    return RunFacts("run.7", START_NS, 0, logged_sensors(config.specs), config.tree)


def test_shards_hold_what_preprocessing_makes_of_the_samples(world: tuple[Config, Handed], tmp_path: Path) -> None:
    config, handed = world
    log = recorded(tmp_path / "run.mcap", handed, run_of(config))
    report = export_shards(log, tmp_path / "shards", every_s=1.0)
    assert (report.examples, report.shards, report.unfinished) == (12, 1, "")
    assert report.left_out == {}
    assert report.lacking == {"audio: too short": 1, "audio: gap": 1, "imu: too short": 5}
    assert report.pairs == {"audio": 10, "depth": 12, "thermal": 12, "imu": 7}

    windower = Windower(config.streams, 10**9, START_NS)
    for name, sample in handed:
        windower.push(name, sample)
    ticks = list(windower.finish())
    examples = list(read(tmp_path / "shards"))
    assert [example.key for example in examples] == [f"run_7-{tick.t_ns}" for tick in ticks]
    loaded = load(tmp_path / "shards", ["vision", "audio", "depth", "thermal", "imu"])
    assert len(loaded) == len(ticks)
    rates_hz = {"audio": 16000.0, "imu": 200.0}
    made: dict[Modality, Callable[[NDArray[Any]], Tensor]] = {
        "vision": preprocess.vision,
        "audio": lambda data: preprocess.audio(data, rates_hz["audio"]),
        "depth": preprocess.depth,
        "thermal": preprocess.thermal,
        "imu": lambda data: preprocess.imu(data, rates_hz["imu"]),
    }
    tolerances = {"vision": 0.12, "audio": 0.01, "depth": 0.03, "thermal": 0.01, "imu": 2e-3}  # vision: JPEG twice
    for modality, prepared in made.items():
        rows = loaded.having(modality)
        assert len(rows) == report.pairs.get(modality, 12)
        for row in rows:
            [window] = [w for w in ticks[row].windows.values() if w.modality == modality]
            assert window.data is not None
            error = (loaded.batch(modality, [row]) - prepared(window.data[None])).abs().mean()
            assert error < tolerances[modality], modality
    for modality, pairs in report.pairs.items():
        rows, groups = PairSampler(loaded, modality).draw(64, np.random.default_rng(0))
        assert groups == [("any", "")] * pairs
        assert sorted(rows) == loaded.having(modality).tolist()  # no pair twice in a batch
    with pytest.raises(DatasetError, match="no pair of an image and text"):
        PairSampler(loaded, "text")


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
    seconds: list[tuple[float, float | None]] = []
    report = export_shards(
        log, tmp_path / "shards", every_s=1.0, progress=lambda _, done, of: seconds.append((done, of))
    )
    assert report.examples == 12
    missing = {"audio: too short": 1, "imu: too short": 5, "audio: gap": 1 + 2, "depth: not of the same moment": 1}
    assert report.lacking == missing
    assert [round(done) for done, _ in seconds] == list(range(1, 13))
    assert {of and round(of) for _, of in seconds} == {12}
    with pytest.raises(LogError, match="shards: exists already"):
        export_shards(log, tmp_path / "shards", every_s=1.0)
    monkeypatch.setattr(shards, "EXAMPLES_PER_SHARD", 5)
    export_log(log, tmp_path / "again", "shards", every_s=1.0)
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("again: 12 examples in 3 shards; images with depth 11, thermal 12, audio 8, imu 7")
    assert "without: 3 audio: gap" in said
    assert [e.key for e in read(tmp_path / "again")] == [e.key for e in read(tmp_path / "shards")]


def test_a_robot_with_few_sensors_gives_examples_of_what_it_has(world: tuple[Config, Handed], tmp_path: Path) -> None:
    config, handed = world
    log = recorded(tmp_path / "run.mcap", handed, run_of(config))
    report = export_shards(log, tmp_path / "shards", ["camera", "microphone"])
    assert (report.pairs, report.left_out) == ({"audio": 5}, {"audio: gap": 1})
    example = next(read(tmp_path / "shards"))
    assert example.audio is not None
    assert example.depth_m is example.temperature_c is example.imu is None
    loaded = load(tmp_path / "shards", ["vision", "audio", "imu"])
    assert (len(loaded), len(loaded.having("audio")), len(loaded.having("imu"))) == (5, 5, 0)
    with pytest.raises(DatasetError, match="hold no usable example"):
        load(tmp_path / "shards", ["imu"])


def test_shards_need_a_camera_and_no_two_sensors_of_a_modality(world: tuple[Config, Handed], tmp_path: Path) -> None:
    config, handed = world
    log = recorded(tmp_path / "run.mcap", handed[:40], run_of(config))
    for sensors in (["camera"], ["depth", "imu"]):
        with pytest.raises(LogError, match="an image and something else of one moment; found " + ", ".join(sensors)):
            export_shards(log, tmp_path / "shards", sensors)
    mute = recorded(tmp_path / "mute.mcap", [], replace(run_of(config), sensors={}))
    with pytest.raises(LogError, match="something else of one moment; found no sensor"):
        export_shards(mute, tmp_path / "shards")
    with pytest.raises(LogError, match=r"holds no moment of an image and something else: .*; 2 s of sound"):
        export_shards(log, tmp_path / "shards", ["camera", "microphone"], every_s=0.25)
    second = {**config.tree, "sensors": {**config.tree["sensors"], "rear": config.tree["sensors"]["camera"]}}
    run = replace(run_of(config), config=second)
    run = replace(run, sensors={**run.sensors, "rear": run.sensors["camera"]})
    log = recorded(tmp_path / "two.mcap", handed[:40], run)
    with pytest.raises(LogError, match=r"2 vision sensors \(camera, rear\).*--sensors camera,microphone,depth"):
        export_shards(log, tmp_path / "shards")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mute.mcap", "run.mcap", "two.mcap"]
