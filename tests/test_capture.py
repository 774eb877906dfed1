import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty_drivers import FaultyOptions
from running_agent import DEADLINE_S

from agent.capture import sensor as capture_sensor
from agent.capture.live import Capture
from agent.capture.sensor import CapturedSensor
from agent.clock import RunClock
from agent.streams import SensorSpec, Stream
from drivers.driver import Sample
from drivers.registry import driver_class
from drivers.remote import RemoteOptions

CAMERA = "faulty_drivers:FaultyCamera"


def spec(name: str, options: FaultyOptions, driver: str = CAMERA, sample_bytes: int = 1000) -> SensorSpec:
    rate_hz = 1 / options.period_s
    return SensorSpec(
        name, driver, options, Stream(name, "vision", rate_hz, rate_hz, sample_bytes, 0.1, "all", 64, 0.1)
    )


class Rig:
    """A capture, and what came out of it so far."""

    def __init__(self, *specs: SensorSpec) -> None:
        self.clock = RunClock.start()
        self.capture = Capture(specs, self.clock)
        self.samples: dict[str, list[Sample]] = defaultdict(list)

    def poll_until(self, met: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not met():
            assert time.monotonic() < deadline_s, self.capture.reports()
            for sensor, sample in self.capture.poll(0.1):
                self.samples[sensor].append(sample)

    def poll_until_received(self, sensor: str, count: int) -> None:
        self.poll_until(lambda: len(self.samples[sensor]) >= count)

    def pid(self, sensor: str) -> int:
        found = self.capture._sensors[sensor]
        assert isinstance(found, CapturedSensor)
        assert found._running is not None
        return found._running.process.pid


@pytest.fixture
def rigs() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(*specs: SensorSpec) -> Rig:
        made.append(Rig(*specs))
        made[-1].capture.start()
        return made[-1]

    yield make
    for rig in made:
        rig.capture.stop()


def test_samples_of_all_sensors_arrive_whole_and_in_order(rigs: Callable[..., Rig]) -> None:
    rig = rigs(spec("left", FaultyOptions()), spec("right", FaultyOptions(period_s=0.01)))
    rig.poll_until(lambda: len(rig.samples["left"]) >= 20 and len(rig.samples["right"]) >= 20)
    for samples in rig.samples.values():
        assert [int(sample.data[0, 0, 0]) for sample in samples] == [n % 256 for n in range(1, len(samples) + 1)]
        assert all((np.diff(sample.data.ravel()) == 0).all() for sample in samples)
        assert all(rig.clock.start_ns < sample.t_ns <= rig.clock.now_ns() for sample in samples)
    assert {report.state for report in rig.capture.reports().values()} == {"running"}
    assert all(report.drops == {} and report.restarts == 0 for report in rig.capture.reports().values())


@pytest.mark.parametrize("fault", ["hangs", "crashes", "raises", "unplugged", "silent"])
def test_a_fault_costs_one_sensor_only_and_that_one_comes_back(
    fault: str, rigs: Callable[..., Rig], tmp_path: Path
) -> None:
    bad = FaultyOptions(fault=fault, mark=tmp_path / "mark")
    rig = rigs(spec("bad", bad), spec("good", FaultyOptions(after=10**9)))
    rig.poll_until_received("bad", bad.after + 5)
    report = rig.capture.reports()["bad"]
    expected = {
        "hangs": "hung for 1",
        "crashes": "SIGSEGV",
        "raises": "ZeroDivisionError: a bug in the driver",
        "unplugged": "it went away",
        "silent": "no sample for",
    }[fault]
    assert expected in report.error
    assert "\n" not in report.error
    assert report.state == "running"
    assert report.restarts == (0 if fault in ("unplugged", "silent") else 1)
    numbers = [int(sample.data[0, 0, 0]) for sample in rig.samples["good"]]
    assert numbers == [n % 256 for n in range(1, len(numbers) + 1)]
    assert rig.capture.reports()["good"].restarts == 0


def test_a_driver_that_computes_for_long_is_slow_but_not_hung(rigs: Callable[..., Rig], tmp_path: Path) -> None:
    slow = FaultyOptions(fault="computes", mark=tmp_path / "mark")
    rig = rigs(spec("slow", slow))
    rig.poll_until_received("slow", slow.after + 5)
    report = rig.capture.reports()["slow"]
    assert slow.mark.exists()
    assert (report.restarts, report.error) == (0, "")


@pytest.mark.parametrize("attack", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_killed_or_stopped_is_replaced(attack: signal.Signals, rigs: Callable[..., Rig]) -> None:
    rig = rigs(spec("camera", FaultyOptions(after=10**9)))
    rig.poll_until_received("camera", 5)
    pid = rig.pid("camera")
    os.kill(pid, attack)
    rig.poll_until(lambda: rig.capture.reports()["camera"].state == "lost")
    rig.poll_until(lambda: rig.capture.reports()["camera"].state == "running")
    assert rig.capture.reports()["camera"].restarts == 1
    assert rig.pid("camera") != pid
    assert not Path(f"/proc/{pid}").exists()


def test_a_device_that_appears_later_is_found_and_logged_once(
    rigs: Callable[..., Rig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = FaultyOptions(fault="absent", mark=tmp_path / "mark")
    with caplog.at_level(logging.INFO):
        rig = rigs(spec("camera", options))
        rig.poll_until(lambda: "plug it in" in rig.capture.reports()["camera"].error)
        assert rig.capture.reports()["camera"].state == "lost"
        options.mark.touch()
        rig.poll_until_received("camera", 1)
    assert rig.capture.reports()["camera"].restarts == 0  # a failed connect needs no new process
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "camera: camera: there is no device; plug it in"
    ]


@pytest.mark.parametrize(
    ("fault", "error"), [("bad option", "height is -1; give a positive one"), ("missing library", "install it")]
)
def test_what_only_a_person_can_mend_is_told_once(fault: str, error: str, rigs: Callable[..., Rig]) -> None:
    rig = rigs(spec("camera", FaultyOptions(fault=fault)))
    sensor = rig.capture._sensors["camera"]
    assert isinstance(sensor, CapturedSensor)
    rig.poll_until(lambda: rig.capture.reports()["camera"].state == "lost" and sensor._running is None)
    assert error in rig.capture.reports()["camera"].error
    assert sensor._next_start_ns - rig.clock.now_ns() > 20e9
    assert not rig.capture.ended


def test_a_device_that_keeps_giving_another_rate_is_told_of_once_and_tried_again_later(
    rigs: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    rig = rigs(spec("imu", FaultyOptions(fault="another rate")))
    sensor = rig.capture._sensors["imu"]
    assert isinstance(sensor, CapturedSensor)
    rig.poll_until(lambda: len(rig.samples["imu"]) >= 20 and sensor._running is None)
    assert rig.capture.reports()["imu"].state == "lost"
    assert "rate_hz was asked as 50 but the device gives" in rig.capture.reports()["imu"].error
    assert sensor._next_start_ns - rig.clock.now_ns() > 20e9
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_a_module_that_cannot_be_imported_is_told_in_one_line(rigs: Callable[..., Rig]) -> None:
    rig = rigs(spec("camera", FaultyOptions(), driver="faulty_import:Camera"))
    rig.poll_until(lambda: rig.capture.reports()["camera"].state == "lost")
    assert "RuntimeError: this module is broken" in rig.capture.reports()["camera"].error


def test_hanging_in_connect_is_ended_too(
    rigs: Callable[..., Rig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture_sensor, "CONNECT_LIMIT_S", 3.0)
    rig = rigs(spec("camera", FaultyOptions(fault="hangs in connect", mark=tmp_path / "mark")))
    rig.poll_until_received("camera", 3)
    assert "while opening" in rig.capture.reports()["camera"].error


def test_garbage_is_dropped_and_counted(rigs: Callable[..., Rig]) -> None:
    rig = rigs(spec("camera", FaultyOptions(fault="garbage")))
    rig.poll_until_received("camera", 10)
    assert [int(sample.data[0, 0, 0]) for sample in rig.samples["camera"]][:10] == list(range(1, 20, 2))
    assert rig.capture.reports()["camera"].drops["bad data"] >= 9


def test_samples_that_are_too_large_are_counted_and_the_user_is_told(rigs: Callable[..., Rig]) -> None:
    rig = rigs(spec("camera", FaultyOptions(height=30)))
    rig.poll_until(lambda: rig.capture.reports()["camera"].state == "lost")
    report = rig.capture.reports()["camera"]
    assert report.drops["too large"] >= 1
    assert "[30, 30, 3] does not fit into the 1000 bytes reserved" in report.error
    assert rig.samples["camera"] == []


def test_a_consumer_that_falls_behind_loses_the_oldest_and_knows_how_many(rigs: Callable[..., Rig]) -> None:
    options = FaultyOptions(period_s=0.001, after=300, fault="ends")
    rig = rigs(spec("camera", options))
    rig.poll_until_received("camera", 1)
    os.waitid(os.P_PID, rig.pid("camera"), os.WEXITED | os.WNOWAIT)
    rig.poll_until(lambda: rig.capture.ended)
    numbers = [int(sample.data[0, 0, 0]) for sample in rig.samples["camera"]]
    assert numbers[-64:] == [n % 256 for n in range(237, 301)]
    assert len(numbers) + rig.capture.reports()["camera"].drops["ring full"] == 300


def test_the_end_of_a_recording_ends_the_source_after_its_last_sample(rigs: Callable[..., Rig]) -> None:
    rig = rigs(spec("camera", FaultyOptions(fault="ends", after=7)))
    rig.poll_until(lambda: rig.capture.ended)
    assert [int(sample.data[0, 0, 0]) for sample in rig.samples["camera"]] == [1, 2, 3, 4, 5, 6, 7]
    assert rig.capture.reports()["camera"].state == "ended"
    assert rig.capture.reports()["camera"].restarts == 0


def test_keep_latest_gives_the_newest_only_and_counts_the_rest() -> None:
    camera = spec("camera", FaultyOptions(period_s=0.001, after=50, fault="ends"))
    stream = Stream("camera", "vision", 1000, 1000, 1000, 0.1, "latest", 64, 0.1)
    rig = Rig(SensorSpec(camera.name, camera.type, camera.options, stream))
    rig.capture.start()
    os.waitid(os.P_PID, rig.pid("camera"), os.WEXITED | os.WNOWAIT)
    rig.poll_until(lambda: rig.capture.ended)
    rig.capture.stop()
    assert [int(sample.data[0, 0, 0]) for sample in rig.samples["camera"]] == [50]
    assert rig.capture.reports()["camera"].drops == {"superseded": 49}


def test_stop_lets_drivers_close_kills_the_hung_and_leaves_nothing(tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    polite = FaultyOptions(fault="says when closed", mark=tmp_path / "closed")
    hung = FaultyOptions(fault="hangs", mark=tmp_path / "mark", after=0)
    rig = Rig(spec("polite", polite), spec("hung", hung))
    rig.capture.start()
    rig.poll_until_received("polite", 1)
    rig.poll_until(hung.mark.exists)
    pids = [rig.pid("polite"), rig.pid("hung")]
    rig.capture.stop()
    rig.capture.stop()
    assert polite.mark.read_text() == "closed"
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert rig.capture.poll(0.1) == []
    assert rig.capture.ended
    rig.samples.clear()  # a sample that is kept keeps its memory mapped
    assert sorted(os.listdir("/proc/self/fd")) == before


PARENT = """
import sys, time
from faulty_drivers import FaultyOptions
from agent.capture.live import Capture
from agent.clock import RunClock
from agent.streams import SensorSpec
from agent.streams import Stream
stream = Stream("camera", "vision", 50, 50, 1000, 0.1, "all", 64, 0.1)
spec = SensorSpec("camera", "faulty_drivers:FaultyCamera", FaultyOptions(after=10**9), stream)
capture = Capture([spec], RunClock.start())
capture.start()
while not capture.poll(1.0):
    pass
print(capture._sensors["camera"]._running.process.pid, flush=True)
while True:
    capture.poll(1.0)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_capture_processes_die_with_their_parent_silently_and_leave_no_shared_memory(end: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    os.killpg(parent.pid, end)  # as Ctrl-C does
    _, printed = parent.communicate(timeout=DEADLINE_S)
    deadline_s = time.monotonic() + DEADLINE_S
    while _alive(pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert printed.count("Traceback") == (end == signal.SIGINT)  # the parent's own
    assert not [
        name for name in os.listdir("/dev/shm") if name.startswith(("psm_", "sensebind-ring", "sensebind-order"))
    ]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_capture_process_imports_no_torch_and_not_the_main_program(rigs: Callable[..., Rig]) -> None:
    rig = rigs(spec("camera", FaultyOptions(after=10**9)))
    rig.poll_until_received("camera", 1)
    mapped = Path(f"/proc/{rig.pid('camera')}/maps").read_text()
    assert "libtorch" not in mapped
    assert "cv2" not in mapped
    assert "memfd:sensebind-ring" in mapped


def test_a_remote_sensor_is_pushed_to_in_this_process(rigs: Callable[..., Rig]) -> None:
    options = driver_class("remote").Options(modality="imu", rate_hz=100.0)
    stream = Stream("imu", "imu", 100, 10, 1000, 1.0, "all", 3, 0.1)
    rig = rigs(SensorSpec("imu", "remote", options, stream), spec("camera", FaultyOptions()))
    remote = rig.capture.remotes.get("imu")
    assert remote is not None
    assert rig.capture.remotes.get("camera") is None
    rig.poll_until_received("camera", 1)
    rows = np.ones((10, 6), np.float32)
    remote.push(Sample(5, rows, 100.0))
    rig.poll_until_received("imu", 1)
    assert rig.samples["imu"][0].t_ns == 5
    for number in range(10):
        remote.push(Sample(number, rows, 100.0, lost=2))
    rig.poll_until(lambda: rig.samples["imu"][-1].t_ns == 9)
    drops = rig.capture.reports()["imu"].drops
    assert len(rig.samples["imu"]) + drops.get("ring full", 0) == 11
    assert drops["lost by driver"] == 20


@pytest.mark.parametrize("what", ["watch", "drain", "report"])
def test_a_fault_in_looking_after_one_sensor_costs_that_one(
    what: str, rigs: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = rigs(spec("left", FaultyOptions()), spec("right", FaultyOptions()))
    rig.poll_until_received("left", 5)
    rig.poll_until_received("right", 5)
    with monkeypatch.context() as broken:
        broken.setattr(rig.capture._sensors["left"], what, lambda: 1 // 0)
        count, faults = len(rig.samples["right"]), rig.capture._faults
        rig.poll_until_received("right", count + 20)
        assert faults.first("left").startswith("ZeroDivisionError")
        assert faults.counts().keys() == {"left"}
        looks = faults.of("left")
        rig.poll_until_received("right", count + 40)
        assert faults.of("left") - looks < 60, "it is not tried without a pause"
    rig.poll_until_received("left", len(rig.samples["left"]) + 5)
    assert rig.capture.reports()["left"].state == "running"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (
            errno.EAGAIN,
            "no further process is allowed to start its driver; raise the limit with ulimit -u or TasksMax=",
        ),
        (errno.ENOMEM, "no memory is left to start its driver"),
        (errno.EACCES, "its process could not be started: "),
    ],
)
def test_a_start_that_the_system_refuses_is_told_once_and_tried_again(
    number: int,
    message: str,
    rigs: Callable[..., Rig],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = []

    def refuse(*_: object, **__: object) -> None:
        begun.append(1)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as refused:
        refused.setattr(subprocess, "Popen", refuse)
        rig = rigs(spec("left", FaultyOptions()))
        before = len(os.listdir("/proc/self/fd"))
        rig.poll_until(lambda: len(begun) >= 4)
        assert len(os.listdir("/proc/self/fd")) == before
    assert rig.capture.reports()["left"].error.startswith(message)
    assert sum(message in record.message for record in caplog.records) == 1
    rig.poll_until_received("left", 5)
    assert rig.capture._faults.counts() == {}


def test_a_fault_in_a_start_is_counted_and_tried_again(
    rigs: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("pickle.dumps", lambda _: 1 // 0)
        rig = rigs(spec("left", FaultyOptions()))
        rig.poll_until(lambda: rig.capture._faults.of("left") >= 2)
        assert rig.capture.reports()["left"].state == "lost"
    rig.poll_until_received("left", 5)


def test_a_fault_in_a_remote_sensor_costs_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = SensorSpec(
        "pushed", "remote", RemoteOptions("imu", 100.0), Stream("pushed", "imu", 100.0, 10.0, 1000, 1.0, "all", 64, 0.1)
    )
    rig = Rig(remote)
    rig.capture.start()
    driver = rig.capture.remotes["pushed"]
    rows = np.zeros((10, 6), np.float32)
    try:
        rig.poll_until(lambda: driver._open)
        monkeypatch.setattr("agent.capture.remote.check_form", lambda sample, _: 1 // sample.lost)
        for lost in (1, 0, 1):
            driver.push(Sample(rig.clock.now_ns(), rows, 100.0, lost))
        rig.poll_until_received("pushed", 2)
        assert rig.capture._faults.counts() == {"pushed": 1}
    finally:
        rig.capture.stop()
