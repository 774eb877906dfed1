from itertools import pairwise

import numpy as np

from world.kinds import SOUNDING
from world.motion import Trajectory
from world.scene import Scene, SceneOptions
from world.schedule import EPISODE_S, GAP_S, Schedule
from world.soundtrack import MIC_POSITIONS_M, NOISE_RMS
from world.things import place_things
from world.truth import ThingTruth

STEP_S = 0.25


def listen(seeds: range, until_s: float = 40.0) -> list[list[ThingTruth]]:
    """The sounding things at every step of several scenes."""
    heard = []
    for seed in seeds:
        scene = Scene(SceneOptions(seed=seed, width=160, height=120))
        heard += [[each for each in scene.truth(t).things if each.sounding] for t in np.arange(0.0, until_s, STEP_S)]
    return heard


def test_mostly_one_thing_sounds_with_quiet_between_and_half_in_view() -> None:
    heard = listen(range(12))
    counts = np.bincount([len(things) for things in heard], minlength=3) / len(heard)
    assert 0.3 < counts[0] < 0.6
    assert counts[1] > 0.35
    assert counts[2:].sum() < 0.1
    single = [things[0] for things in heard if len(things) == 1]
    assert 0.42 < np.mean([thing.in_view for thing in single]) < 0.68
    assert {thing.kind for thing in single} == set(SOUNDING)


def test_episodes_and_gaps_have_their_lengths() -> None:
    for seed in range(10):
        trajectory = Trajectory(seed, 0.6)
        episodes = Schedule(seed, place_things(seed, 20.0), trajectory).between(0.0, 300.0)
        assert all(EPISODE_S[0] <= each.stop_s - each.start_s <= EPISODE_S[1] for each in episodes)
        assert all(one.thing != next_.thing or one.stop_s < next_.start_s for one, next_ in pairwise(episodes))
        gaps = [next_.start_s - one.stop_s for one, next_ in pairwise(episodes)]
        assert np.mean([gap < 0 for gap in gaps]) < 0.3
        quiet_from = np.maximum.accumulate([each.stop_s for each in episodes])
        quiet = [later.start_s - end for later, end in zip(episodes[1:], quiet_from, strict=False)]
        assert all(GAP_S[0] - 1e-9 <= gap <= GAP_S[1] for gap in quiet if gap > 0)


def test_episodes_do_not_depend_on_what_was_asked_before() -> None:
    things = place_things(4, 20.0)
    asked, fresh = (Schedule(4, things, Trajectory(4, 0.6)) for _ in range(2))
    asked.between(500.0, 600.0)
    assert asked.between(40.0, 90.0) == fresh.between(40.0, 90.0)


def test_a_sounding_thing_is_well_above_the_noise_and_its_loudness_is_what_the_array_hears() -> None:
    ratios, agreement = [], []
    for seed in range(10):
        scene = Scene(SceneOptions(seed=seed, width=160, height=120))
        for t_s in np.arange(1.0, 40.0, 0.5):
            things = scene.truth(float(t_s)).things
            before = scene.truth(float(t_s) - 1.0).things
            sounding = [each for each in things if each.sounding and before[each.index].sounding]
            if len(sounding) != 1 or any(each.loudness for each in things if each.index != sounding[0].index):
                continue
            samples = scene.audio(round((t_s - 0.5) * 16000), 8000)
            ratios.append(20 * np.log10(max(sounding[0].loudness, 1e-9) / NOISE_RMS))
            expected = np.hypot(sounding[0].loudness, NOISE_RMS)
            agreement.append(float(np.sqrt(np.mean(samples**2))) / expected)
    assert 10 < np.median(ratios) < 25
    assert np.percentile(ratios, 90) < 32
    low, high = np.percentile(agreement, [5, 95])
    assert 0.9 < low < high < 1.1


def test_sound_comes_from_where_the_truth_says() -> None:
    """The lag between two microphones that maximises their correlation is the one of the true direction."""
    errors = []
    for seed in range(8):
        scene = Scene(SceneOptions(seed=seed, width=160, height=120))
        for t_s in np.arange(1.0, 40.0, 1.0):
            truth = scene.truth(float(t_s))
            sounding = [each for each in truth.things if each.loudness > 10 * NOISE_RMS]
            if len(sounding) != 1 or truth.motion not in ("standing", "driving"):
                continue
            samples = scene.audio(round((t_s - 0.25) * 16000), 4000).astype(float)
            left, right = samples[:, 0], samples[:, 1]
            spectrum = np.fft.rfft(left, 8192) * np.conj(np.fft.rfft(right, 8192))
            curve = np.fft.irfft(spectrum, 8192 * 16)
            lag = int(np.argmax(np.concatenate([curve[-80:], curve[:81]]))) - 80
            azimuth, elevation = np.radians(sounding[0].azimuth_deg), np.radians(sounding[0].elevation_deg)
            apart_m = MIC_POSITIONS_M[0, 1] - MIC_POSITIONS_M[1, 1]
            expected = -apart_m * np.sin(azimuth) * np.cos(elevation) / 343 * 16000 * 16
            errors.append(abs(lag - expected) / 16)
    assert len(errors) > 15
    assert np.median(errors) < 0.25  # samples of 62.5 us; the pair is 3 samples apart
