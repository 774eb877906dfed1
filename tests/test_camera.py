"""Cameras: colours, times and faults of files, of HTTP and RTSP servers, and of what is no camera."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from real_sources import BARS, MjpegServer, RtspServer, free_port, missing
from web_camera import comes_back, live

from agent.clock import ManualClock, RunClock
from drivers.camera import Camera, CameraOptions
from drivers.driver import (
    BadOption,
    DeviceNotFound,
    Disconnected,
    DriverError,
    EndOfStream,
    FormatMismatch,
    ReadTimeout,
    Sample,
)
from drivers.frame_thread import FrameThread
from drivers.http_access import without_password
from drivers.v4l2 import stamp_age_ns

LIT = {
    "grey": (True, True, True),
    "yellow": (True, True, False),
    "cyan": (False, True, True),
    "green": (False, True, False),
    "magenta": (True, False, True),
    "red": (True, False, False),
    "blue": (False, False, True),
}
"""Which of red, green and blue are lit in a bar; how brightly depends on the server."""


V4L_LIMIT = "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 30 frames at 10 a second; the red of frame k is 5 k + 50."""
    path = tmp_path_factory.mktemp("video") / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for k in range(30):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[..., 2] = 5 * k + 50
        writer.write(frame)
    writer.release()
    return path


