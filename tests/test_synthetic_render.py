import numpy as np
import pytest

from world.drawings import DRAWINGS
from world.kinds import KINDS
from world.render import Painter
from world.surroundings import Surroundings
from world.things import Thing
from world.view import Pinhole, Sight, direction_deg, look

CAMERA = Pinhole(320, 240, 75.0)
LEVEL = np.array([0.0, 0.0, 0.6, 0.0, 0.0, 0.0])


def standing(index: int, kind: str, x: float, y: float, height_m: float = 1.0, surface_c: float = 34.0) -> Thing:
    still = (0.0, 0.0, 0.0)
    return Thing(index, KINDS[kind], (x, y, 0.0), height_m, surface_c, still, still, still, mirrored=False)


def seen(*things: Thing, pose: np.ndarray = LEVEL) -> tuple[Painter, Sight]:
    return Painter(1, CAMERA, Surroundings(1)), look(0.0, pose, things, CAMERA)


def test_a_thing_straight_ahead_is_in_the_middle_at_its_distance() -> None:
    painter, view = seen(standing(0, "clock", 3.0, 0.0, height_m=1.2))
    ((x0, y0, x1, y1), visible) = painter.coverage(view)[0]
    assert (x0 + x1) / 2 == pytest.approx(160, abs=3)
    # Foot and top by similar triangles about the eye, which is 0.6 m up.
    assert y1 == pytest.approx(120 + CAMERA.focal_px * 0.6 / 3.0, abs=3)
    assert y0 == pytest.approx(120 - CAMERA.focal_px * 0.6 / 3.0, abs=3)
    assert visible == pytest.approx(1.0, abs=0.03)
    assert direction_deg(np.array([3.0, 0.0, 0.0]), view.body_to_world) == (0.0, 0.0)
    depth = painter.depth(view, 0)[100:120, 150:170]
    assert np.median(depth[depth > 0]) == pytest.approx(3.0, abs=0.13)


def test_left_is_left_and_up_is_up() -> None:
    painter, view = seen(standing(0, "box", 3.0, 1.0))
    (x0, _, x1, _), _ = painter.coverage(view)[0]
    assert (x0 + x1) / 2 == pytest.approx(160 - CAMERA.focal_px / 3, abs=4)
    azimuth, elevation = direction_deg(np.array([1.0, 1.0, 0.5]), view.body_to_world)
    assert azimuth == pytest.approx(45.0)
    assert elevation > 0


def test_turning_left_moves_things_right_and_nose_down_moves_them_up() -> None:
    box = standing(0, "box", 3.0, 0.0)
    middle = {}
    for name, angles in {"level": (0, 0, 0), "left": (0, 0, 0.2), "down": (0, 0.2, 0)}.items():
        painter, view = seen(box, pose=np.array([0.0, 0.0, 0.6, *angles]))
        (x0, y0, x1, y1), _ = painter.coverage(view)[0]
        middle[name] = ((x0 + x1) / 2, (y0 + y1) / 2)
    assert middle["left"][0] - middle["level"][0] == pytest.approx(CAMERA.focal_px * np.tan(0.2), abs=4)
    assert middle["down"][1] < middle["level"][1] - 30


def test_the_nearer_thing_hides_the_farther_in_every_modality() -> None:
    far, near = standing(0, "person", 5.0, 0.0, height_m=1.2), standing(1, "box", 2.5, 0.0, 0.9, surface_c=20.0)
    painter, view = seen(far, near)
    covered = painter.coverage(view)
    alone = painter.coverage(look(0.0, LEVEL, (far,), CAMERA))
    assert covered[1][1] == pytest.approx(1.0, abs=0.03)
    assert covered[0][1] < 0.6 * alone[0][1]
    x0, y0, x1, y1 = (round(value) for value in covered[1][0])
    inside = (slice(y0 + 25, y1 - 8), slice(x0 + 15, x1 - 15))
    assert np.median(painter.depth(view, 0)[inside]) == pytest.approx(2.5, abs=0.15)
    assert np.median(painter.thermal(view, 0)[inside]) < 27
    without = painter.image(look(0.0, LEVEL, (near,), CAMERA), 0)
    assert np.array_equal(painter.image(view, 0)[inside], without[inside])


def test_the_ground_is_where_the_camera_height_says() -> None:
    painter, view = seen()
    depth = painter.depth(view, 0)
    row = 200
    expected = 0.6 * CAMERA.focal_px / (row + 0.5 - 120)
    assert np.median(depth[row]) == pytest.approx(expected, rel=0.02)


def test_rolling_the_camera_rolls_the_horizon() -> None:
    painter, level = seen()
    _, rolled = seen(pose=np.array([0.0, 0.0, 0.6, 0.3, 0.0, 0.0]))
    assert abs(painter.thermal(level, 0)[:, :60].mean() - painter.thermal(level, 0)[:, -60:].mean()) < 3
    # Right side down: the right of the picture looks lower, so its ground is nearer.
    depth = painter.depth(rolled, 0)
    assert np.median(depth[170, 260:]) < np.median(depth[170, :60][depth[170, :60] > 0])


def test_noise_differs_between_frames_and_depth_drops_out() -> None:
    painter, view = seen(standing(0, "tree", 4.0, 0.0))
    assert not np.array_equal(painter.image(view, 0), painter.image(view, 1))
    lower_half = painter.depth(view, 0)[140:]
    assert 0.0005 < np.mean(lower_half == 0) < 0.02


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_has_a_drawing_that_fills_its_height_and_varies(kind: str) -> None:
    drawing = DRAWINGS[kind]
    one, again, other = (drawing.sprite((seed,), 0) for seed in (1, 1, 2))
    assert np.array_equal(one.levels[0].picture, again.levels[0].picture)
    assert not np.array_equal(one.levels[0].picture, other.levels[0].picture)
    rows = np.flatnonzero((one.levels[0].body[..., 0] > 127).any(axis=1)) / one.levels[0].body.shape[0]
    assert rows[0] < 0.2
    assert rows[-1] > 0.9
    assert one.cover > 0.08


def test_kinds_differ_in_shape() -> None:
    import cv2

    shapes = [
        cv2.resize(DRAWINGS[kind].sprite((1,), 0).levels[0].body[..., 0], (32, 32)).astype(float).ravel()
        for kind in KINDS
    ]
    overlap = np.corrcoef(shapes)
    assert np.max(overlap - np.eye(len(shapes))) < 0.85


@pytest.mark.parametrize("kind", [kind for kind, drawing in DRAWINGS.items() if drawing.phases > 1])
def test_animated_kinds_move_but_stay_themselves(kind: str) -> None:
    first, second = (DRAWINGS[kind].sprite((1,), phase).levels[1] for phase in (0, 1))
    assert not np.array_equal(first.picture, second.picture)
    one, other = first.body[..., 0] > 127, second.body[..., 0] > 127
    assert np.count_nonzero(one & other) > 0.55 * np.count_nonzero(one | other)
