"""Nothing heard, in view, heard but not in view: decided rightly on signals of known truth."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.embedding.model import Embedded
from agent.perceiving.limits import InView, WeightLimits
from agent.perceiving.localization.doa import Direction, DirectionFinder
from agent.perceiving.localization.heatmap import Box, Map
from agent.perceiving.localization.source import (
    AudioSource,
    NoiseFloor,
    SourceFinder,
    SourceState,
    azimuths_deg,
    is_heard,
    locate,
)
from agent.perceiving.steadiness import rms_dbfs
from agent.windows.window import Tick, Window
from common.physics import SPEED_OF_SOUND_MPS

WIDTH, HEIGHT, HFOV_DEG = 320, 240, 75.0
EXTENT = Box(40.0, 0.0, 280.0, 240.0)
RATE_HZ = 16000.0
MICS_M = 0.0323 * np.array([[1, 1, 0], [1, -1, 0], [-1, -1, 0], [-1, 1, 0]])
AXES = np.eye(32, dtype=np.float32)
DOG, FLOOR, SILENCE, RAIN = AXES[:4]


def direction(azimuth_deg: float, confidence: float = 0.8) -> Direction:
    return Direction(azimuth_deg, 0.0, confidence, 10.0, False)


def column_of(azimuth_deg: float) -> float:
    """The pixel column in which a pinhole camera shows an azimuth."""
    return WIDTH / 2 - WIDTH / 2 / math.tan(math.radians(HFOV_DEG / 2)) * math.tan(math.radians(azimuth_deg))


def things(*boxes: tuple[float, float, float, float], similarity: float = 0.5, seed: int = 0) -> Map:
    """A map with noise around 0.1, and patches of things whose pixel boxes are given."""
    heat = np.random.default_rng(seed).normal(0.1, 0.01, (16, 16))
    x, y = EXTENT.x0 + (np.arange(16) + 0.5) * 15.0, EXTENT.y0 + (np.arange(16) + 0.5) * 15.0
    for x0, y0, x1, y1 in boxes:
        heat[np.ix_((y > y0) & (y < y1), (x > x0) & (x < x1))] += similarity - 0.1
    return heat.astype(np.float32)


def located(heat: Map, heard_at: Direction | None, hfov_deg: float | None = HFOV_DEG) -> AudioSource:
    return locate(heat, EXTENT, WIDTH, heard_at, hfov_deg)


def test_azimuths_are_those_of_a_pinhole_camera() -> None:
    x = np.array([0.0, WIDTH / 2, WIDTH])
    np.testing.assert_allclose(azimuths_deg(x, WIDTH, HFOV_DEG), [37.5, 0.0, -37.5], atol=1e-9)
    assert azimuths_deg(np.array([column_of(12.0)]), WIDTH, HFOV_DEG)[0] == pytest.approx(12.0)


def test_what_sounds_and_is_seen_is_in_view_with_its_place() -> None:
    box = (100.0, 60.0, 145.0, 150.0)
    for heard_at in (direction(azimuth_of(box)), None):
        source = located(things(box), heard_at)
        assert source.state is SourceState.IN_VIEW
        assert source.direction is heard_at
        assert source.peak is not None
        assert box[0] <= source.peak[0] <= box[2]
        assert box[1] <= source.peak[1] <= box[3]
        assert source.box is not None
        assert (source.box.x0, source.box.y0) == pytest.approx(box[:2], abs=15.0)
        assert (source.box.x1, source.box.y1) == pytest.approx(box[2:], abs=15.0)
        assert source.similarity == pytest.approx(0.5, abs=0.05)
        assert source.extent == EXTENT


def azimuth_of(box: tuple[float, float, float, float]) -> float:
    return float(azimuths_deg(np.array([(box[0] + box[2]) / 2]), WIDTH, HFOV_DEG)[0])


@pytest.mark.parametrize("azimuth_deg", [60.0, -60.0, 120.0, 180.0, -179.0, 45.0])
def test_a_direction_outside_of_the_picture_is_not_in_view_whatever_is_seen(azimuth_deg: float) -> None:
    source = located(things((100, 60, 145, 150)), direction(azimuth_deg))
    assert source.state is SourceState.NOT_IN_VIEW
    assert source.box is None
    assert source.peak is None
    assert source.map is not None


def test_of_two_alike_the_direction_chooses() -> None:
    left, right = (70.0, 60.0, 115.0, 150.0), (205.0, 60.0, 250.0, 150.0)
    heat = np.maximum(things(left, similarity=0.6), things(right, similarity=0.5))
    for box in (left, right):
        source = located(heat, direction(azimuth_of(box)))
        assert source.peak is not None
        assert box[0] <= source.peak[0] <= box[2]


def test_a_doubtful_direction_or_an_unknown_field_of_view_overrules_nothing() -> None:
    heat = things((100, 60, 145, 150))
    assert located(heat, direction(120.0, confidence=0.05)).state is SourceState.IN_VIEW
    assert located(heat, direction(120.0), hfov_deg=None).state is SourceState.IN_VIEW


def test_what_is_heard_ahead_but_not_seen_is_not_in_view() -> None:
    hidden = [located(things(seed=seed), direction(0.0)).state for seed in range(50)]
    assert hidden == [SourceState.NOT_IN_VIEW] * 50
    # Something else that resembles the sound, elsewhere in the picture, is not it.
    assert located(things((60, 60, 90, 150)), direction(-20.0)).state is SourceState.NOT_IN_VIEW


@settings(deadline=None)
@given(st.floats(-22, 22), st.floats(-8, 8), st.integers(0, 100))
def test_the_place_agrees_with_the_direction(azimuth_deg: float, error_deg: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = float(np.clip(column_of(azimuth_deg), 60, 260))
    y, other = rng.uniform(0, 180), rng.uniform(40, 250)
    heat = np.maximum(things((x - 20, y, x + 20, y + 60), seed=seed), things((other, 0, other + 30, 60)))
    source = located(heat, direction(azimuth_deg + error_deg))
    assert source.state is SourceState.IN_VIEW
    assert source.peak is not None
    shown_deg = float(azimuths_deg(np.array([source.peak[0]]), WIDTH, HFOV_DEG)[0])
    # The margin of the columns, and what the centroid may move by: a patch of 15 pixels at a focal length of 209.
    assert abs(shown_deg - azimuth_deg - error_deg) < 10 + 4.2


EVEN_AT_THREE = WeightLimits(InView(slope=40.0, offset=-12.0))
"""Weights for which a sound is as likely in view as not at a cosine of 0.3."""
BOX = (100.0, 60.0, 145.0, 150.0)


@pytest.mark.parametrize(("similarity", "in_view"), [(0.25, False), (0.35, True)])
def test_what_stands_out_is_the_source_only_if_it_is_like_the_sound(similarity: float, in_view: bool) -> None:
    heat = things(BOX, similarity=similarity)
    assert located(heat, None).state is SourceState.IN_VIEW, "without limits, whatever stands out is"
    source = locate(heat, EXTENT, WIDTH, None, HFOV_DEG, EVEN_AT_THREE)
    assert (source.state is SourceState.IN_VIEW) is in_view
    assert source.in_view == pytest.approx(1 / (1 + math.exp(12 - 40 * similarity)), abs=0.12)
    assert source.similarity == pytest.approx(similarity, abs=0.04)
    assert (source.reason == "") is in_view


def test_a_thing_that_fills_the_picture_is_in_view_though_it_does_not_stand_out() -> None:
    heat = things((40, 0, 280, 240), similarity=0.5)
    assert located(heat, None).state is SourceState.NOT_IN_VIEW
    assert locate(heat, EXTENT, WIDTH, None, HFOV_DEG, EVEN_AT_THREE).state is SourceState.IN_VIEW


def test_the_box_of_a_large_thing_is_the_thing() -> None:
    # More than half of the picture, so that the median of the map lies on it.
    box = (55.0, 15.0, 280.0, 210.0)
    heat = things(box, similarity=0.5)
    heat += np.linspace(0, 0.05, 16, dtype=np.float32)  # which makes the thing uneven
    found = locate(heat, EXTENT, WIDTH, None, HFOV_DEG, EVEN_AT_THREE).box
    assert found is not None
    assert (found.x0, found.y0, found.x1, found.y1) == pytest.approx(box, abs=8.0)


def test_a_direction_into_the_picture_counts_for_it() -> None:
    heat, ahead = things(BOX, similarity=0.27), direction(azimuth_of(BOX))
    alone, pointed = (locate(heat, EXTENT, WIDTH, d, HFOV_DEG, EVEN_AT_THREE) for d in (None, ahead))
    assert (alone.state, pointed.state) == (SourceState.NOT_IN_VIEW, SourceState.IN_VIEW)
    assert alone.in_view is not None
    assert pointed.in_view is not None
    odds = [p / (1 - p) for p in (alone.in_view, pointed.in_view)]
    assert odds[1] / odds[0] == pytest.approx(9.0, rel=0.01)
    beside = locate(heat, EXTENT, WIDTH, direction(-30.0), HFOV_DEG, EVEN_AT_THREE)
    assert beside.state is SourceState.NOT_IN_VIEW, "the columns that it points to hold nothing like the sound"
    outside = locate(heat, EXTENT, WIDTH, direction(90.0), HFOV_DEG, EVEN_AT_THREE)
    assert (outside.state, outside.in_view) == (SourceState.NOT_IN_VIEW, None)
    assert "outside" in outside.reason


def test_it_is_said_when_nothing_tells_whether_a_sound_is_in_view() -> None:
    source = located(things(BOX), None)
    assert (source.state, source.in_view) == (SourceState.IN_VIEW, None)
    assert "no limits" in source.reason


@pytest.mark.parametrize(("level", "state"), [(0.0, SourceState.NOTHING_HEARD), (0.1, SourceState.NOT_IN_VIEW)])
def test_sound_without_meaning_may_be_loud_but_is_not_in_view(level: float, state: SourceState) -> None:
    box = (100.0, 60.0, 145.0, 150.0)
    tick = embedded(sound_from(azimuth_of(box), level=level), DOG, scene(box))
    source = finder().find(replace(tick, meaningless={"array": "steady noise", "other": "silence"}))
    assert source is not None
    assert (source.state, source.reason) == (state, "steady noise")
    assert source.box is None
    assert (source.direction is not None) is (level > 0)


def test_heard_by_energy_direction_or_meaning() -> None:
    assert not is_heard(-50.0, -51.0, None, None)
    assert is_heard(-40.0, -51.0, None, None)
    assert is_heard(-50.0, -51.0, direction(0.0), None)
    assert is_heard(-50.0, -51.0, None, 0.01)
    assert not is_heard(-50.0, -51.0, None, 0.7)
    assert not is_heard(-120.0, -121.0, direction(0.0), 0.01)


def test_the_noise_floor_falls_at_once_and_rises_slowly() -> None:
    floor = NoiseFloor(rise_db_per_s=2.0)
    second = 1_000_000_000
    assert floor.update(0, -40.0) == -40.0
    assert floor.update(second, -60.0) == -60.0
    for k in range(2, 7):  # a sound begins
        floor.update(k * second, -30.0)
    assert floor.update(7 * second, -30.0) == pytest.approx(-50.0)
    for k in range(8, 40):
        floor.update(k * second, -30.0)
    assert floor.update(40 * second, -30.0) == -30.0


def test_the_noise_floor_stays_below_a_known_source() -> None:
    floor = NoiseFloor(rise_db_per_s=2.0)
    floor.update(0, -60.0)
    for k in range(1, 100):
        floor.update(k * 1_000_000_000, -20.0, rises=False)
    assert floor.update(100 * 1_000_000_000, -20.0) == -60.0


def test_levels_are_those_of_known_signals() -> None:
    t = np.arange(16000) / RATE_HZ
    sine = np.sin(2 * np.pi * 440 * t).astype(np.float32)[:, None]
    assert rms_dbfs(sine) == pytest.approx(-3.01, abs=0.01)
    assert rms_dbfs(0.01 * sine) == pytest.approx(-43.01, abs=0.01)
    assert rms_dbfs(np.zeros((100, 2), np.float32)) == -200.0


def sound_from(azimuth_deg: float, *, level: float = 0.1, seed: int = 0) -> NDArray[np.float32]:
    """2 s of a broadband plane wave at the array, and noise of its own at every microphone."""
    rng = np.random.default_rng(seed)
    n = 32000
    towards = np.array([math.cos(math.radians(azimuth_deg)), math.sin(math.radians(azimuth_deg)), 0.0])
    delay_s = -(MICS_M @ towards) / SPEED_OF_SOUND_MPS
    f_hz = np.fft.rfftfreq(n, 1 / RATE_HZ)
    spectrum = np.fft.rfft(rng.normal(0, 1, n)) * np.exp(-2j * np.pi * f_hz * delay_s[:, None])
    return (level * np.fft.irfft(spectrum, n).T + rng.normal(0, 0.002, (n, 4))).astype(np.float32)


def embedded(audio: NDArray[np.float32] | None, vector: Map, patches: Map | None = None, index: int = 4) -> Embedded:
    image = None if patches is None else np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    windows = {
        "array": Window("array", "audio", audio, RATE_HZ, 1, "" if audio is not None else "lost"),
        "camera": Window("camera", "vision", image, 0.0, 1, "" if patches is not None else "lost"),
    }
    tick = Tick(index, index * 500_000_000, windows, 0)
    vectors = {} if audio is None else {"array": vector}
    return Embedded(tick, vectors, {} if patches is None else {"camera": patches}, None, 0.0, {})


def scene(*boxes: tuple[float, float, float, float], thing: Map = DOG) -> Map:
    """Patches [16, 16, 32] of a floor with things on it, in the crop of a 320 x 240 image."""
    patches = np.tile(FLOOR, (16, 16, 1))
    patches[things(*boxes) > 0.3] = thing
    patches += np.random.default_rng(1).normal(0, 0.02, patches.shape)
    return (patches / np.linalg.norm(patches, axis=-1, keepdims=True)).astype(np.float32)


def finder(camera: str | None = "camera") -> SourceFinder:
    return SourceFinder(
        "array",
        camera,
        finder=DirectionFinder(MICS_M, RATE_HZ),
        hfov_deg=HFOV_DEG,
        quiet=SILENCE[None],
        things=np.stack([DOG, RAIN]),
    )


def test_end_to_end_a_barking_dog_in_the_picture() -> None:
    box = (100.0, 60.0, 145.0, 150.0)
    source = finder().find(embedded(sound_from(azimuth_of(box)), DOG, scene(box)))
    assert source is not None
    assert source.state is SourceState.IN_VIEW
    assert source.direction is not None
    assert source.direction.azimuth_deg == pytest.approx(azimuth_of(box), abs=3.0)
    assert source.peak is not None
    assert box[0] <= source.peak[0] <= box[2]
    assert box[1] <= source.peak[1] <= box[3]
    assert source.extent is not None
    assert (source.extent.x0, source.extent.x1) == pytest.approx((EXTENT.x0, EXTENT.x1), abs=1.0)
    assert (source.tick, source.t_ns, source.microphone, source.camera) == (4, 2_000_000_000, "array", "camera")


def test_end_to_end_a_dog_behind_while_another_is_seen() -> None:
    source = finder().find(embedded(sound_from(150.0), DOG, scene((100, 60, 145, 150))))
    assert source is not None
    assert source.state is SourceState.NOT_IN_VIEW
    assert source.direction is not None
    assert source.direction.azimuth_deg == pytest.approx(150.0, abs=3.0)


def test_end_to_end_noise_alone_is_nothing_heard() -> None:
    source = finder().find(embedded(sound_from(0.0, level=0.0), SILENCE, scene((100, 60, 145, 150))))
    assert source is not None
    assert source.state is SourceState.NOTHING_HEARD
    assert source.map is None
    assert source.direction is None


def test_the_direction_is_that_of_the_newest_half_second() -> None:
    audio = sound_from(-60.0)
    audio[24000:] = sound_from(60.0, seed=1)[24000:]
    source = finder().find(embedded(audio, DOG, scene()))
    assert source is not None
    assert source.direction is not None
    assert source.direction.azimuth_deg == pytest.approx(60.0, abs=3.0)


def test_a_direction_belongs_to_the_instant_of_its_sound() -> None:
    tick_ns = 2_000_000_000
    steady = finder().find(embedded(sound_from(20.0), DOG, scene()))
    assert steady is not None
    assert steady.direction is not None
    assert steady.direction.t_ns == pytest.approx(tick_ns - 250_000_000, abs=10_000_000)
    burst = sound_from(0.0, level=0.0, seed=2)
    burst[29_000:31_400] = sound_from(40.0)[29_000:31_400]  # 187.5 to 37.5 ms before the tick
    late = finder().find(embedded(burst, DOG, scene()))
    assert late is not None
    assert late.direction is not None
    assert late.direction.t_ns == pytest.approx(tick_ns - 112_500_000, abs=5_000_000)


def test_a_burst_of_a_moment_ago_still_has_a_direction_and_one_of_long_ago_has_not() -> None:
    silence = sound_from(0.0, level=0.0, seed=2)
    for end, wanted in ((23000, 40.0), (15000, None)):
        audio = silence.copy()
        audio[end - 4000 : end] = sound_from(40.0)[end - 4000 : end]
        source = finder().find(embedded(audio, DOG, scene()))
        assert source is not None
        found = source.direction.azimuth_deg if source.direction else None
        assert found == (None if wanted is None else pytest.approx(wanted, abs=3.0))


def test_without_a_picture_what_is_heard_is_not_in_view_and_without_audio_there_is_no_answer() -> None:
    for blind in (finder(camera=None), finder()):
        source = blind.find(embedded(sound_from(0.0), DOG))
        assert source is not None
        assert source.state is SourceState.UNSEEN
        assert source.camera == ""
        assert source.direction is not None
    assert finder().find(embedded(None, DOG, scene())) is None


def test_one_microphone_decides_by_the_picture() -> None:
    mono = SourceFinder("array", "camera", hfov_deg=HFOV_DEG)
    quiet = sound_from(0.0, level=0.0)[:, :1]
    found = [mono.find(embedded(quiet, SILENCE, scene((100, 60, 145, 150)), index=i)) for i in range(4)]
    assert [s.state for s in found if s] == [SourceState.NOTHING_HEARD] * 4
    loud = mono.find(embedded(sound_from(0.0)[:, :1], DOG, scene((100, 60, 145, 150)), index=4))
    assert loud is not None
    assert loud.state is SourceState.IN_VIEW
    assert loud.direction is None
    unseen = mono.find(embedded(sound_from(0.0)[:, :1], RAIN, scene((100, 60, 145, 150)), index=5))
    assert unseen is not None
    assert unseen.state is SourceState.NOT_IN_VIEW


def test_a_muted_microphone_does_not_lower_the_floor() -> None:
    mono = SourceFinder("array", "camera", hfov_deg=HFOV_DEG)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 10 ** (-55 / 20), (32000, 1)).astype(np.float32)
    windows = [np.zeros_like(noise)] * 4 + [noise] * 8
    found = [mono.find(embedded(window, SILENCE, scene(), index=i)) for i, window in enumerate(windows)]
    assert [s.state for s in found if s] == [SourceState.NOTHING_HEARD] * 12


def test_an_audio_source_is_a_value() -> None:
    source = AudioSource(SourceState.NOTHING_HEARD)
    assert replace(source, tick=3).tick == 3
    with pytest.raises(AttributeError):
        source.tick = 1
