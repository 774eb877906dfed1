"""Cameras: colours, times and faults of files, of HTTP and RTSP servers, and of what is no camera."""

from __future__ import annotations

import base64
import http.server
import itertools
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from real_sources import BARS, MjpegServer, RtspServer, free_port, missing

from agent.clock import ManualClock, RunClock
from drivers.camera import Camera, CameraOptions
from drivers.driver import (
    BadData,
    BadOption,
    DeviceNotFound,
    Disconnected,
    Driver,
    DriverError,
    EndOfStream,
    FormatMismatch,
    ReadTimeout,
    Sample,
)
from drivers.frame_thread import FrameThread
from drivers.mjpeg import MAX_PART_BYTES, PartParser, open_mjpeg, without_password
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


def jpeg(value: int = 90, width: int = 64, height: int = 48) -> bytes:
    """A picture whose red channel has this value."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = value
    return cv2.imencode(".jpg", image)[1].tobytes()


def multipart(*bodies: bytes, length: bool = True) -> bytes:
    """An HTTP body as network cameras send it."""
    header = b"\r\n--frame\r\nContent-Type: image/jpeg\r\n"
    return b"".join(
        header + (b"Content-Length: %d\r\n" % len(body) if length else b"") + b"\r\n" + body for body in bodies
    )


def live(camera: Driver, wanted: int, deadline_s: float = 20.0) -> list[Sample]:
    """The next samples of a live camera, reading on over time-outs."""
    samples: list[Sample] = []
    end = time.monotonic() + deadline_s
    while len(samples) < wanted and time.monotonic() < end:
        try:
            samples.append(camera.read(0.5))
        except ReadTimeout:
            continue
    assert len(samples) == wanted
    return samples


def comes_back(camera: Driver, error: type[DriverError], deadline_s: float = 20.0) -> DriverError:
    """Read until this error is raised."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        try:
            camera.read(0.5)
        except ReadTimeout:
            continue
        except error as raised:
            return raised
    raise AssertionError(f"no {error.__name__} within {deadline_s} s")


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


