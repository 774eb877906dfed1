"""Real sources for tests: network cameras, a sound server's microphone, a serial IMU, PNG recordings.

Each is a context manager with `start`, `stop` and `restart`; `stop` takes the source away as if its plug were
pulled, and `start` brings it back under the same address. `missing` says which system package a test must skip for.
"""

from __future__ import annotations

import contextlib
import math
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tty
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soundfile
from numpy.typing import NDArray

START_S = 20.0
SYSTEM_PYTHON = "/usr/bin/python3"
BARS = ("grey", "yellow", "cyan", "green", "magenta", "red", "blue")
"""Colours of the upper part of SMPTE test bars, left to right; both network cameras show them."""

_RTSP_SCRIPT = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(); server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory(); factory.set_shared(True)
factory.set_launch("( videotestsrc is-live=true pattern=smpte ! " + sys.argv[2] + " ! jpegenc ! rtpjpegpay name=pay0 )")
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
GLib.MainLoop().run()
"""


def missing(*needs: str) -> str | None:
    """Why a test that needs these of 'ffmpeg', 'gstreamer', 'pulseaudio', 'portaudio' cannot run; None when it can."""
    checks: dict[str, tuple[Callable[[], bool], str]] = {
        "ffmpeg": (lambda: shutil.which("ffmpeg") is not None, "ffmpeg"),
        "gstreamer": (_has_rtsp_server, "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good python3-gi"),
        "pulseaudio": (
            lambda: all(shutil.which(c) for c in ("pulseaudio", "paplay", "pactl")) and _has_alsa_pulse(),
            "pulseaudio pulseaudio-utils libasound2-plugins",
        ),
        "portaudio": (_has_portaudio, "libportaudio2"),
    }
    absent = [package for need in needs for there, package in [checks[need]] if not there()]
    return f"not installed; sudo apt install {' '.join(absent)}" if absent else None


def wait_for(what: str, condition: Callable[[], bool], timeout_s: float = START_S) -> None:
    """Return when `condition` holds; fails the test when it does not come to hold in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.02)


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Source(ABC):
    """Something a driver can read from, that can be taken away and brought back."""

    @abstractmethod
    def start(self) -> None:
        """Bring it up; returns when it can be read from."""

    @abstractmethod
    def stop(self) -> None:
        """Take it away without a farewell; may be called again."""

    def restart(self) -> None:
        """Take it away and bring it back."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class MjpegServer(Source):
    """An HTTP Motion JPEG camera served by ffmpeg, one client at a time; the next may come when one has left."""

    def __init__(self, port: int | None = None, width: int = 320, height: int = 240, rate_hz: int = 15) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/camera.mjpg"
        picture = f"smptebars=size={width}x{height}:rate={rate_hz},noise=alls=6:allf=t"
        self._command = [
            "ffmpeg",
            "-hide_banner",
            "-loglevel",
            "quiet",
            "-nostdin",
            "-re",
            "-f",
            "lavfi",
            "-i",
            picture,
        ]
        self._command += ["-c:v", "mjpeg", "-q:v", "3", "-content_type", "multipart/x-mixed-replace; boundary=ffmpeg"]
        self._command += ["-listen", "1", "-f", "mpjpeg", self.url]
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start ffmpeg, and start it again whenever it exits because its client has left."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._respawn, daemon=True)
        self._thread.start()
        # It listens until the first client comes, which may be at once.
        wait_for(f"ffmpeg on port {self.port}", lambda: _listening(self.port, or_serving=True))

    def stop(self) -> None:
        """Kill ffmpeg."""
        self._stopping.set()
        if self._process is not None:
            self._process.kill()
        if self._thread is not None:
            self._thread.join()

    def _respawn(self) -> None:
        while not self._stopping.wait(0.02):
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
            if self._stopping.is_set():
                self._process.kill()
            self._process.wait()


class RtspServer(Source):
    """An RTSP camera (Motion JPEG over RTP) served by GStreamer, for any number of clients."""

    def __init__(self, port: int | None = None, width: int = 320, height: int = 240, rate_hz: int = 15) -> None:
        self.port = port or free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/camera"
        caps = f"video/x-raw,format=I420,width={width},height={height},framerate={rate_hz}/1"
        self._command = [SYSTEM_PYTHON, "-c", _RTSP_SCRIPT, str(self.port), caps]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server."""
        self.process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        wait_for(f"RTSP server on port {self.port}", lambda: _listening(self.port))

    def stop(self) -> None:
        """Kill the server."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class NullSinkMicrophone(Source):
    """A 4-channel microphone array: the monitor of a null sink of a private PulseAudio, with a wave played into it.

    A driver finds it as the ALSA device `mic4` when its process runs with `environment`.
    """

    device = "mic4"
    channels = 4
    rate_hz = 16_000

    def __init__(self, directory: Path, wave: NDArray[np.float32]) -> None:
        """`wave` float32 [n, 4] at 16 kHz is played over and over; `directory` is for the server's own files."""
        self._directory = directory
        self._socket = directory / "pulse.socket"
        self._wave = directory / "wave.wav"
        soundfile.write(self._wave, wave, self.rate_hz, subtype="PCM_16")
        server = f"unix:{self._socket}"
        # the hint puts the device on the list; the channel positions below are a surround set's, because with
        # aux0..aux3 the ALSA plugin records silence
        (directory / ".asoundrc").write_text(
            f'pcm.{self.device} {{ type pulse\n server "{server}"\n device array.monitor\n'
            f' hint {{ show on\n description "{self.device}" }} }}\n'
        )
        self.environment = {
            **os.environ,
            "HOME": str(directory),
            "XDG_RUNTIME_DIR": str(directory),
            "PULSE_SERVER": server,
            "PULSE_COOKIE": str(directory / "cookie"),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._player: subprocess.Popen[bytes] | None = None
        self._listener: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and the player."""
        # named at both ends, because paplay takes four channels for left, right, centre and rear, and would mix them
        order = "front-left,front-right,rear-left,rear-right"
        sink = f"sink_name=array rate={self.rate_hz} channels={self.channels} channel_map={order}"
        play = f"paplay --device=array --channel-map={order} '{self._wave}'"
        command = [
            "pulseaudio",
            "-n",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--use-pid-file=no",
            "--disable-shm=yes",
        ]
        command += ["-L", f"module-native-protocol-unix auth-anonymous=1 socket={self._socket}"]
        command += ["-L", f"module-null-sink {sink}"]
        self.process = subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL)
        wait_for("PulseAudio", lambda: self._pactl("info") and self._pactl("list", "short", "sinks"))
        # a null sink hands out two seconds at a time until somebody wants less: a listener makes it a live device
        self._listener = subprocess.Popen(
            ["parec", "--device=array.monitor", "--latency-msec=10", "--rate=16000", "--channels=1"],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._player = subprocess.Popen(
            ["sh", "-c", f"while :; do {play}; sleep 0.05; done"],
            env=self.environment,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for("the player", lambda: b"paplay" in self._list("sink-inputs"))
        wait_for("a small latency", self._is_live)

    def stop(self) -> None:
        """Kill the server and the player."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        self.process = None
        if self._player is not None:
            os.killpg(self._player.pid, signal.SIGKILL)
            self._player.wait()
            self._player = None
        if self._listener is not None:
            self._listener.kill()
            self._listener.communicate()
            self._listener = None

    def freeze(self) -> None:
        """Let the server stall: connected, but silent."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def _is_live(self) -> bool:
        found = re.search(rb"Latency: (\d+) usec, configured (\d+) usec", self._list("sinks"))
        return found is not None and max(int(found[1]), int(found[2])) < 100_000

    def _pactl(self, *words: str) -> bool:
        return subprocess.run(["pactl", *words], env=self.environment, capture_output=True).returncode == 0

    def _list(self, what: str) -> bytes:
        return subprocess.run(["pactl", "list", what], env=self.environment, capture_output=True).stdout


Motion = Callable[[float], tuple[float, float, float, float, float, float]]


def swaying(t_s: float) -> tuple[float, float, float, float, float, float]:
    """Standing upright and turning to and fro: accelerometer in m/s2, gyroscope in rad/s."""
    return (0.0, 0.0, 9.80665, 0.0, 0.0, math.sin(2 * math.pi * t_s))


class PtyImu(Source):
    """An IMU on a pseudo-terminal that sends WitMotion frames, under a name that stays the same."""

    def __init__(self, link: Path, rate_hz: float = 100.0, motion: Motion = swaying) -> None:
        self.link = link
        self.rate_hz = rate_hz
        self._motion = motion
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._noise: list[bytes] = []

    def start(self) -> None:
        """Open the pseudo-terminal, link its name, and send until stopped."""
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.link.symlink_to(os.ttyname(self._slave))
        self._stopping.clear()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Pull the plug: the port vanishes under whoever has it open."""
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join()
        self._thread = None
        self.link.unlink()
        os.close(self._master)
        os.close(self._slave)

    def inject(self, noise: bytes) -> None:
        """Put bytes between two measurements."""
        self._noise.append(noise)

    def _send(self) -> None:
        begin, row = time.monotonic(), 0
        while not self._stopping.wait(max(0.0, begin + row / self.rate_hz - time.monotonic())):
            data = b"".join(wit_frames(self._motion(row / self.rate_hz)))
            while self._noise:
                data = self._noise.pop(0) + data
            with contextlib.suppress(BlockingIOError):  # nobody reads, the buffer is full: an IMU does not wait either
                os.write(self._master, data)
            row += 1


def wit_frames(row: tuple[float, ...]) -> tuple[bytes, bytes]:
    """The acceleration and the angular-rate frame of a row in m/s2 and rad/s, at +-16 g and +-2000 deg/s."""
    accel = [round(v / (16 * 9.80665) * 32768) for v in row[:3]]
    gyro = [round(math.degrees(v) / 2000 * 32768) for v in row[3:]]
    return wit_frame(0x51, (*accel, 2500)), wit_frame(0x52, (*gyro, 2500))


def wit_frame(kind: int, values: tuple[int, ...]) -> bytes:
    """A WitMotion frame of four int16."""
    body = struct.pack("<BB4h", 0x55, kind, *values)
    return body + bytes([sum(body) & 0xFF])


class PngSequence(Source):
    """A directory of 16-bit PNG images; image k holds `first + k * step` in its upper half, `first` in its lower."""

    def __init__(
        self, directory: Path, first: int, step: int, count: int = 20, width: int = 160, height: int = 120
    ) -> None:
        import cv2

        self.directory = directory
        self._away = directory.with_name(directory.name + ".away")
        self._away.mkdir(parents=True)
        for k in range(count):
            image = np.full((height, width), first, np.uint16)
            image[: height // 2] += np.uint16(k * step)
            cv2.imwrite(str(self._away / f"{k}.png"), image)

    def start(self) -> None:
        """Put the directory in its place."""
        self._away.rename(self.directory)

    def stop(self) -> None:
        """Take the directory away."""
        if self.directory.exists():
            self.directory.rename(self._away)


def _listening(port: int, *, or_serving: bool = False) -> bool:
    """Whether a process of this machine listens on the port; asks the kernel, because ffmpeg serves one client only."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] in ("0A", "01" if or_serving else "0A") and int(fields[1].rpartition(":")[2], 16) == port:
                return True
    return False


def _has_rtsp_server() -> bool:
    if not Path(SYSTEM_PYTHON).exists():
        return False
    script = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer;"
        "Gst.init(None); assert Gst.ElementFactory.find('jpegenc') and Gst.ElementFactory.find('rtpjpegpay')"
    )
    return subprocess.run([SYSTEM_PYTHON, "-c", script], capture_output=True).returncode == 0


def _has_alsa_pulse() -> bool:
    return any(Path("/usr/lib").glob("**/alsa-lib/libasound_module_pcm_pulse.so"))


def _has_portaudio() -> bool:
    return subprocess.run([sys.executable, "-c", "import sounddevice"], capture_output=True).returncode == 0
