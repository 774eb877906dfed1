"""Direction finding on signals whose direction is known: our own propagation, and pyroomacoustics as another judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.perceiving.localization.doa import Direction, DirectionFinder
from world.acoustics import BackgroundNoise, Walls, key_points, propagate
from world.sounds import VOICES, synthesise

RATE_HZ = 16000
WINDOW = 2 * RATE_HZ
SQUARE_M = 0.0323 * np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])

Audio = NDArray[np.float32]


@pytest.fixture(scope="module")
def square() -> DirectionFinder:
    return DirectionFinder(SQUARE_M, RATE_HZ)


def off_deg(found: Direction | None, azimuth_deg: float) -> float:
    return 180.0 if found is None else abs((found.azimuth_deg - azimuth_deg + 180.0) % 360.0 - 180.0)


def at(azimuth_deg: float, elevation_deg: float = 0.0, distance_m: float = 2.0) -> NDArray[np.float64]:
    azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
    flat = np.cos(elevation)
    return distance_m * np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])


def white(seed: int, n: int = WINDOW + 2000) -> Audio:
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def heard(
    source: Audio, position_m: NDArray[np.float64], mics_m: NDArray[np.float64] = SQUARE_M, walls: Walls | None = None
) -> Audio:
    """A still source's window at the array: it has been sounding for 1000 samples when the window begins."""
    keys = len(key_points(1000, WINDOW))
    places = np.tile(position_m, (keys, 1)), np.tile(mics_m, (keys, 1, 1))
    return propagate(source, 0, *places, 1000, WINDOW, walls=walls)


def with_noise(signal: Audio, snr_db: float, seed: int) -> Audio:
    noise = np.random.default_rng([9, seed]).standard_normal(signal.shape)
    return (signal + signal.std() * 10 ** (-snr_db / 20) * noise).astype(np.float32)


def test_open_field_at_20_db(square: DirectionFinder) -> None:
    azimuths = np.random.default_rng(1).uniform(-180.0, 180.0, 24)
    found = [square.find(with_noise(heard(white(k), at(a)), 20, k)) for k, a in enumerate(azimuths)]
    errors = [off_deg(f, a) for f, a in zip(found, azimuths, strict=True)]
    assert np.median(errors) <= 0.3
    assert max(errors) <= 1.0
    assert all(f is not None and f.confidence > 0.8 and f.elevation_deg < 10 and not f.ambiguous for f in found)


@pytest.mark.parametrize("elevation_deg", [25.0, 50.0, 70.0])
def test_elevation(square: DirectionFinder, elevation_deg: float) -> None:
    for side in (elevation_deg, -elevation_deg):  # below looks like above to a horizontal array
        found = square.find(with_noise(heard(white(3), at(-100.0, side)), 20, 3))
        assert off_deg(found, -100.0) < 2.0
        assert found is not None
        assert found.elevation_deg == pytest.approx(elevation_deg, abs=4.0)


@pytest.mark.parametrize("kind", VOICES)
def test_every_kind_of_sound_among_diffuse_noise_and_reflections(square: DirectionFinder, kind: str) -> None:
    noise = BackgroundNoise(11, SQUARE_M, 1.0)
    walls = Walls((-5.0, 4.0), (-3.5, 4.5), ground_z_m=-0.4)
    for trial, azimuth_deg in enumerate((-150.0, -20.0, 64.0, 171.0)):
        source = synthesise(kind, np.random.default_rng(trial), 2.5)
        signal = heard(source, at(azimuth_deg), walls=walls)
        signal += noise.read(trial * WINDOW, WINDOW) * signal.std() * 10 ** (-10 / 20)
        assert off_deg(square.find(signal), azimuth_deg) < 5.0


def test_a_bark_in_a_quiet_window_decides(square: DirectionFinder) -> None:
    source = np.zeros(WINDOW + 2000, dtype=np.float32)
    source[20000:23200] = synthesise("dog", np.random.default_rng(2), 1.0)[6000:9200]
    signal = heard(source, at(75.0))
    signal += BackgroundNoise(4, SQUARE_M, 0.3 * float(signal.std())).read(0, WINDOW)
    found = square.find(signal)
    assert off_deg(found, 75.0) < 3.0
    assert found is not None
    assert found.confidence > 0.2


def test_the_louder_of_two_sources_is_found(square: DirectionFinder) -> None:
    signal = heard(white(1), at(40.0)) + 0.3 * heard(white(2), at(-120.0))
    assert off_deg(square.find(signal), 40.0) < 3.0


