import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from world.kinds import KINDS, SILENT, SOUNDING
from world.scene import Scene, SceneOptions


def perceive(scene: Scene, frame: int) -> list[bytes]:
    pictures = [scene.image(frame), scene.depth(frame), scene.thermal(frame)]
    return [data.tobytes() for data in [*pictures, scene.audio(frame * 1600, 1600), scene.imu(frame * 40, 40)]]


def test_same_seed_same_bytes_in_any_order() -> None:
    forward, backward = Scene(SceneOptions(seed=3)), Scene(SceneOptions(seed=3))
    frames = [0, 1, 75, 300]
    first = {frame: (perceive(forward, frame), forward.truth(frame / 10)) for frame in frames}
    again = {frame: (perceive(backward, frame), backward.truth(frame / 10)) for frame in reversed(frames)}
    assert first == again


def test_each_modality_alone_gives_the_same_bytes() -> None:
    together = perceive(Scene(SceneOptions(seed=4)), 90)
    alone = [
        Scene(SceneOptions(seed=4)).image(90),
        Scene(SceneOptions(seed=4)).depth(90),
        Scene(SceneOptions(seed=4)).thermal(90),
        Scene(SceneOptions(seed=4)).audio(90 * 1600, 1600),
        Scene(SceneOptions(seed=4)).imu(90 * 40, 40),
    ]
    assert together == [data.tobytes() for data in alone]


def test_different_seeds_differ() -> None:
    one, other = perceive(Scene(SceneOptions(seed=1)), 5), perceive(Scene(SceneOptions(seed=2)), 5)
    assert all(a != b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("reflections", [False, True])
def test_audio_is_the_same_however_it_is_cut(reflections: bool) -> None:
    options = SceneOptions(seed=5, reflections=reflections)
    whole = Scene(options).audio(70_000, 20_000)
    scene, cuts = Scene(options), [70_000, 70_001, 70_801, 73_600, 84_444, 90_000]
    parts = [scene.audio(a, b - a) for a, b in pairwise(cuts)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert whole.shape == (20_000, 4)
    assert whole.dtype == np.float32


def test_imu_is_the_same_however_it_is_cut() -> None:
    whole = Scene(SceneOptions(seed=5)).imu(1000, 3000)
    scene, cuts = Scene(SceneOptions(seed=5)), [1000, 1001, 1300, 2049, 4000]
    parts = [scene.imu(a, b - a) for a, b in pairwise(cuts)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.parametrize(("width", "height"), [(320, 240), (224, 224), (161, 121)])
def test_pictures_have_the_size_and_range_asked(width: int, height: int) -> None:
    scene = Scene(SceneOptions(seed=6, width=width, height=height))
    image, depth, thermal = scene.image(40), scene.depth(40), scene.thermal(40)
    assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)
    assert (depth.shape, depth.dtype) == ((height, width), np.float32)
    assert (thermal.shape, thermal.dtype) == ((height, width), np.float32)
    assert image.std() > 10
    assert depth.min() >= 0.0
    assert depth.max() <= 10.0
    assert thermal.min() > -40
    assert thermal.max() < 310


def test_a_scene_holds_each_kind_at_most_once_and_mostly_sounding_ones() -> None:
    for seed in range(30):
        names = [thing.kind.name for thing in Scene(SceneOptions(seed=seed)).things]
        assert 6 <= len(names) <= 9
        assert len(set(names)) == len(names)
        assert sum(name in SOUNDING for name in names) >= 4
    assert len(SOUNDING) == 10
    assert set(KINDS) == {*SOUNDING, *SILENT}


def test_truth_agrees_with_pinhole_geometry() -> None:
    checked = 0
    for seed in range(6):
        scene = Scene(SceneOptions(seed=seed))
        for t_s in np.arange(0.0, 30.0, 1.5):
            roll, pitch = scene.pose(float(t_s))[3:5]
            for thing in scene.truth(float(t_s)).things:
                assert -180.0 <= thing.azimuth_deg <= 180.0
                assert (thing.box is None) == (thing.visible == 0.0)
                if thing.box is None:
                    assert abs(thing.azimuth_deg) > 15 or abs(thing.elevation_deg) > 15
                elif thing.visible > 0.95 and abs(roll) + abs(pitch) < 0.05:
                    column = 160 - scene.focal_px * np.tan(np.radians(thing.azimuth_deg))
                    assert thing.box[0] - 2 <= column <= thing.box[2] + 2
                    checked += 1
    assert checked > 50


def test_depth_in_the_box_of_a_thing_in_full_view_is_its_distance() -> None:
    errors = []
    for seed in range(8):
        scene = Scene(SceneOptions(seed=seed))
        for frame in range(0, 300, 20):
            depth = scene.depth(frame)
            for thing in scene.truth(frame / 10).things:
                if thing.kind in ("box", "clock", "sea_waves", "dog") and thing.visible > 0.98 and thing.box:
                    x0, y0, x1, y1 = (round(value) for value in thing.box)
                    inner = depth[(y0 + y1) // 2 - 3 : (y0 + y1) // 2 + 3, (x0 + x1) // 2 - 3 : (x0 + x1) // 2 + 3]
                    along_axis = thing.distance_m * np.cos(np.radians(thing.azimuth_deg))
                    errors.append(float(np.median(inner)) - along_axis)
    assert len(errors) > 15
    assert np.median(np.abs(errors)) < 0.15
    assert np.percentile(np.abs(errors), 90) < 0.4


def test_people_are_warm_and_fire_is_hot() -> None:
    hottest: dict[str, list[float]] = {"person": [], "fire": [], "chair": []}
    for seed in range(12):
        scene = Scene(SceneOptions(seed=seed))
        for frame in range(0, 300, 50):
            thermal = scene.thermal(frame)
            for thing in scene.truth(frame / 10).things:
                if thing.kind in hottest and thing.box and thing.visible > 0.9 and thing.distance_m < 4.5:
                    x0, y0, x1, y1 = (round(value) for value in thing.box)
                    hottest[thing.kind].append(float(np.percentile(thermal[y0:y1, x0:x1], 98)))
    assert 27 < np.median(hottest["person"]) < 36
    assert min(hottest["fire"]) > 100
    assert np.median(hottest["chair"]) < 27


def test_truth_between_sums_what_truth_says() -> None:
    scene = Scene(SceneOptions(seed=2))
    for span in scene.truth_between(5.0, 25.0):
        at = [scene.truth(5.0 + 0.1 * step).things[span.index] for step in range(200)]
        assert span.kind == at[0].kind
        assert span.in_view_s == pytest.approx(0.1 * sum(thing.in_view for thing in at), abs=0.15)
        assert span.sounding_s == pytest.approx(0.1 * sum(thing.sounding for thing in at), abs=0.25)
        assert span.sounding_in_view_s <= min(span.in_view_s, span.sounding_s + 0.1)


@pytest.mark.parametrize(
    ("name", "value"), [("width", 0), ("fps", float("nan")), ("hfov_deg", 180.0), ("audio_rate_hz", 0), ("seed", -1)]
)
def test_absurd_options_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        SceneOptions(**{name: value})  # type: ignore[arg-type]


def test_importing_the_synthetic_drivers_does_not_import_cv2() -> None:
    code = "import sys, drivers.synthetic; sys.exit('cv2' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
