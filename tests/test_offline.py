from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from agent.capture.offline import Offline
from agent.clock import ManualClock
from agent.faults import Faults
from agent.streams import SensorSpec, Stream
from drivers.driver import (
    BadData,
    Clock,
    DeviceNotFound,
    Disconnected,
    Driver,
    DriverError,
    EndOfStream,
    Modality,
    ReadTimeout,
    Sample,
)
from drivers.registry import driver_class


@dataclass(frozen=True)
class ScriptOptions:
    """Plays a list of samples and errors, then ends."""

    script: tuple[Sample | DriverError, ...] = ()
    connect_error: DriverError | None = None


class Script(Driver):
    """A driver that does what it is told."""

    Options: ClassVar[type[Any]] = ScriptOptions
    modality: ClassVar[Modality] = "vision"
    open: ClassVar[int] = 0

    def __init__(self, options: ScriptOptions, clock: Clock) -> None:  # noqa: ARG002
        self._options = options
        self._script: Iterator[Sample | DriverError] = iter(options.script)
        self._connected = False

    def connect(self) -> None:
        if self._options.connect_error is not None:
            raise self._options.connect_error
        self._connected = True
        Script.open += 1

    def read(self, timeout_s: float) -> Sample:  # noqa: ARG002
        step = next(self._script, EndOfStream("script: its end"))
        if isinstance(step, DriverError):
            raise step
        return step

    def close(self) -> None:
        Script.open -= self._connected
        self._connected = False


@pytest.fixture(autouse=True)
def _none_open() -> None:
    Script.open = 0


def spec(name: str, *script: Sample | DriverError, connect_error: DriverError | None = None) -> SensorSpec:
    stream = Stream(name, "vision", 10, 10, 1000, 0.1, "latest", 2, 0.1)
    return SensorSpec(name, f"{__name__}:Script", ScriptOptions(script, connect_error), stream)


def image(t_ns: int) -> Sample:
    return Sample(t_ns, np.zeros((2, 2, 3), np.uint8))


def read_all(source: Offline) -> list[tuple[str, Sample]]:
    found = []
    while batch := source.poll(1.0):
        found += batch
    return found


def test_streams_are_merged_by_time_and_nothing_is_dropped() -> None:
    source = Offline(
        [spec("left", *map(image, range(0, 900, 3))), spec("right", *map(image, range(1, 200, 2)))], ManualClock()
    )
    source.start()
    found = read_all(source)
    times = [sample.t_ns for _, sample in found]
    assert times == sorted(times)
    assert [sample.t_ns for sensor, sample in found if sensor == "left"] == list(range(0, 900, 3))
    assert [sample.t_ns for sensor, sample in found if sensor == "right"] == list(range(1, 200, 2))
    assert source.ended
    assert {report.state for report in source.reports().values()} == {"ended"}
    source.stop()
    source.stop()
    assert Script.open == 0


def test_a_pause_and_bad_data_cost_nothing_else() -> None:
    garbage = Sample(1, np.zeros((2, 2), np.float64))
    script = (image(0), ReadTimeout("later"), BadData("script: a torn frame"), garbage, image(2))
    source = Offline([spec("camera", *script)], ManualClock())
    source.start()
    assert [sample.t_ns for _, sample in read_all(source)] == [0, 2]
    assert source.reports()["camera"].drops == {"bad data": 2}
    assert "float64" in source.reports()["camera"].error


def test_a_driver_that_gives_up_is_lost_and_the_others_go_on() -> None:
    source = Offline(
        [spec("camera", image(0), Disconnected("script: gone")), spec("other", image(1), image(2))], ManualClock()
    )
    source.start()
    assert [(sensor, sample.t_ns) for sensor, sample in read_all(source)] == [("camera", 0), ("other", 1), ("other", 2)]
    report = source.reports()["camera"]
    assert (report.state, report.error) == ("lost", "script: gone")
    assert source.ended


def test_a_driver_that_never_gives_a_sample_does_not_hang_the_rest() -> None:
    source = Offline([spec("camera", *[ReadTimeout("script: nothing")] * 100)], ManualClock())
    source.start()
    assert read_all(source) == []
    assert source.reports()["camera"].state == "lost"
    assert source.ended


def test_a_missing_input_is_final_and_leaves_nothing_open() -> None:
    missing = spec("depth", connect_error=DeviceNotFound("script: no such file"))
    source = Offline([spec("camera", image(0)), missing], ManualClock())
    with pytest.raises(DeviceNotFound, match="no such file"):
        source.start()
    assert Script.open == 0


def test_the_synthetic_world_is_read_faster_than_real_time_in_order() -> None:
    specs = []
    for name in ("synthetic_camera", "synthetic_microphone", "synthetic_imu"):
        driver = driver_class(name)
        options = driver.Options(pace="fast", duration_s=1.0)
        stream = Stream(name, driver.modality, options.rate_hz, 10, 10**6, 1.0, "all", 8, 0.1)
        specs.append(SensorSpec(name, name, options, stream))
    start_ns = 1_700_000_000_000_000_000
    source = Offline(specs, ManualClock(start_ns))
    source.start()
    found = read_all(source)
    source.stop()
    ends = [sample.end_ns for _, sample in found]
    assert ends == sorted(ends)
    rows = {name: sum(len(s.data) for n, s in found if n == name) for name in ("synthetic_microphone", "synthetic_imu")}
    assert rows == {"synthetic_microphone": 16000, "synthetic_imu": 400}
    assert sum(name == "synthetic_camera" for name, _ in found) == 10
    assert found[0][1].t_ns == start_ns


def test_a_bug_in_a_driver_costs_one_sample_of_it() -> None:
    class Buggy(Script):
        def read(self, timeout_s: float) -> Sample:
            sample = super().read(timeout_s)
            if sample.t_ns == 2:
                raise ZeroDivisionError("a bug")
            return sample

    globals()["Buggy"] = Buggy
    faults = Faults()
    samples = tuple(Sample(n, np.zeros((2, 2, 3), np.uint8)) for n in range(5))
    stream = Stream("eye", "vision", 10.0, 10.0, 1000, 0.1, "all", 4, 0.1)
    source = Offline([SensorSpec("eye", f"{__name__}:Buggy", ScriptOptions(samples), stream)], ManualClock(), faults)
    source.start()
    found = []
    while not source.ended:
        found += [sample.t_ns for _, sample in source.poll(0.0)]
    assert found == [0, 1, 3, 4]
    assert faults.counts() == {"eye": 1}
    assert source.reports()["eye"].drops == {"fault": 1}