@pytest.mark.parametrize("apart_deg", [30.0, 60.0, 90.0])
def test_of_two_sources_one_is_given_rather_than_their_middle(square: DirectionFinder, apart_deg: float) -> None:
    walls = Walls((-3.0, 4.0), (-2.5, 3.5), ground_z_m=-0.8)
    for trial, azimuth_deg in enumerate((-140.0, -33.0, 12.0, 101.0)):
        one, other = (white(2 * trial + k) for k in range(2))
        signal = heard(one, at(azimuth_deg), walls=walls) + heard(other, at(azimuth_deg + apart_deg), walls=walls)
        found = square.find(with_noise(signal, 20, trial))
        assert min(off_deg(found, azimuth_deg), off_deg(found, azimuth_deg + apart_deg)) < 5.0
        assert found is not None
        alone = square.find(with_noise(heard(one, at(azimuth_deg), walls=walls), 20, trial))
        assert alone is not None
        assert found.confidence < (0.7 if apart_deg == 30.0 else 0.4) * alone.confidence


def test_noise_without_a_source_is_refused(square: DirectionFinder) -> None:
    diffuse = BackgroundNoise(6, SQUARE_M, 0.1, own_share=0.05)
    windows = [diffuse.read(k * 40000, WINDOW) for k in range(40)]
    windows += [np.random.default_rng(k).standard_normal((WINDOW, 4)).astype(np.float32) for k in range(40)]
    bursts = np.where(np.abs(np.arange(WINDOW) - 9000) < 1600, 1.0, 0.01)[:, None]  # 0.2 s of it, then near silence
    windows += [(diffuse.read(k * 40000, WINDOW) * bursts).astype(np.float32) for k in range(40)]
    refused = [square.find(window) is None for window in windows]
    assert np.mean(refused) >= 0.95


def test_no_direction_in_silence_or_in_copies_of_one_channel(square: DirectionFinder) -> None:
    assert square.find(np.zeros((WINDOW, 4), dtype=np.float32)) is None
    copies = np.repeat(white(1)[:, None], 4, axis=1)
    assert square.find(copies) is None
    assert square.find(with_noise(copies, 60, 1)) is None  # a cable that all channels share
    assert square.find(np.full((WINDOW, 4), [0.1, 0.2, 0.3, 0.4], dtype=np.float32)) is None  # offsets without sound


def test_confidence_falls_with_noise_and_spread_grows_with_wavelength(square: DirectionFinder) -> None:
    signal = heard(white(5), at(10.0))
    shares = [f.confidence for snr in (20, 10, 5, 0) if (f := square.find(with_noise(signal, snr, 5))) is not None]
    assert len(shares) == 4
    assert shares == sorted(shares, reverse=True)
    low = DirectionFinder(SQUARE_M, RATE_HZ, band_hz=(300, 1500)).find(signal)
    high = square.find(signal)
    assert low is not None
    assert high is not None
    assert low.spread_deg > high.spread_deg > 0.0


def test_one_dead_microphone_costs_confidence_not_direction(square: DirectionFinder) -> None:
    signal = with_noise(heard(white(8), at(-65.0)), 20, 8)
    whole = square.find(signal)
    signal[:, 2] = 0.0
    found = square.find(signal)
    assert off_deg(found, -65.0) < 3.0
    assert found is not None
    assert whole is not None
    assert found.confidence < whole.confidence


def test_level_does_not_matter_and_the_callers_array_is_left_alone(square: DirectionFinder) -> None:
    signal = np.asfortranarray(with_noise(heard(white(8), at(-65.0)), 20, 8) + np.float32(0.1))
    before = signal.tobytes()
    assert off_deg(square.find(signal), -65.0) < 1.0
    assert signal.tobytes() == before
    for scale in (1e-6, 1e4):
        assert off_deg(square.find((signal * scale).astype(np.float32)), -65.0) < 1.0


@pytest.mark.parametrize(
    ("azimuth_deg", "reported_deg"), [(30.0, 30.0), (-70.0, -70.0), (140.0, 40.0), (-100.0, -80.0)]
)
def test_two_microphones_answer_for_the_front_half(azimuth_deg: float, reported_deg: float) -> None:
    pair_m = np.array([[0.0, 0.06, 0.0], [0.0, -0.06, 0.0]])
    found = DirectionFinder(pair_m, RATE_HZ).find(with_noise(heard(white(1), at(azimuth_deg), pair_m), 20, 1))
    assert off_deg(found, reported_deg) < 3.0
    assert found is not None
    assert found.ambiguous
    assert found.elevation_deg == 0.0


def test_two_microphones_refuse_noise_and_a_line_ahead_answers_for_the_left() -> None:
    pair_m = np.array([[0.0, 0.06, 0.0], [0.0, -0.06, 0.0]])
    finder, diffuse = DirectionFinder(pair_m, RATE_HZ), BackgroundNoise(2, pair_m, 0.1, own_share=0.05)
    assert np.mean([finder.find(diffuse.read(k * 40000, WINDOW)) is None for k in range(40)]) >= 0.95
    ahead_m = pair_m[:, [1, 0, 2]]
    found = DirectionFinder(ahead_m, RATE_HZ).find(heard(white(1), at(-120.0), ahead_m))
    assert off_deg(found, 120.0) < 3.0