class Web:
    """An HTTP server of one answer; with `challenge` it asks for a password, and keeps what it was given."""

    def __init__(self, kind: str, chunks: Callable[[], Iterator[bytes]], challenge: str = "") -> None:
        self.credentials: list[str | None] = []
        credentials = self.credentials

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                credentials.append(self.headers.get("Authorization"))
                if challenge and credentials[-1] is None:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", challenge)
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()
                try:
                    for chunk in chunks():
                        self.wfile.write(chunk)
                except OSError:
                    return

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class TestMjpeg:
    KIND = "multipart/x-mixed-replace; boundary=frame"

    def test_a_truncated_picture_is_bad_data_and_the_next_is_read(self) -> None:
        whole = jpeg(200)
        step = threading.Semaphore(0)

        def chunks() -> Iterator[bytes]:
            for body in itertools.cycle((whole[: len(whole) // 2], whole)):
                step.acquire(timeout=10)
                yield multipart(body)

        with Web(self.KIND, chunks) as web, Camera(CameraOptions(web.url), RunClock.start()) as camera:
            for _ in range(3):
                step.release()
                error = comes_back(camera, BadData)
                assert "truncated JPEG" in str(error)
                step.release()
                [sample] = live(camera, 1)
                assert float(sample.data[..., 0].mean()) == pytest.approx(200, abs=6)

    def test_a_size_that_was_not_asked(self) -> None:
        pictures = itertools.repeat(multipart(jpeg()))
        with Web(self.KIND, lambda: pictures) as web:
            camera = Camera(CameraOptions(web.url, width=64, height=50), RunClock.start())
            camera.connect()
            error = comes_back(camera, FormatMismatch)
            camera.close()
        assert "height was asked as 50 but the device gives 48" in str(error)

    def test_a_picture_of_another_size_than_the_first_is_bad_data(self) -> None:
        bodies = [jpeg(10), jpeg(20, width=32, height=24), *[jpeg(30)] * 3]
        with (
            Web(self.KIND, lambda: iter([multipart(*bodies)])) as web,
            Camera(CameraOptions(web.url), RunClock.start()) as camera,
        ):
            error = comes_back(camera, BadData)
            assert "a picture of 32x24 pixels came among those of 64x48" in str(error)
            assert web.url in str(error)
            [sample] = live(camera, 1)
            assert sample.data.shape == (48, 64, 3)

    def test_a_camera_that_was_set_to_another_size_is_read_once_connected_again(self) -> None:
        sizes = iter([(32, 24), (16, 12)])
        with Web(self.KIND, lambda: iter([multipart(*[jpeg(5, *next(sizes))] * 3)])) as web:
            camera = Camera(CameraOptions(web.url), RunClock.start())
            for height in (24, 12):
                with camera:
                    [sample] = live(camera, 1)
                    assert sample.data.shape[0] == height

    def test_what_is_no_motion_jpeg(self) -> None:
        with Web("text/html", lambda: iter([b"<html>hello</html>"])) as web:
            camera = Camera(CameraOptions(web.url), RunClock.start())
            with pytest.raises(DeviceNotFound, match="no camera answers, or not with video"):
                camera.connect()

    def test_an_error_answer_is_told(self) -> None:
        class Absent(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_error(404)

            def log_message(self, *args: object) -> None:
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Absent) as server:
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            with pytest.raises(DeviceNotFound, match="404"):
                Camera(CameraOptions(f"http://127.0.0.1:{server.server_port}/"), RunClock.start()).connect()
            thread.join()

    def test_a_password_that_holds_an_at_sign_is_given_to_the_camera(self) -> None:
        with Web(self.KIND, lambda: iter([multipart(jpeg())]), 'Basic realm="camera"') as web:
            stream = open_mjpeg(web.url.replace("//", "//anna:p@ss@"), 5.0)
            assert stream is not None
            assert stream.receive() == jpeg()
            stream.release()
        assert web.credentials == [None, "Basic " + base64.b64encode(b"anna:p@ss").decode()]

    def test_a_challenge_that_makes_no_sense(self) -> None:
        with Web(self.KIND, lambda: iter([]), "Digest realm=") as web:
            address = web.url.replace("//", "//anna:pass@")
            with pytest.raises(DeviceNotFound, match="asks for a password in a way"):
                open_mjpeg(address, 5.0)

    def test_more_than_headers_are_is_no_part(self) -> None:
        parser = PartParser()
        many = b"--other\r\n" + b"a: b\r\n" * 33 + b"\r\n"
        assert parser.feed(many + multipart(jpeg(3))) == [jpeg(3)]
        assert PartParser().feed(b"--frame\r\n" + b"a: b\r\n" * 32 + b"\r\nbody\r\n--frame\r\n\r\n") == [b"body"]

    @pytest.mark.parametrize("unit", [b"\r\n--a", b"--", b"\r\n--" + b"x" * 300, b"\r\n" + b"y" * 1024])
    def test_a_part_is_found_after_hostile_bytes(self, unit: bytes) -> None:
        stream = unit * (64 * 2**10 // len(unit)) + multipart(jpeg(5), jpeg(6))
        assert PartParser().feed(stream)[-1] == jpeg(6)

    @pytest.mark.parametrize("length", [True, False])
    @given(cuts=st.lists(st.integers(0, 10_000), max_size=12))
    def test_parts_do_not_depend_on_how_they_arrive(self, length: bool, cuts: list[int]) -> None:
        bodies = [jpeg(k, 16, 16) for k in (0, 100, 255)]
        stream = multipart(*bodies, length=length) + b"\r\n--frame\r\n\r\n"
        edges = [0, *sorted(min(c, len(stream)) for c in cuts), len(stream)]
        parser = PartParser()
        found = [body for a, b in itertools.pairwise(edges) for body in parser.feed(stream[a:b])]
        assert found == bodies

    @given(junk=st.binary(max_size=2000))
    def test_junk_before_a_part_costs_nothing_else(self, junk: bytes) -> None:
        parser = PartParser()
        good = [jpeg(k, 16, 16) for k in (1, 2, 3, 4)]
        stream = junk.replace(b"--", b"") + multipart(*good)
        assert parser.feed(stream)[-3:] == good[-3:]

    def test_time_is_proportional_to_the_bytes_of_a_part(self) -> None:
        """Four times as long a part takes about four times as long: not sixteen, as when all is searched each time."""

        def cpu_s(megabytes: int) -> float:
            parser, chunk = PartParser(), bytes(4096)
            began_s = time.process_time()
            parser.feed(b"--frame\r\nX: y\r\n\r\n")
            for _ in range(megabytes * 256):
                assert parser.feed(chunk) == []
            assert parser.feed(b"\r\n--frame\r\n") == [bytes(megabytes * 2**20)]
            return time.process_time() - began_s

        shorter_s, longer_s = (min(cpu_s(megabytes) for _ in range(4)) for megabytes in (2, 8))
        assert longer_s < 9 * shorter_s

    def test_a_part_without_end_is_bounded(self) -> None:
        parser = PartParser()
        parser.feed(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n")
        for _ in range(MAX_PART_BYTES // 2**20 - 1):
            assert parser.feed(bytes(2**20)) == []
        with pytest.raises(BadData, match="a part of more than"):
            parser.feed(bytes(2**20))
        assert parser.feed(multipart(jpeg(7))) == [jpeg(7)]


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
