from typing import Any

import numpy as np
import pytest

from drivers.driver import BadOption, Disconnected, Driver, EndOfStream, ReadTimeout, Sample
from drivers.registry import DRIVERS, driver_class
from world.scene import Scene, SceneOptions

START_NS = 1_700_000_000_000_000_000
TYPES = [name for name in DRIVERS if name.startswith("synthetic_")]
PICTURES = ["synthetic_camera", "synthetic_depth", "synthetic_thermal"]


class FakeClock:
    """Moves when slept on, and when a test moves it."""

    start_ns = START_NS

    def __init__(self) -> None:
        self.t_ns = START_NS
        self.slept: list[int] = []

    def now_ns(self) -> int:
        return self.t_ns

    def sleep_until(self, t_ns: int) -> None:
        self.slept.append(t_ns)
        self.t_ns = max(self.t_ns, t_ns)


def make(type_name: str, clock: FakeClock, **options: Any) -> Driver:
    cls: Any = driver_class(type_name)
    driver: Driver = cls(cls.Options(seed=3, **options), clock)
    return driver


def read_all(driver: Driver) -> list[Sample]:
    samples = []
    with driver:
        while True:
            try:
                samples.append(driver.read(1.0))
            except EndOfStream:
                return samples


@pytest.mark.parametrize("name", TYPES)
def test_fast_pace_stamps_as_if_paced_and_ends(name: str) -> None:
    clock = FakeClock()
    samples = read_all(make(name, clock, pace="fast", duration_s=1.0))
    period_ns = 100_000_000 if name in PICTURES else 50_000_000
    assert [sample.t_ns for sample in samples] == [START_NS + k * period_ns for k in range(len(samples))]
    assert len(samples) == (10 if name in PICTURES else 20)
    assert clock.slept == []
    assert all(sample.lost == 0 for sample in samples)
    if name not in PICTURES:
        assert samples[-1].end_ns == START_NS + 1_000_000_000


def test_samples_are_those_of_the_scene() -> None:
    scene, clock = Scene(SceneOptions(seed=3)), FakeClock()
    read = {name: read_all(make(name, clock, pace="fast", duration_s=0.3)) for name in TYPES}
    assert np.array_equal(read["synthetic_camera"][2].data, scene.image(2))
    assert np.array_equal(read["synthetic_depth"][2].data, scene.depth(2))
    assert np.array_equal(read["synthetic_thermal"][2].data, scene.thermal(2))
    assert np.array_equal(np.concatenate([each.data for each in read["synthetic_microphone"]]), scene.audio(0, 4800))
    assert np.array_equal(np.concatenate([each.data for each in read["synthetic_imu"]]), scene.imu(0, 120))
    assert [read[name][0].rate_hz for name in TYPES] == [0.0, 16000.0, 0.0, 0.0, 400.0]


def test_a_duration_that_is_no_multiple_of_a_block_gives_a_short_last_block() -> None:
    samples = read_all(make("synthetic_imu", FakeClock(), pace="fast", duration_s=0.12))
    assert [len(sample.data) for sample in samples] == [20, 20, 8]


@pytest.mark.parametrize("name", TYPES)
def test_real_pace_waits_until_a_sample_is_due(name: str) -> None:
    clock = FakeClock()
    with make(name, clock, pace="real") as driver:
        for k in range(3):
            sample = driver.read(1.0)
            due_ns = START_NS + (k * 100_000_000 if name in PICTURES else (k + 1) * 50_000_000)
            assert clock.t_ns == due_ns == sample.end_ns


def test_real_pace_times_out_and_keeps_the_sample_for_the_next_read() -> None:
    clock = FakeClock()
    with make("synthetic_camera", clock) as driver:
        driver.read(1.0)
        with pytest.raises(ReadTimeout, match=r"0\.03 s"):
            driver.read(0.03)
        assert clock.t_ns == START_NS + 30_000_000
        assert driver.read(1.0).t_ns == START_NS + 100_000_000


@pytest.mark.parametrize(("name", "rows"), [("synthetic_camera", 1), ("synthetic_microphone", 800)])
def test_real_pace_counts_what_a_slow_reader_lost(name: str, rows: int) -> None:
    clock = FakeClock()
    with make(name, clock) as driver:
        first = driver.read(1.0)
        clock.t_ns += 900_000_000
        assert driver.read(1.0).lost == 0
        clock.t_ns += 5_000_000_000
        late = driver.read(1.0)
        assert late.lost > 0
        assert clock.t_ns - late.t_ns <= 200_000_000
        period_ns = (late.t_ns - first.t_ns) / (late.lost / rows + 2)
        assert period_ns == pytest.approx(100e6 if rows == 1 else 50e6)
        assert driver.read(1.0).lost == 0


def test_connecting_late_begins_at_the_present_without_loss() -> None:
    clock = FakeClock()
    clock.t_ns += 12_340_000_000
    with make("synthetic_microphone", clock) as driver:
        sample = driver.read(1.0)
    assert sample.lost == 0
    assert 0 <= START_NS + 12_340_000_000 - sample.t_ns < 50_000_000


def test_sensors_of_one_seed_agree_and_of_another_differ() -> None:
    clock = FakeClock()
    cls: Any = driver_class("synthetic_imu")
    mine = read_all(cls(cls.Options(seed=1, pace="fast", duration_s=0.1), clock))
    other = read_all(cls(cls.Options(seed=2, pace="fast", duration_s=0.1), clock))
    assert not np.array_equal(mine[0].data, other[0].data)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("synthetic_camera", {"width": 0}, "width is 0"),
        ("synthetic_depth", {"rate_hz": -1.0}, "fps is -1"),
        ("synthetic_microphone", {"rate_hz": 10}, "rate_hz is 10"),
        ("synthetic_imu", {"duration_s": 0.0}, "duration_s is 0"),
        ("synthetic_imu", {"duration_s": float("inf")}, "duration_s is inf"),
        ("synthetic_imu", {"duration_s": float("nan")}, "duration_s is nan"),
    ],
)
def test_options_that_cannot_work_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        make(name, FakeClock(), **options).connect()


def test_reading_a_closed_driver_is_disconnected_and_closing_twice_is_fine() -> None:
    driver = make("synthetic_thermal", FakeClock(), pace="fast")
    with pytest.raises(Disconnected, match="connect"):
        driver.read(1.0)
    driver.connect()
    driver.close()
    driver.close()
    with pytest.raises(Disconnected):
        driver.read(1.0)
