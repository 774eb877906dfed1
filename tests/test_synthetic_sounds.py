"""Synthetic sounds: level, variation, no gaps, and whether the kinds can be told apart."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from world.sounds import VOICES, synthesise

RATE_HZ = 16000
WINDOW = 2 * RATE_HZ


def mel_filters(count: int = 32, nfft: int = 512) -> NDArray[np.float64]:
    mel = 1127.0 * np.log1p(np.fft.rfftfreq(nfft, 1 / RATE_HZ) / 700.0)
    edges = np.linspace(1127.0 * np.log1p(50.0 / 700.0), mel[-1], count + 2)[:, None]
    rise = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rise, fall))


def log_mel_statistics(window: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean, spread and mean change of each log-mel band: what a 2 s window sounds like, without its timing."""
    frames = np.lib.stride_tricks.sliding_window_view(window, 400)[::160] * np.hanning(400)
    log_mel = np.log(np.abs(np.fft.rfft(frames, 512)) ** 2 @ mel_filters().T + 1e-5)
    return np.concatenate([log_mel.mean(0), log_mel.std(0), np.abs(np.diff(log_mel, axis=0)).mean(0)])


def labelled(seeds: range) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rows, labels = [], []
    for label, kind in enumerate(VOICES):
        for seed in seeds:
            sound = synthesise(kind, np.random.default_rng([seed, label]), 4.0)
            rows += [log_mel_statistics(sound[:WINDOW]), log_mel_statistics(sound[WINDOW:])]
            labels += [label, label]
    return np.array(rows), np.array(labels)


def test_nearest_centroid_tells_the_kinds_apart_on_fresh_individuals() -> None:
    seen, seen_label = labelled(range(8))
    fresh, fresh_label = labelled(range(100, 110))
    mean, spread = seen.mean(0), seen.std(0)
    centroids = np.stack([((seen[seen_label == k] - mean) / spread).mean(0) for k in range(len(VOICES))])
    guess = ((((fresh - mean) / spread)[:, None] - centroids) ** 2).sum(-1).argmin(1)
    assert (guess == fresh_label).mean() >= 0.95


@pytest.mark.parametrize("kind", VOICES)
def test_level_peak_and_no_silent_two_seconds(kind: str) -> None:
    for seed in range(4):
        sound = synthesise(kind, np.random.default_rng(seed), 8.0)
        assert sound.dtype == np.float32
        assert sound.shape == (8 * RATE_HZ,)
        assert np.isfinite(sound).all()
        assert 0.1 < np.abs(sound).max() < 1.0
        power = np.cumsum(np.concatenate([[0.0], sound.astype(np.float64) ** 2]))
        quietest = np.sqrt((power[WINDOW:] - power[:-WINDOW]).min() / WINDOW)
        assert quietest > 0.008  # at most 22 dB below the level while it sounds
        assert 0.015 < sound.std() <= 0.11


@pytest.mark.parametrize("kind", VOICES)
def test_same_generator_same_bytes_and_other_seed_another_individual(kind: str) -> None:
    first, again, other = (synthesise(kind, np.random.default_rng(seed), 3.0) for seed in (7, 7, 8))
    assert first.tobytes() == again.tobytes()
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.2


def modulation_peak_hz(sound: NDArray[np.float32], low_hz: float, high_hz: float) -> float:
    envelope = np.abs(sound).reshape(-1, 80).mean(1)
    spectrum = np.abs(np.fft.rfft(envelope - envelope.mean()))
    f_hz = np.fft.rfftfreq(len(envelope), 80 / RATE_HZ)
    inside = (f_hz >= low_hz) & (f_hz <= high_hz)
    return float(f_hz[inside][spectrum[inside].argmax()])


def test_physics_of_some_kinds() -> None:
    def centroid_hz(kind: str) -> float:
        power = np.abs(np.fft.rfft(synthesise(kind, np.random.default_rng(3), 4.0))) ** 2
        return float(power @ np.fft.rfftfreq(4 * RATE_HZ, 1 / RATE_HZ) / power.sum())

    assert centroid_hz("helicopter") < centroid_hz("sea_waves") < centroid_hz("rain")
    helicopter = synthesise("helicopter", np.random.default_rng(3), 4.0)
    assert 9.0 <= modulation_peak_hz(helicopter, 3.0, 60.0) <= 21.0
    clock = synthesise("clock", np.random.default_rng(3), 8.0)
    assert np.abs(clock).max() > 15.0 * clock.std()  # clicks in silence


@pytest.mark.parametrize(("kind", "duration_s", "complaint"), [("chair", 1.0, "chair"), ("dog", 0.0, "duration_s")])
def test_bad_request(kind: str, duration_s: float, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        synthesise(kind, np.random.default_rng(0), duration_s)


@pytest.mark.parametrize("kind", VOICES)
def test_short_sounds_and_other_rates(kind: str) -> None:
    assert synthesise(kind, np.random.default_rng(0), 0.05).shape == (800,)
    assert synthesise(kind, np.random.default_rng(0), 1.0, 48000).shape == (48000,)