def test_two_microphones_find_a_source_below_the_noise_of_both() -> None:
    pair_m = np.array([[0.0, 0.1, 0.0], [0.0, -0.1, 0.0]])
    finder, errors = DirectionFinder(pair_m, RATE_HZ), []
    for k, azimuth_deg in enumerate(np.linspace(-75.0, 75.0, 16)):
        found = finder.find(with_noise(heard(white(k), at(azimuth_deg), pair_m), -7, k)[:16000])
        errors.append(min(off_deg(found, azimuth_deg), off_deg(found, 180.0 - azimuth_deg)))
    assert np.mean(np.array(errors) <= 5.0) >= 0.9


def test_a_vertical_square_tells_up_from_down_and_answers_for_the_front() -> None:
    upright_m = SQUARE_M[:, [2, 0, 1]]
    finder = DirectionFinder(upright_m, RATE_HZ)
    for azimuth_deg in (35.0, 145.0):
        found = finder.find(with_noise(heard(white(2), at(azimuth_deg, -30.0), upright_m), 20, 2))
        assert off_deg(found, 35.0) < 3.0
        assert found is not None
        assert found.elevation_deg == pytest.approx(-30.0, abs=4.0)
        assert found.ambiguous


def test_four_microphones_in_space_see_the_whole_sphere() -> None:
    solid_m = 0.03 * np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    finder = DirectionFinder(solid_m, RATE_HZ)
    for azimuth_deg, elevation_deg in ((20.0, -45.0), (160.0, 45.0), (-90.0, 0.0)):
        found = finder.find(with_noise(heard(white(2), at(azimuth_deg, elevation_deg), solid_m), 20, 2))
        assert off_deg(found, azimuth_deg) < 2.0
        assert found is not None
        assert found.elevation_deg == pytest.approx(elevation_deg, abs=4.0)
        assert not found.ambiguous


@pytest.mark.parametrize(
    ("audio", "complaint"),
    [
        (np.zeros((WINDOW, 3), dtype=np.float32), r"\[n, 4\]"),
        (np.zeros(WINDOW, dtype=np.float32), r"\[n, 4\]"),
        (np.zeros((1000, 4), dtype=np.float32), "too short"),
        (np.full((WINDOW, 4), np.nan, dtype=np.float32), "NaN"),
        (np.full((WINDOW, 4), np.inf, dtype=np.float32), "infinity"),
    ],
)
def test_bad_audio_is_named(square: DirectionFinder, audio: Audio, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        square.find(audio)


@pytest.mark.parametrize(
    ("mics_m", "options", "complaint"),
    [
        (SQUARE_M[:1], {}, "m >= 2"),
        (SQUARE_M[:, :2], {}, r"\[m, 3\]"),
        (np.zeros((4, 3)), {}, "one place"),
        (np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.1]]), {}, "vertical line"),
        (SQUARE_M, {"band_hz": (300.0, 9000.0)}, "band_hz"),
        (SQUARE_M, {"band_hz": (301.0, 302.0)}, "no frequency"),
    ],
)
def test_bad_array_is_named(mics_m: NDArray[np.float64], options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        DirectionFinder(mics_m, RATE_HZ, **options)


@pytest.mark.parametrize(("rt60_s", "share", "within_deg"), [(0.0, 0.5, 1.0), (0.3, 0.9, 5.0)])
def test_rooms_of_another_simulator(square: DirectionFinder, rt60_s: float, share: float, within_deg: float) -> None:
    pra = pytest.importorskip("pyroomacoustics")
    rng, errors, size_m = np.random.default_rng(7), [], [6.0, 5.0, 3.0]
    absorption, order = pra.inverse_sabine(rt60_s, size_m) if rt60_s else (1.0, 0)
    for trial in range(20):
        azimuth_deg = rng.uniform(-180.0, 180.0)
        centre_m = np.array([3.0, 2.5, 1.2]) + rng.uniform(-0.4, 0.4, 3)
        room = pra.ShoeBox(size_m, fs=RATE_HZ, materials=pra.Material(absorption), max_order=min(order, 12))
        room.add_source(centre_m + at(azimuth_deg, 0.0, 1.5), signal=rng.standard_normal(3 * RATE_HZ))
        room.add_microphone_array((centre_m + SQUARE_M).T)
        room.simulate()
        signal = room.mic_array.signals[:, 8000 : 8000 + WINDOW].T
        errors.append(off_deg(square.find(with_noise(signal, 20, trial)), azimuth_deg))
    assert np.mean(np.array(errors) <= within_deg) >= share
