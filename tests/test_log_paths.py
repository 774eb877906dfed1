"""Names and links that lead out of a folder that is imported, and out of one that is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zstandard

from agent.commands.exchange import import_log
from agent.exchange.inside import entry
from agent.log.format import LogError
from benchmarks.faults.row32_paths import SECRET
from benchmarks.faults.row32_paths import run as every_name


def test_nothing_outside_of_a_folder_is_read_or_written() -> None:
    measured = every_name()
    assert measured.met, measured.found


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("../outside.csv", "is not in the folder; give a name in it"),
        ("sub/../../outside.csv", "is not in the folder"),
        ("/etc/passwd", "is not in the folder"),
        ("", "is not in the folder"),
        ("a\0b", "is not in the folder"),
        ("link.csv", "is a link, or behind one, and links are not followed; copy it here"),
        ("links/outside.csv", "is a link, or behind one"),
        ("pipe", "is neither a file nor a folder"),
        ("x" * 300, "cannot be inspected: File name too long"),
    ],
)
def test_an_entry_that_is_not_in_the_folder_is_named(tmp_path: Path, name: str, wrong: str) -> None:
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside.csv").write_text(SECRET)
    (folder / "link.csv").symlink_to("../outside.csv")
    (folder / "links").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    with pytest.raises(LogError) as raised:
        entry(folder, name)
    assert wrong in str(raised.value)
    assert repr(name)[:40] in str(raised.value)
    assert str(raised.value).isprintable()


def test_what_is_in_the_folder_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "imu.csv").write_text(SECRET)
    assert entry(folder, "sub/imu.csv") == folder / "sub" / "imu.csv"
    assert entry(folder, "./sub") == folder / "sub"
    assert entry(folder, ".") == folder
    assert entry(folder, "nothing.csv") is None
    assert entry(folder, "sub/imu.csv/deeper") is None
    given = tmp_path / "given"
    given.symlink_to(folder)
    assert entry(given, "sub/imu.csv") == given / "sub" / "imu.csv", "a link that the user gives is followed"


def test_a_link_among_files_that_nobody_named_is_passed_over_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "imu.csv").write_text(SECRET)
    (folder / "other.csv").symlink_to("imu.csv")
    import_log(folder, tmp_path / "out.mcap")
    said = capsys.readouterr().out
    assert "imu: 200 rows" in said
    assert "skipped: other.csv: a link or a device; only files are read" in said
    assert "other: " not in said


def test_a_bag_that_unpacks_to_far_more_than_it_is_is_not_unpacked(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    bag.mkdir()
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 5, compression_mode: file}\n")
    (bag / "bag_0.db3.zstd").write_bytes(zstandard.ZstdCompressor().compress(bytes(2**26)))
    with pytest.raises(LogError, match=r"bag_0\.db3\.zstd: is more than 256 times as long once unpacked"):
        import_log(bag, tmp_path / "out.mcap")
    (bag / "bag_0.db3.zstd").write_bytes(b"no zstd")
    with pytest.raises(LogError, match=r"bag_0\.db3\.zstd: cannot be unpacked: "):
        import_log(bag, tmp_path / "out.mcap")
    assert {path.name for path in tmp_path.iterdir()} == {"bag"}
