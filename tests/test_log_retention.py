from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config.recording import Retention
from agent.log.disk import NewFile
from agent.log.recording import retention
from agent.log.recording.retention import Removed

NOW_NS = 1_700_000_000_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Logs of 1000 bytes that were last written to 0, 10, 20, 30 and 40 s ago, and things that are none."""
    for age_s, name in ((0, "new"), (10, "b"), (20, "c.keep"), (30, "a"), (40, "old")):
        write(tmp_path / f"{name}.mcap", age_s)
    write(tmp_path / "notes.txt", 1000)
    (tmp_path / "sub.mcap").mkdir()
    write(tmp_path / "sub.mcap" / "deep.mcap", 1000)
    return tmp_path


def write(path: Path, age_s: int) -> None:
    path.write_bytes(bytes(1000))
    os.utime(path, ns=(0, NOW_NS - age_s * 10**9))


def logs(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.mcap") if path.is_file()}


def test_without_rules_nothing_goes(folder: Path) -> None:
    assert retention.apply(folder, Retention(), NOW_NS) == ([], 0)
    assert len(logs(folder)) == 5


@pytest.mark.parametrize(
    ("max_bytes", "left"),
    [
        (5000, {"new", "b", "c.keep", "a", "old"}),
        (4999, {"new", "b", "c.keep", "a"}),
        (3000, {"new", "b", "c.keep"}),
        (2000, {"new", "c.keep"}),
        (0, {"c.keep"}),
    ],
)
def test_the_oldest_goes_until_the_rest_fits(folder: Path, max_bytes: int, left: set[str]) -> None:
    removed, size = retention.apply(folder, Retention(max_bytes=max_bytes), NOW_NS)
    assert logs(folder) == left
    assert size == 1000 * len(left), "what is kept counts as well"
    assert len(removed) == 5 - len(left)
    assert (folder / "notes.txt").exists()
    assert (folder / "sub.mcap" / "deep.mcap").exists()


def test_what_is_too_old_goes(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        removed, size = retention.apply(folder, Retention(max_age_s=15), NOW_NS)
    assert logs(folder) == {"new", "b", "c.keep"}
    assert size == 3000
    assert removed == [
        Removed(folder / "old.mcap", 1000, "it is 40 s old, more than 15"),
        Removed(folder / "a.mcap", 1000, "it is 30 s old, more than 15"),
    ]
    assert caplog.messages[0] == f"{folder}/old.mcap: removed: it is 40 s old, more than 15"


def test_what_is_being_written_stays(folder: Path) -> None:
    mine = NewFile(folder / "mine.mcap")
    # Another process that records into the same folder.
    code = "import sys; from pathlib import Path; from agent.log.disk import NewFile; f = NewFile(Path(sys.argv[1]))"
    code += "; print('ready', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(folder / "theirs.mcap")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        retention.apply(folder, Retention(max_age_s=0), NOW_NS + 10**20)
        assert logs(folder) == {"mine", "theirs", "c.keep"}
        process.stdin.close()
    assert mine.close(30)
    retention.apply(folder, Retention(max_age_s=0), NOW_NS + 10**20)
    assert logs(folder) == {"c.keep"}


def test_a_folder_that_cannot_be_looked_at_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert retention.apply(tmp_path / "gone", Retention(max_bytes=1), NOW_NS) == ([], 0)
    assert "gone: cannot be listed" in caplog.text
