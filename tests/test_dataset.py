"""Shards give back what was written into them, and say clearly what is wrong with a damaged one."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from models.datasets.dataset import (
    About,
    Classes,
    DatasetError,
    Example,
    Seen,
    count,
    decode,
    encode,
    read,
    read_index,
    write_index,
    write_shard,
)

HEIGHT, WIDTH = 24, 32


def example(number: int) -> Example:
    """A smooth picture (which JPEG keeps), a depth ramp with a hole, a warm spot, a tone, gravity."""
    rng = np.random.default_rng(number)
    ramp = np.linspace(0, 200, WIDTH, dtype=np.float32)[None, :, None] + np.zeros((HEIGHT, 1, 3), np.float32)
    frames = np.stack([ramp + shift for shift in rng.integers(0, 50, 2)]).astype(np.uint8)
    depth_m = np.linspace(0.5, 9.0, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    depth_m[3, 4] = 0.0
    temperature_c = np.full((HEIGHT, WIDTH), 21.5, np.float32)
    temperature_c[5, 6] = 250.0
    temperature_c[0, 0] = -15.25
    imu = rng.normal(0, 1, (100, 6)).astype(np.float32)
    imu[:, 2] += 9.81
    about = About(
        seen={"dog": Seen(boxes=((1.0, 2.0, 10.5, 20.0),), captions=("a dog", "a photo of a dog"))},
        scene=("two things",),
        movement=("the robot is turning left",),
        heard="dog" if number % 2 else "",
        shown=True,
        motion="turning left",
    )
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(3200) / 16000)).astype(np.float32)
    return Example(f"{number:06d}", frames, tone, depth_m, temperature_c, imu, about)


def test_examples_round_trip_through_shards(tmp_path: Path) -> None:
    written = [example(i) for i in range(5)]
    assert write_shard(tmp_path / "000000.tar", written[:3]) == 3
    assert write_shard(tmp_path / "000001.tar", written[3:]) == 2
    found = list(read(tmp_path))
    assert [e.key for e in found] == [e.key for e in written]
    for before, after in zip(written, found, strict=True):
        assert after.about == before.about
        assert after.audio_rate_hz == 16000
        assert np.abs(after.frames.astype(int) - before.frames).max() <= 4
        np.testing.assert_allclose(after.depth_m, before.depth_m, atol=0.0006)
        assert after.depth_m[3, 4] == 0.0
        np.testing.assert_allclose(after.temperature_c, before.temperature_c, atol=0.006)
        np.testing.assert_allclose(after.audio, before.audio, atol=1 / 32768)
        np.testing.assert_allclose(after.imu, before.imu, atol=0.008)


def test_left_and_right_and_red_and_blue_stay_where_they_are() -> None:
    picture = np.zeros((2, 48, 64, 3), np.uint8)
    picture[:, :, :32, 0] = 200  # red on the left
    picture[:, :, 32:, 2] = 200  # blue on the right
    original = example(0)
    changed = Example("x", picture, original.audio, original.depth_m, original.temperature_c, original.imu, About())
    frames = decode(encode(changed)).frames.astype(int)
    assert frames[0, 10, 5, 0] > 180
    assert frames[0, 10, 5, 2] < 20
    assert frames[1, 40, 60, 2] > 180
    assert frames[1, 40, 60, 0] < 20


def test_equal_examples_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_shard(tmp_path / name, [example(i) for i in range(2)])
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_failed_writer_leaves_no_shard(tmp_path: Path) -> None:
    def broken() -> object:
        yield example(0)
        raise RuntimeError("scene ended")

    with pytest.raises(RuntimeError, match="scene ended"):
        write_shard(tmp_path / "000000.tar", broken())  # type: ignore[arg-type]
    assert list(tmp_path.glob("*.tar")) == []


def test_a_damaged_member_is_named() -> None:
    members = encode(example(7))
    members["depth.png"] = members["depth.png"][:20]
    with pytest.raises(DatasetError, match=r"000007 .*depth\.png"):
        decode(members)
    del members["about.json"]
    members["depth.png"] = encode(example(7))["depth.png"]
    with pytest.raises(DatasetError, match=r"000007 .*about\.json"):
        decode(members)


def test_no_shards_and_a_truncated_shard_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="sensebind simulate"):
        list(read(tmp_path))
    write_shard(tmp_path / "000000.tar", [example(i) for i in range(2)])
    whole = (tmp_path / "000000.tar").read_bytes()
    (tmp_path / "000000.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"000000\.tar"):
        list(read(tmp_path))


def test_without_webdataset_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path / "000000.tar", [example(1)])
    monkeypatch.setitem(sys.modules, "webdataset", None)
    for use in (lambda: list(read(tmp_path)), lambda: write_shard(tmp_path / "000001.tar", [example(2)])):
        with pytest.raises(
            DatasetError, match=r"^shards .* webdataset: .*; install it: pip install 'sensebind\[train\]'$"
        ):
            use()
    assert [file.name for file in tmp_path.iterdir()] == ["000000.tar"]


def test_classes_round_trip_and_their_absence_is_reported(tmp_path: Path) -> None:
    classes = Classes(
        seen={"dog": ("a dog", "a photo of a dog")},
        heard={"dog": ("a dog barking",)},
        motions={"standing": ("the robot is standing still",)},
        absent_seen=("an empty room",),
        absent_heard=("a quiet place",),
    )
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        read_index(tmp_path)
    write_index(tmp_path, classes)
    assert read_index(tmp_path) == classes


def test_a_shard_that_is_cut_off_anywhere_is_damaged(tmp_path: Path) -> None:
    """In front of a header too, where readers of tars see the end."""
    path = tmp_path / "000000.tar"
    write_shard(path, [example(i) for i in range(3)])
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        headers = [member.offset for member in tar.getmembers()]
        end = tar.offset
    for at in [*headers[1:], headers[2] + 100, end, end + 512, end + 1023]:
        path.write_bytes(whole[:at])
        for attempt in (lambda: list(read(tmp_path)), lambda: count(tmp_path)):
            with pytest.raises(DatasetError, match=r"000000\.tar: damaged"):
                attempt()
    path.write_bytes(whole[: end + 1024])
    assert (len(list(read(tmp_path))), count(tmp_path)) == (3, 3)
