"""What holds what sensors saw is for its owner alone, from the moment at which it exists, whatever the umask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from file_modes import others_may
from recorded_run import facts, recorded, samples

from agent.commands.exchange import export_log, import_log
from agent.log.editing.cutting import cut
from agent.log.editing.merging import merge
from agent.log.editing.repair import repair
from agent.log.whole_file import whole_file


@pytest.fixture(autouse=True)
def _open_to_all() -> Iterator[None]:
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_logs_of_logs_and_folders_are_private(tmp_path: Path) -> None:
    log = tmp_path / "run.mcap"
    recorded(log, samples(30), facts())
    handed = [item for item in samples(30) if item[0] in ("camera", "depth")]
    config = {
        "sensors": {
            n: {"type": "remote", "modality": m, "rate_hz": 10} for n, m in (("camera", "vision"), ("depth", "depth"))
        }
    }
    whole = recorded(tmp_path / "whole.mcap", handed, replace(facts(), config=config))
    os.chmod(log, 0o644)
    one, other = tmp_path / "one.mcap", tmp_path / "other.mcap"
    cut([log], one, sensors=["camera", "imu"])
    cut([log], other, sensors=["depth"])
    merge([one], [other], tmp_path / "merged.mcap")
    repair(log, tmp_path / "repaired.mcap")
    export_log(log, tmp_path / "media")
    export_log(whole, tmp_path / "shards", "shards", ["camera", "depth"], 0.5)
    import_log(tmp_path / "media", tmp_path / "imported.mcap")
    made = [path for path in tmp_path.iterdir() if path not in (log, whole)]
    assert len(made) == 7
    assert [others_may(path) for path in made] == [{}] * 7
    kinds = {path.suffix for path in (tmp_path / "media").rglob("*")}
    assert kinds == {".mp4", ".wav", ".csv", ".png", ".jsonl", ".yaml", ""}
    assert next((tmp_path / "shards").glob("*.tar")).stat().st_mode & 0o777 == 0o600


def test_what_is_still_being_written_is_private(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with suppress(ZeroDivisionError), whole_file(path) as write:
        write(b"half")
        (unfinished,) = tmp_path.iterdir()
        assert others_may(unfinished) == {}
        1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir())
