import numpy as np
import pytest

from world.imu import Imu, exact
from world.motion import GRAVITY_MPS2, MOTIONS, ROAM_RADIUS_M, Segment, Trajectory, rotations

RATE_HZ = 400.0


def segments(motion: str, seeds: range = range(40)) -> list[tuple[Trajectory, Segment]]:
    found = []
    for seed in seeds:
        trajectory = Trajectory(seed, 0.6)
        t_s = 3.0
        while t_s < 90.0:
            segment = trajectory.segment(t_s)
            if segment.motion == motion:
                found.append((trajectory, segment))
                break
            t_s = segment.stop_s
    return found


@pytest.mark.parametrize("motion", MOTIONS)
def test_imu_and_pose_tell_of_one_motion(motion: str) -> None:
    """Integrating the IMU from rest, in the world frame, leads along the path that the pose gives."""
    trajectory, segment = segments(motion)[0]
    t_s = np.arange(segment.start_s, segment.stop_s, 1 / 1000)
    rows, _ = exact(segment, t_s - segment.start_s)
    poses = trajectory.pose(t_s)
    force = np.einsum("nij,nj->ni", rotations(poses[:, 3:]), rows[:, :3])
    velocity = np.cumsum(force - [0.0, 0.0, GRAVITY_MPS2], axis=0) / 1000
    moved = np.cumsum(velocity, axis=0)[-1] / 1000
    assert moved == pytest.approx(poses[-1, :3] - poses[0, :3], abs=0.03)
    turned = rotations(poses[:1, 3:])[0]
    for rate in rows[:, 3:]:
        x, y, z = rate / 1000
        turned = turned @ (np.eye(3) + np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]))
    assert turned == pytest.approx(rotations(poses[-1:, 3:])[0], abs=0.03)


def test_at_rest_the_imu_reads_gravity_upward() -> None:
    rows = Imu(1, Trajectory(1, 0.6), RATE_HZ).rows(0, 1000)  # every trajectory begins with 3 s of standing
    assert rows.mean(axis=0) == pytest.approx([0, 0, 9.81, 0, 0, 0], abs=0.1)
    assert np.all(rows.std(axis=0) < 0.1)
    assert np.all(rows.std(axis=0) > 0)


@pytest.mark.parametrize(("motion", "sign"), [("turning left", 1), ("turning right", -1)])
def test_the_gyroscope_integrates_to_the_turn(motion: str, sign: int) -> None:
    trajectory, segment = segments(motion)[0]
    first, last = round(segment.start_s * RATE_HZ), round(segment.stop_s * RATE_HZ)
    rows = Imu(2, trajectory, RATE_HZ).rows(first, last - first)
    turn = rows[:, 5].sum() / RATE_HZ
    assert turn * sign > 0.2
    assert turn == pytest.approx(segment.turn_rad, abs=0.08)


def test_driving_vibrates_and_speeds_up_forward() -> None:
    trajectory, segment = segments("driving")[0]
    first = round(segment.start_s * RATE_HZ)
    rows = Imu(2, trajectory, RATE_HZ).rows(first, round(segment.duration_s * RATE_HZ))
    assert rows[round(RATE_HZ) : -round(RATE_HZ), 2].std() > 0.1
    clean, speed = exact(segment, np.arange(0.0, 0.8, 1 / RATE_HZ))
    assert speed[-1] == pytest.approx(segment.speed_mps, rel=0.05)
    assert clean[:, 0].max() > 0.5


def test_bumps_jolt_upward() -> None:
    _, segment = segments("bumping")[0]
    rows, _ = exact(segment, np.arange(0.0, segment.duration_s, 1 / RATE_HZ))
    assert rows[:, 2].max() > 13
    assert rows[:, 2].min() < 6


def test_climbing_tilts_the_nose_up_and_lifts() -> None:
    trajectory, segment = segments("climbing")[0]
    t_s = np.arange(segment.start_s, segment.stop_s, 0.02)
    poses = trajectory.pose(t_s)
    assert np.degrees(poses[:, 4].min()) < -10
    assert poses[:, 2].max() > 0.6 + 0.05
    assert poses[-1, 2] == pytest.approx(0.6, abs=0.01)
    rows, _ = exact(segment, np.array([0.35 * segment.duration_s]))
    assert rows[0, 0] > 1.5  # gravity leans on the tail


def test_falling_is_weightless_then_hits_then_gets_up() -> None:
    for trajectory, segment in segments("falling")[:4]:
        tau = np.arange(0.0, segment.duration_s, 1 / RATE_HZ)
        rows, _ = exact(segment, tau)
        felt = np.linalg.norm(rows[:, :3], axis=1)
        assert np.count_nonzero(felt < 3.0) / RATE_HZ > 0.15
        assert felt.max() > 25
        assert int(np.argmax(felt)) > int(np.argmin(felt))
        poses = trajectory.pose(segment.start_s + tau)
        assert np.degrees(np.abs(poses[:, 3:5]).max()) > 60
        assert poses[-1, 2:5] == pytest.approx([0.6, 0.0, 0.0], abs=0.02)
        assert trajectory.segment(segment.stop_s + 0.01).motion == "standing"


def test_the_robot_stays_in_its_circle_and_moves_smoothly() -> None:
    for seed in range(12):
        poses = Trajectory(seed, 0.6).pose(np.arange(0.0, 120.0, 0.05))
        assert np.hypot(poses[:, 0], poses[:, 1]).max() < ROAM_RADIUS_M + 0.1
        assert np.hypot(*np.diff(poses[:, :2], axis=0).T).max() < 0.05
        turned = np.abs((np.diff(poses[:, 5]) + np.pi) % (2 * np.pi) - np.pi)
        assert turned.max() < 0.06


def test_all_motions_occur_and_calm_ones_prevail() -> None:
    seconds = dict.fromkeys(MOTIONS, 0.0)
    for seed in range(30):
        trajectory, t_s = Trajectory(seed, 0.6), 0.0
        while t_s < 120.0:
            segment = trajectory.segment(t_s)
            seconds[segment.motion] += segment.duration_s
            t_s = segment.stop_s
    total = sum(seconds.values())
    assert all(value > 0 for value in seconds.values())
    assert 0.002 < seconds["falling"] / total < 0.05
    assert (seconds["standing"] + seconds["driving"]) / total > 0.3


def test_a_pose_does_not_depend_on_what_was_asked_before() -> None:
    asked, fresh = Trajectory(7, 0.6), Trajectory(7, 0.6)
    asked.pose(np.arange(0.0, 500.0, 7.0))
    t_s = np.array([3.3, 77.7, 410.2])
    assert np.array_equal(asked.pose(t_s), fresh.pose(t_s))