class TestFile:
    def test_frames_are_rgb_in_order_at_their_times(self, video: Path) -> None:
        clock = ManualClock(start_ns=7_000_000_000)
        with Camera(CameraOptions(str(video), pace="fast", loop=False, latency_ms=30.0), clock) as camera:
            samples = [camera.read(0.1) for _ in range(30)]
            with pytest.raises(EndOfStream):
                camera.read(0.1)
        assert [round(float(s.data[..., 0].mean()) - 50) // 5 for s in samples] == pytest.approx(range(30), abs=1)
        assert all(s.data.shape == (48, 64, 3) and s.data.dtype == np.uint8 for s in samples)
        assert max(float(s.data[..., 1:].mean()) for s in samples) < 12
        times_s = [(s.t_ns - 7_000_000_000) / 1e9 + 0.030 for s in samples]
        assert np.allclose(times_s, np.arange(30) / 10, atol=0.001)

    def test_a_loop_goes_on_without_a_jump(self, video: Path) -> None:
        with Camera(CameraOptions(str(video), pace="fast"), ManualClock()) as camera:
            samples = [camera.read(0.1) for _ in range(65)]
        assert np.allclose(np.diff([s.t_ns for s in samples]) / 1e9, 0.1, atol=0.001)
        assert np.array_equal(samples[4].data, samples[34].data)
        assert np.array_equal(samples[4].data, samples[64].data)

    def test_real_pace_waits_for_the_clock(self, video: Path) -> None:
        clock = ManualClock()
        with Camera(CameraOptions(str(video)), clock) as camera:
            for _ in range(10):
                sample = camera.read(1.0)
                assert clock.now_ns() == sample.t_ns
            with pytest.raises(ReadTimeout):
                camera.read(0.04)
            assert camera.read(0.1).t_ns == pytest.approx(1.0e9, abs=2e6)

    def test_joined_late_it_plays_what_is_due_by_then(self, video: Path) -> None:
        clock = ManualClock()
        clock.sleep_until(7_500_000_000)  # two laps of 3 s and a half
        with Camera(CameraOptions(str(video)), clock) as camera:
            sample = camera.read(1.0)
        assert sample.t_ns == pytest.approx(7.5e9, abs=2e6)
        assert float(sample.data[..., 0].mean()) == pytest.approx(50 + 5 * 15, abs=4)
        with pytest.raises(EndOfStream), Camera(CameraOptions(str(video), loop=False), clock):
            pass

    @pytest.mark.parametrize(("option", "value"), [("width", 65), ("height", 47), ("rate_hz", 25.0)])
    def test_another_size_or_rate_is_refused(self, video: Path, option: str, value: float) -> None:
        options = TypeAdapter(CameraOptions).validate_python({"source": str(video), option: value})
        with pytest.raises(FormatMismatch, match=f"{option} was asked as {value:g}"):
            Camera(options, ManualClock()).connect()

    def test_missing_and_unreadable(self, tmp_path: Path) -> None:
        with pytest.raises(DeviceNotFound, match=r"none\.mp4: no such file"):
            Camera(CameraOptions(str(tmp_path / "none.mp4")), ManualClock()).connect()
        (tmp_path / "notes.mp4").write_text("this is no video")
        with pytest.raises(BadOption, match=r"notes\.mp4.*not a video"):
            Camera(CameraOptions(str(tmp_path / "notes.mp4")), ManualClock()).connect()

    def test_names_that_are_no_utf_8_do_not_end_the_process(self, tmp_path: Path) -> None:
        name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")
        Path(name).touch()
        with pytest.raises(BadOption, match=r"\\udcff.mp4': a name that is not UTF-8.*rename the file"):
            Camera(CameraOptions(name), ManualClock()).connect()
        with pytest.raises(BadOption, match=r"'rtsp://127.0.0.1:1/\\udcff', a name that is not UTF-8"):
            Camera(CameraOptions("rtsp://anna:secret@127.0.0.1:1/\udcff"), ManualClock()).connect()


class TestOptions:
    @pytest.mark.parametrize(
        "bad", [{"source": ""}, {"source": -1}, {"width": 0}, {"rate_hz": float("nan")}, {"pixel_format": "MJPEG"}]
    )
    def test_impossible_values(self, bad: dict[str, object]) -> None:
        options = TypeAdapter(CameraOptions).validate_python(bad)
        with pytest.raises(BadOption, match=next(iter(bad))):
            Camera(options, ManualClock())

    def test_they_are_typed_and_can_be_pickled(self) -> None:
        with pytest.raises(ValidationError):
            TypeAdapter(Camera.Options).validate_python({"width": "wide"})
        options = CameraOptions("rtsp://host/1", width=640)
        assert pickle.loads(pickle.dumps(options)) == options

    def test_a_missing_device_names_what_to_do(self) -> None:
        with pytest.raises(DeviceNotFound, match=r"/dev/video97: no such device.*v4l2-ctl --list-devices"):
            Camera(CameraOptions(97), ManualClock()).connect()

    def test_what_is_no_camera(self) -> None:
        with pytest.raises(DriverError, match=r"/dev/null: (not a video capture device|.* is using it)"):
            Camera(CameraOptions("/dev/null"), ManualClock()).connect()

    def test_passwords_are_not_shown(self) -> None:
        port = free_port()
        with pytest.raises(DeviceNotFound) as caught:
            Camera(CameraOptions(f"http://anna:secret@127.0.0.1:{port}/"), RunClock.start()).connect()
        assert "secret" not in str(caught.value)
        assert str(port) in str(caught.value)
        assert without_password("rtsp://u:p@host/x@y") == "rtsp://host/x@y"
        assert without_password("http://u:p@ss@host:80/x") == "http://host:80/x"
        assert without_password("http://host?mail=u@host") == "http://host?mail=u@host"

    def test_a_stalled_device_is_not_waited_for_long(self, tmp_path: Path) -> None:
        """OpenCV reads its limit when it is imported; here in the place of OpenCV is what tells its environment."""
        (tmp_path / "cv2.py").write_text(f"import os; limit_s = os.environ['{V4L_LIMIT}']")
        code = "from drivers.opencv import import_cv2; print(import_cv2().limit_s)"
        plain = {name: value for name, value in os.environ.items() if name != V4L_LIMIT}
        for asked, limit_s in (({}, "2"), ({V4L_LIMIT: "7"}, "7")):
            environment = {**plain, **asked, "PYTHONPATH": str(tmp_path)}
            told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
            assert told.stdout.decode().strip() == limit_s


def check_bars(image: NDArray[np.uint8]) -> None:
    """The upper part shows the bars, left to right, in RGB."""
    width = image.shape[1] / len(BARS)
    for k, name in enumerate(BARS):
        patch = image[30:100, round((k + 0.3) * width) : round((k + 0.7) * width)]
        red_green_blue = patch.mean((0, 1))
        assert tuple(red_green_blue > 128) == LIT[name], name
        assert np.all((red_green_blue > 160) | (red_green_blue < 60)), name


def check_survives_restart(server: MjpegServer | RtspServer) -> None:
    """Colours and times are right; a killed server is Disconnected, and a new connect works when it is back."""
    clock = RunClock.start()
    with server:
        camera = Camera(CameraOptions(server.url, width=320, height=240), clock)
        with camera:
            samples = live(camera, 10)
            assert all(s.t_ns <= clock.now_ns() for s in samples)
            assert all(b.t_ns > a.t_ns for a, b in itertools.pairwise(samples))
            check_bars(samples[-1].data)
            server.stop()
            comes_back(camera, Disconnected)
            camera.close()
            with pytest.raises(DeviceNotFound):
                camera.connect()
            server.start()
            camera.connect()
            check_bars(live(camera, 1)[0].data)


@pytest.mark.hardware
@pytest.mark.skipif(missing("ffmpeg") is not None, reason=str(missing("ffmpeg")))
def test_http_camera_of_ffmpeg() -> None:
    check_survives_restart(MjpegServer())


@pytest.mark.hardware
@pytest.mark.skipif(missing("gstreamer") is not None, reason=str(missing("gstreamer")))
def test_rtsp_camera_of_gstreamer() -> None:
    check_survives_restart(RtspServer())


class TestFrameThread:
    def test_the_newest_is_read_and_the_others_are_counted(self) -> None:
        grabbed = itertools.count()
        all_grabbed, unblock = threading.Event(), threading.Event()

        def grab() -> Sample:
            k = next(grabbed)
            if k == 20:
                all_grabbed.set()
                unblock.wait(30)
            return Sample(k, np.zeros((1, 1, 3), np.uint8))

        frames = FrameThread("camera", grab, lambda: None)
        assert all_grabbed.wait(5)
        newest = frames.read(1.0)
        assert (newest.t_ns, newest.lost) == (19, 19)
        unblock.set()
        frames.close()

    def test_a_blocked_source_times_out_and_close_returns(self) -> None:
        unblock, released = threading.Event(), threading.Event()

        def grab() -> Sample:
            unblock.wait(30)
            raise Disconnected("gone")

        frames = FrameThread("camera", grab, released.set)
        with pytest.raises(ReadTimeout):
            frames.read(0.01)
        frames.close()
        assert not released.is_set(), "a device must not be released under a blocked read"
        unblock.set()
        assert released.wait(5)

    def test_the_end_is_told_to_every_later_read(self) -> None:
        def grab() -> Sample:
            raise Disconnected("gone")

        frames = FrameThread("camera", grab, lambda: None)
        for _ in range(2):
            with pytest.raises(Disconnected, match="gone"):
                frames.read(5.0)

    def test_what_is_no_driver_error_reaches_the_reader_too(self) -> None:
        released = threading.Event()

        def grab() -> Sample:
            raise ZeroDivisionError("in\na driver")

        frames = FrameThread("camera", grab, released.set)
        with pytest.raises(Disconnected, match="camera: ZeroDivisionError: in a driver"):
            frames.read(5.0)
        assert released.is_set()


def test_a_buffer_stamp_of_another_clock_is_not_used() -> None:
    now = 5_000_000_000_000
    assert stamp_age_ns(4_999_970.0, now) == 30_000_000
    assert stamp_age_ns(0.0, now) == 0
    assert stamp_age_ns(1_700_000_000_000.0, now) == 0
