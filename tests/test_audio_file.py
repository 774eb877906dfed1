"""Audio files as microphones."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.clock import ManualClock
from drivers.audio_file import AudioFile, AudioFileOptions
from drivers.driver import BadOption, DeviceNotFound, EndOfStream, ReadTimeout

RATE_HZ = 8000


@pytest.fixture(scope="module")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of two channels: a ramp that tells the position, and its negative."""
    path = tmp_path_factory.mktemp("audio") / "ramp.wav"
    up = np.arange(RATE_HZ) / RATE_HZ
    soundfile.write(path, np.stack([up, -up], 1), RATE_HZ, subtype="FLOAT")
    return path


def options(path: Path, **more: object) -> AudioFileOptions:
    return AudioFileOptions(str(path), **{"channels": 2, "rate_hz": RATE_HZ, **more})  # type: ignore[arg-type]


def test_every_row_once_at_its_time(ramp: Path) -> None:
    clock = ManualClock(start_ns=5_000_000_000)
    with AudioFile(options(ramp, pace="fast", loop=False, block_ms=30.0, latency_ms=10.0), clock) as file:
        blocks = [file.read(0.1) for _ in range(34)]
        with pytest.raises(EndOfStream):
            file.read(0.1)
    rows = np.concatenate([b.data for b in blocks])
    assert rows.dtype == np.float32
    assert np.allclose(rows[:, 0], np.arange(RATE_HZ) / RATE_HZ)
    assert np.array_equal(rows[:, 1], -rows[:, 0])
    assert all(b.rate_hz == RATE_HZ for b in blocks)
    for block in blocks:
        assert (block.t_ns - 5_000_000_000) / 1e9 + 0.010 == pytest.approx(block.data[0, 0], abs=1e-6)


def test_a_loop_has_no_gap(ramp: Path) -> None:
    with AudioFile(options(ramp, pace="fast", block_ms=70.0), ManualClock()) as file:
        blocks = [file.read(0.1) for _ in range(50)]
    assert all(a.end_ns == pytest.approx(b.t_ns, abs=2) for a, b in itertools.pairwise(blocks))
    rows = np.concatenate([b.data for b in blocks])
    assert len(rows) > 2 * RATE_HZ
    assert np.allclose(rows[:, 0], (np.arange(len(rows)) % RATE_HZ) / RATE_HZ)


def test_a_block_is_due_when_its_last_row_is(ramp: Path) -> None:
    clock = ManualClock()
    with AudioFile(options(ramp, block_ms=100.0), clock) as file:
        assert file.read(0.2).t_ns == 0
        assert clock.now_ns() == 100_000_000
        with pytest.raises(ReadTimeout):
            file.read(0.06)
        assert file.read(0.06).t_ns == 100_000_000
        assert clock.now_ns() == 200_000_000


def test_joined_late_it_plays_what_sounds_by_then(ramp: Path) -> None:
    clock = ManualClock()
    clock.sleep_until(10_250_000_000)
    with AudioFile(options(ramp), clock) as file:
        block = file.read(1.0)
    assert block.t_ns == 10_250_000_000
    assert block.data[0, 0] == pytest.approx(0.25)


@pytest.mark.parametrize(("suffix", "subtype"), [("flac", "PCM_16"), ("ogg", "VORBIS")])
def test_other_formats(tmp_path: Path, suffix: str, subtype: str) -> None:
    path = tmp_path / f"tone.{suffix}"
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ)
    soundfile.write(path, tone, RATE_HZ, subtype=subtype)
    with AudioFile(options(path, channels=1, pace="fast", block_ms=500.0), ManualClock()) as file:
        rows = file.read(0.1).data
    spectrum = np.abs(np.fft.rfft(rows[:, 0]))
    assert np.argmax(spectrum) * RATE_HZ / len(rows) == pytest.approx(440, abs=2)
    assert np.sqrt((rows**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize(("option", "value", "has"), [("channels", 4, 2), ("rate_hz", 16_000, 8000)])
def test_another_form_than_stated_is_refused(ramp: Path, option: str, value: int, has: int) -> None:
    with pytest.raises(BadOption, match=f"{option} is {value}, wanted {has} as in"):
        AudioFile(options(ramp, **{option: value}), ManualClock()).connect()


def test_a_name_that_is_no_utf_8(ramp: Path, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    path.write_bytes(ramp.read_bytes())
    with AudioFile(options(path, pace="fast"), ManualClock()) as audio:
        assert len(audio.read(1.0).data)


def test_missing_unreadable_and_empty(tmp_path: Path) -> None:
    with pytest.raises(DeviceNotFound, match=r"none\.wav: no such file"):
        AudioFile(options(tmp_path / "none.wav"), ManualClock()).connect()
    (tmp_path / "text.wav").write_text("no audio here")
    with pytest.raises(BadOption, match=r"text\.wav: cannot be read as audio"):
        AudioFile(options(tmp_path / "text.wav"), ManualClock()).connect()
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 2)), RATE_HZ)
    with pytest.raises(BadOption, match=r"empty\.wav.*not empty"):
        AudioFile(options(tmp_path / "empty.wav"), ManualClock()).connect()
    with pytest.raises(BadOption, match="block_ms is 0"):
        AudioFile(options(tmp_path / "x.wav", block_ms=0.0), ManualClock())
