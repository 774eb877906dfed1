"""Picture and sound of a moment, out of a log whose samples are known."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from recorded_run import START_NS, facts, recorded

from agent.backtest.page.moments import MOST_SIDE, Moment, Picture, moment
from agent.config.parse import parse
from agent.log.format import LoggedSensor
from agent.log.timeline import Timeline
from drivers.driver import Sample
from drivers.image_file import read_jpeg

S = 1_000_000_000
CONFIG = parse(
    {"sensors": {"eye": {"type": "synthetic_camera"}, "ear": {"type": "synthetic_microphone"}}},
)


def picture(width: int, height: int, level: int = 128) -> NDArray[np.uint8]:
    """Grey with a bright disc of a third of the shorter side in the middle."""
    y, x = np.mgrid[0:height, 0:width]
    disc = np.hypot(x - width / 2, y - height / 2) < min(width, height) / 6
    return np.repeat(np.where(disc, 255, level).astype(np.uint8)[..., None], 3, axis=2)


def looked_up(path: Path, handed: list[tuple[str, Sample]], t_ns: int, rate_hz: float = 8000.0) -> Moment:
    sensors = {"eye": LoggedSensor("vision", 1.0), "ear": LoggedSensor("audio", rate_hz)}
    recorded(path / "run.mcap", handed, facts(sensors))
    return moment(Timeline([path / "run.mcap"]), CONFIG, t_ns)


def pixels(found: Picture | None) -> NDArray[np.uint8]:
    assert found is not None
    decoded = read_jpeg(found.jpeg)
    assert decoded.shape == (found.height, found.width, 3)
    return decoded


@pytest.mark.parametrize(
    ("width", "height", "shown"),
    [(1280, 720, (640, 360)), (1000, 300, (640, 192)), (300, 1000, (192, 640)), (320, 240, (320, 240))],
)
def test_a_picture_keeps_the_ratio_of_its_sides(
    width: int, height: int, shown: tuple[int, int], tmp_path: Path
) -> None:
    at = looked_up(tmp_path, [("eye", Sample(START_NS, picture(width, height)))], START_NS)
    found = pixels(at.picture)
    assert (found.shape[1], found.shape[0]) == shown
    assert max(shown) <= MOST_SIDE
    rows, columns = np.nonzero(found[..., 1] > 190)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=2), "the disc is round"
    assert np.ptp(rows) == pytest.approx(min(shown) / 3, abs=3)


def test_the_picture_is_the_newest_by_then(tmp_path: Path) -> None:
    handed = [("eye", Sample(START_NS + n * S, picture(64, 48, 20 * n))) for n in range(8)]
    at = looked_up(tmp_path, handed, START_NS + 5 * S + S // 2)
    assert at.picture is not None
    assert at.picture.t_ns == START_NS + 5 * S
    assert pixels(at.picture)[2, 2].mean() == pytest.approx(100, abs=4)


def test_a_picture_of_long_before_is_not_shown(tmp_path: Path) -> None:
    assert looked_up(tmp_path, [("eye", Sample(START_NS, picture(64, 48)))], START_NS + 6 * S).picture is None


def tone(begin_s: float, seconds: float, rate_hz: float = 8000.0) -> tuple[str, Sample]:
    rows = np.arange(round(seconds * rate_hz))
    wave = 0.5 * np.sin(2 * np.pi * 440 * (begin_s + rows / rate_hz))
    stereo = np.stack([wave, np.zeros_like(wave)], axis=1).astype(np.float32)
    return "ear", Sample(START_NS + round(begin_s * S), stereo, rate_hz)


def test_the_sound_is_the_first_channel_around_the_moment_without_loss(tmp_path: Path) -> None:
    """Six seconds of it; what is missing is silence."""
    at = looked_up(tmp_path, [tone(n / 2, 0.5) for n in range(20) if n != 9], START_NS + 6 * S)
    assert at.sound is not None
    assert at.sound.startswith(b"fLaC")
    pcm, rate_hz = soundfile.read(io.BytesIO(at.sound), dtype="int16")
    assert (rate_hz, pcm.shape) == (8000, (48_000,))
    seconds = 2 + np.arange(48_000) / 8000
    wanted = 0.5 * np.sin(2 * np.pi * 440 * seconds) * 32767
    wanted[(seconds >= 4.5) & (seconds < 5)] = 0
    assert np.abs(pcm - wanted).max() <= 2
    assert len(at.sound) < 0.9 * 2 * len(pcm)


def test_sound_at_a_rate_that_flac_does_not_have_is_left_out(tmp_path: Path) -> None:
    rate_hz = 700_000.0
    assert looked_up(tmp_path, [tone(0, 0.1, rate_hz)], START_NS, rate_hz) == Moment(None, None)
