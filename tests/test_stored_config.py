"""What of a log's own configuration counts for whoever replays it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded_run import CONFIG, facts, one_of_each, recorded

from agent.backtest.scoring import config_for
from agent.commands.replay import open_replay
from agent.config.faults import ConfigError
from agent.config.parse import parse, synthetic
from agent.config.settings import ClipSettings, RecordingSettings, ServerSettings
from agent.exchange.shards import export_shards
from agent.lab.golden import said_now
from agent.log.format import LogError
from agent.log.stored_config import replayed, stored_config
from agent.log.timeline import Timeline

GOLDEN = Path(__file__).parent / "data" / "golden" / "log.mcap"


def log(path: Path, **config: Any) -> Path:
    handed = [sample for sample in one_of_each(0) if sample[0] == "imu"]
    stored = {**CONFIG, **config}
    return recorded(path, handed, replace(facts(), config=stored))


def test_a_log_does_not_open_the_network_or_write_files(tmp_path: Path) -> None:
    path = log(
        tmp_path / "hostile.mcap",
        server={"listen": "0.0.0.0:28777", "insecure": True},
        record={"folder": str(tmp_path / "records")},
        clips={"folder": str(tmp_path / "clips"), "memory_mb": 16_000},
        queries=[{"text": "a dog", "clip": True}],
    )
    pipeline = open_replay([path], serve=True, paused=True, speed="1")
    try:
        assert pipeline.config.server == ServerSettings()  # by which `replay --serve` listens
        assert pipeline.config.record_folder is None
        assert pipeline.config.clips == ClipSettings()
        assert pipeline.config.record.split_bytes == RecordingSettings().split_mb
        assert not pipeline.config.queries[0].clip
    finally:
        pipeline.stop()
    some = open_replay([path], sensors="camera")
    some.stop()
    assert some.config.server == ServerSettings()
    assert config_for(Timeline([path]), None).server == ServerSettings()
    assert {p.name for p in tmp_path.iterdir()} == {"hostile.mcap"}


def test_what_the_user_gives_counts_whole(tmp_path: Path) -> None:
    given = parse({**CONFIG, "server": {"listen": "127.0.0.1:28777"}})
    pipeline = open_replay([log(tmp_path / "run.mcap")], given, serve=True)
    pipeline.stop()
    assert pipeline.config.server.listen == "127.0.0.1:28777"


@pytest.mark.parametrize("weights", ["/etc/passwd", "../x.safetensors", "x.safetensors", "~/x", "", "imagebind_nanno"])
def test_a_file_that_a_log_names_as_weights_is_not_opened(tmp_path: Path, weights: str) -> None:
    path = log(tmp_path / "run.mcap", model={"weights": weights})
    asked = r"asks for the weights '.*', which `sensebind weights list` does not show; .*: give a --config"
    for use in (lambda: open_replay([path]), lambda: config_for(Timeline([path]), None), lambda: said_now(path)):
        with pytest.raises(ConfigError, match=asked) as raised:
            use()
        assert str(raised.value).isprintable()
    with pytest.raises(LogError, match="an example is an image"):  # no model is needed for what does not perceive
        export_shards(path, tmp_path / "out", ["imu"])


def test_no_driver_and_nothing_that_its_options_name_is_looked_at(tmp_path: Path) -> None:
    sensors = {
        "camera": {
            "type": "camera",
            "source": "/etc/passwd",
            "password": "x",
            "rate_hz": 12.5,
            "width": 64,
            "height": 48,
        },
        "imu": {"type": "imu_csv", "port": "/dev/zero", "columns": "ax"},
        "microphone": {
            "type": "microphone",
            "device": "x",
            "block_ms": 20.0,
            "channels": 2,
            "sample_rate": "no option",
        },
    }
    path = log(
        tmp_path / "run.mcap",
        sensors=sensors,
        no_such_section=1,
        model={"no_such_key": 1, "device": "cpu", "compile": True},
    )
    config = stored_config(Timeline([path]))
    assert config.streams["camera"].rate_hz == 12.5
    assert config.streams["camera"].sample_bytes == 64 * 48 * 3
    assert config.streams["microphone"].samples_hz == 50
    assert (config.model.device, config.model.compile) == ("cpu", False)
    stored = str(config.tree)
    assert all(word not in stored for word in ("passwd", "password", "/dev/zero", "no_such"))


def test_windows_and_alerts_are_those_of_the_run() -> None:
    timeline = Timeline([GOLDEN])
    whole, stored = parse(timeline.facts.config), stored_config(timeline)
    assert stored.streams == whole.streams
    assert (stored.hop_ns, stored.alerts) == (whole.hop_ns, whole.alerts)
    assert whole.queries
    assert not any(query.force for query in whole.queries)
    assert stored.queries == tuple(replace(query, force=True) for query in whole.queries)
    assert (stored.camera, stored.microphone, stored.background_prompts) == (
        whole.camera,
        whole.microphone,
        whole.background_prompts,
    )
    for name, sensor in whole.sensors.items():
        assert stored.sensors[name].hfov_deg == sensor.hfov_deg
        assert stored.sensors[name].mic_positions_m == sensor.mic_positions_m
    live = synthetic(seed=3)
    assert parse(replayed(live.tree), devices=False).streams == live.streams


@pytest.mark.parametrize("tree", [{"model": [1]}, {"queries": {"a": 1}}, {"sensors": {"a": {}}}, {"windows": 3}])
def test_a_tree_that_is_none_is_refused_in_one_line(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(replayed({**CONFIG, **tree}), "run.mcap", devices=False)
    assert str(raised.value).startswith("run.mcap: ")
    assert str(raised.value).isprintable()
