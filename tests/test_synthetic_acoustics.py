"""Propagation and background noise: delays, gains, reflections, coherence, and the same bytes however it is cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from common.physics import SPEED_OF_SOUND_MPS
from world.acoustics import KEY_STEP, BackgroundNoise, Walls, key_points, propagate
from world.sounds import synthesise

RATE_HZ = 16000.0
SQUARE_M = 0.0323 * np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])


def still(position_m: list[float], mics_m: NDArray[np.float64], first: int, n: int) -> tuple[NDArray[np.float64], ...]:
    keys = len(key_points(first, n))
    return np.tile(np.array(position_m), (keys, 1)), np.tile(mics_m, (keys, 1, 1))


@pytest.mark.parametrize("frequency_hz", [200.0, 1000.0, 3000.0, 6000.0])
def test_delay_and_gain_of_a_sine_are_exact(frequency_hz: float) -> None:
    n, mics_m = 8000, SQUARE_M
    t_s = np.arange(n) / RATE_HZ
    source = np.sin(2 * np.pi * frequency_hz * t_s).astype(np.float32)
    position_m = [2.0, 1.3, 0.4]
    heard = propagate(source, 0, *still(position_m, mics_m, 0, n), 0, n, rate_hz=RATE_HZ)
    for mic, at_m in enumerate(mics_m):
        distance_m = float(np.linalg.norm(np.array(position_m) - at_m))
        expected = np.sin(2 * np.pi * frequency_hz * (t_s - distance_m / SPEED_OF_SOUND_MPS)) / distance_m
        error = heard[500:-500, mic] - expected[500:-500]
        assert np.sqrt(np.mean(error**2)) < 2e-3 * expected.std()  # 2e-3 rad at 6 kHz is 0.001 samples


def test_the_same_bytes_however_it_is_cut() -> None:
    rng = np.random.default_rng(0)
    source = synthesise("dog", rng, 1.5)
    noise = BackgroundNoise(3, SQUARE_M, 0.01)
    walls = Walls((-4.0, 5.0), (-3.0, 3.0), ground_z_m=-0.3)

    def chunk(first: int, n: int) -> NDArray[np.float32]:
        t_s = key_points(first, n) / RATE_HZ
        turn = 0.7 * t_s
        position_m = np.stack([2.0 + np.sin(t_s), 1.5 * np.cos(t_s), 0.0 * t_s], axis=1)
        rotation = np.zeros((len(t_s), 3, 3))
        rotation[:, 0, 0] = rotation[:, 1, 1] = np.cos(turn)
        rotation[:, 1, 0], rotation[:, 0, 1], rotation[:, 2, 2] = np.sin(turn), -np.sin(turn), 1.0
        mics_m = np.einsum("kij,mj->kmi", rotation, SQUARE_M)
        return propagate(source, 5000, position_m, mics_m, first, n, walls=walls) + noise.read(first, n)

    whole = chunk(0, 40000)
    assert np.abs(whole[6000:]).max() > 0.05
    cuts = np.concatenate([[0], np.sort(rng.choice(np.arange(1, 40000), 25, replace=False)), [40000]])
    parts = [chunk(int(a), int(b - a)) for a, b in pairwise(cuts)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_a_source_is_silent_outside_its_sound() -> None:
    source = np.ones(800, dtype=np.float32)
    distance_m = 3.43  # 160 samples
    heard = propagate(source, 1000, *still([distance_m, 0, 0], np.zeros((1, 3)), 0, 4000), 0, 4000)[:, 0]
    assert not heard[: 1000 + 160 - 8].any()
    assert not heard[1800 + 160 + 8 :].any()
    np.testing.assert_allclose(heard[1200:1900], 1 / distance_m, rtol=2e-3)
    far_off = propagate(source, 10**9, *still([1.0, 0, 0], np.zeros((1, 3)), 0, 4000), 0, 4000)
    assert not far_off.any()


def test_an_approaching_source_is_heard_higher() -> None:
    n, speed_mps = 16000, 10.0
    source = np.sin(2 * np.pi * 1000.0 * np.arange(n) / RATE_HZ).astype(np.float32)
    t_s = key_points(0, n) / RATE_HZ
    position_m = np.stack([20.0 - speed_mps * t_s, 0 * t_s, 0 * t_s], axis=1)
    heard = propagate(source, 0, position_m, np.zeros((len(t_s), 1, 3)), 0, n)[4000:12000, 0]
    peak_hz = np.abs(np.fft.rfft(heard * np.hanning(8000), 80000)).argmax() * RATE_HZ / 80000
    assert peak_hz == pytest.approx(1000.0 * (1.0 + speed_mps / SPEED_OF_SOUND_MPS), abs=1.0)


def test_reflections_arrive_where_the_mirrored_source_stands() -> None:
    click = np.zeros(64, dtype=np.float32)
    click[0] = 1.0
    walls = Walls((-3.5, 6.0), (-4.0, 2.0), ground_z_m=0.0, wall_reflection=0.5, ground_reflection=0.8)
    mic_m = np.array([[0.0, 0.0, 1.0]])
    heard = propagate(click, 0, *still([2.0, 0.0, 1.0], mic_m, 0, 2000), 0, 2000, walls=walls)[:, 0]
    mirrored_by_walls_m = (9.0, 10.0, np.hypot(2.0, 8.0), np.hypot(2.0, 4.0))
    arrivals = [(2.0, 1.0), (np.hypot(2.0, 2.0), 0.8), *((distance_m, 0.5) for distance_m in mirrored_by_walls_m)]
    for distance_m, amplitude in arrivals:
        at = round(distance_m / SPEED_OF_SOUND_MPS * RATE_HZ)
        assert heard[at - 12 : at + 13].sum() == pytest.approx(amplitude / distance_m, rel=0.1)


def test_wrong_number_of_key_points_is_named() -> None:
    source_m, mics_m = still([1.0, 0, 0], SQUARE_M, 0, 4000)
    with pytest.raises(ValueError, match="key points"):
        propagate(np.ones(10, np.float32), 0, source_m[1:], mics_m, 0, 4000)
    assert key_points(KEY_STEP - 1, 2).tolist() == [0, KEY_STEP, 2 * KEY_STEP]


def test_background_noise_has_the_coherence_of_a_diffuse_field() -> None:
    level, n = 0.02, 160000
    noise = BackgroundNoise(5, SQUARE_M, level, own_share=0.1).read(0, n)
    np.testing.assert_allclose(noise.std(axis=0), level, rtol=0.05)
    hops = noise[: n // 8000 * 8000].reshape(-1, 8000, 4).std(axis=(1, 2))
    assert hops.std() < 0.1 * hops.mean()  # stationary across the blocks
    spectra = np.fft.rfft(noise[: n // 1024 * 1024].reshape(-1, 1024, 4) * np.hanning(1024)[:, None], axis=1)
    cross = (spectra[..., 0] * spectra[..., 1].conj()).mean(0).real
    coherence = cross / np.sqrt((np.abs(spectra[..., 0]) ** 2).mean(0) * (np.abs(spectra[..., 1]) ** 2).mean(0))
    f_hz = np.fft.rfftfreq(1024, 1 / RATE_HZ)
    expected = 0.9 * np.sinc(2 * f_hz * 0.0646 / SPEED_OF_SOUND_MPS)
    inside = (f_hz > 150) & (f_hz < 7500)
    assert np.abs(coherence - expected)[inside].mean() < 0.08


def test_background_noise_differs_by_seed_and_refuses_the_past() -> None:
    one, other = (BackgroundNoise(seed, SQUARE_M, 0.01).read(0, 8000) for seed in (1, 2))
    assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 0.15
    with pytest.raises(ValueError, match="sample 0"):
        BackgroundNoise(1, SQUARE_M, 0.01).read(-1, 10)
