"""The options of every driver. Where no device is at hand its library is stood in for, the driver is the real one."""

from __future__ import annotations

import os
import struct
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import soundfile

from agent.clock import ManualClock, RunClock
from agent.config.parse import parse
from drivers.driver import BadData, BadOption, Clock, Driver, EndOfStream, FormatMismatch, Modality, ReadTimeout, Sample
from drivers.image_file import write_png
from drivers.registry import make_driver
from drivers.remote import Remote
from every_key import Row, Rows, differing

START_NS = 20_000_000_000
MS = 1_000_000
AUDIO_HZ = 8000


def driver(kind: str, clock: Clock, **options: Any) -> Driver:
    """An unconnected driver, as the configuration of a sensor makes it."""
    spec = parse({"sensors": {"sensor": {"type": kind, **options}}}).specs[0]
    return make_driver(spec.type, spec.options, clock)


def taken(kind: str, count: int, clock: Clock | None = None, **options: Any) -> list[Sample]:
    """Its first samples; fewer when it ends before."""
    samples: list[Sample] = []
    with driver(kind, clock or ManualClock(START_NS), **options) as opened, suppress(EndOfStream):
        while len(samples) < count:
            samples.append(opened.read(5.0))
    return samples


def outcome(act: Callable[[], Any]) -> str:
    """Which fault a wish raises that a source does not meet; "fits" when it does."""
    try:
        act()
    except (FormatMismatch, BadOption, BadData, ReadTimeout) as error:
        return type(error).__name__
    return "fits"


def shift_ms(sample: Sample) -> float:
    """How long before the start of the run a sample was captured by its stamp."""
    return (START_NS - sample.t_ns) / MS


def period_ms(samples: Sequence[Sample]) -> float:
    return (samples[1].t_ns - samples[0].t_ns) / MS


def waited_ms(kind: str, count: int, **options: Any) -> float:
    """By how much the clock went on while samples were read."""
    clock = ManualClock(START_NS)
    taken(kind, count, clock, **options)
    return (clock.now_ns() - START_NS) / MS


# Recordings in files.


def video(folder: Path, name: str = "any.avi", colour: tuple[int, int, int] = (40, 40, 40)) -> str:
    """Four frames of 64x48 at 10 Hz, in one colour (BGR)."""
    path = str(folder / name)
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for _ in range(4):
        writer.write(np.full((48, 64, 3), colour, np.uint8))
    writer.release()
    return path


def pictures(folder: Path, count: int = 1000, width: int = 8) -> str:
    """Three pictures of counts, 8 x 6."""
    folder.mkdir(exist_ok=True)
    for number in range(3):
        (folder / f"{number}.png").write_bytes(write_png(np.full((6, width), count, np.uint16)))
    return str(folder)


def wav(folder: Path, name: str = "any.wav", level: float = 0.1) -> str:
    """A second of two channels."""
    path = folder / name
    soundfile.write(path, np.full((AUDIO_HZ, 2), level, np.float32), AUDIO_HZ, subtype="FLOAT")
    return str(path)


def audio_file(folder: Path, **options: Any) -> dict[str, Any]:
    return {"path": wav(folder), "channels": 2, "rate_hz": AUDIO_HZ, "pace": "fast", **options}


def colour_of(source: str, folder: Path) -> str:
    """Which channel of a video's first frame is the brightest."""
    path = video(folder, source, {"red.avi": (10, 20, 200), "blue.avi": (200, 20, 10)}[source])
    return "RGB"[int(taken("camera", 1, source=path, pace="fast")[0].data.mean(axis=(0, 1)).argmax())]


def sound_level(path: str, folder: Path) -> float:
    found = taken("audio_file", 1, **audio_file(folder, path=wav(folder, path, 0.5 if path == "loud.wav" else 0.25)))
    return float(found[0].data.max())


def png_rows(kind: str, value_of: Callable[[float], float]) -> Rows:
    """The options that depth and thermal pictures in files share; `value_of` counts is what a pixel comes to."""

    def play(folder: Path, count: int = 3, **options: Any) -> list[Sample]:
        return taken(kind, count, **{"path": pictures(folder / "pictures"), "pace": "fast", **options})

    def place(path: str, folder: Path) -> float:
        for name, counts in (("near", 30_000), ("far", 40_000)):
            pictures(folder / name, counts)
        return float(play(folder, path=str(folder / path))[0].data[0, 0])

    return {
        "path": Row(
            place,
            ("near", pytest.approx(value_of(30_000), rel=1e-5)),
            ("far", pytest.approx(value_of(40_000), rel=1e-5)),
        ),
        "rate_hz": Row(lambda rate, folder: period_ms(play(folder, rate_hz=rate)), (4.0, 250.0), (20.0, 50.0)),
        "width": Row(
            lambda width, folder: outcome(lambda: play(folder, width=width)), (8, "fits"), (9, "FormatMismatch")
        ),
        "height": Row(
            lambda height, folder: outcome(lambda: play(folder, height=height)), (6, "fits"), (5, "FormatMismatch")
        ),
        "latency_ms": Row(lambda ms, folder: shift_ms(play(folder, latency_ms=ms)[0]), (20.0, 20.0), (70.0, 70.0)),
        "pace": Row(
            lambda pace, folder: waited_ms(kind, 3, path=pictures(folder / "pictures"), pace=pace, rate_hz=4.0),
            ("real", 500.0),
            ("fast", 0.0),
        ),
        "loop": Row(lambda loop, folder: len(play(folder, 5, loop=loop)), (True, 5), (False, 3)),
    }


# Video4Linux devices, stood in for at OpenCV's capture.


class StandInDevice:
    """A device that gives whatever is asked of it, in counts that tell which device it is."""

    opened: ClassVar[list[StandInDevice]] = []
    COUNTS: ClassVar[dict[str, int]] = {"/dev/null": 30_000, "/dev/zero": 40_000}

    def __init__(self, path: str, *_: Any) -> None:
        self.path = path
        self.asked: dict[int, float] = {
            cv2.CAP_PROP_FRAME_WIDTH: 64,
            cv2.CAP_PROP_FRAME_HEIGHT: 48,
            cv2.CAP_PROP_FPS: 25,
        }
        self.opened.append(self)

    def isOpened(self) -> bool:  # noqa: N802  as OpenCV's is called
        return True

    def set(self, key: int, value: float) -> None:
        self.asked[key] = value

    def get(self, key: int) -> float:
        return self.asked.get(key, 0.0)

    def read(self) -> tuple[bool, Any]:
        width, height = int(self.asked[cv2.CAP_PROP_FRAME_WIDTH]), int(self.asked[cv2.CAP_PROP_FRAME_HEIGHT])
        counts = self.COUNTS[self.path]
        if self.asked.get(cv2.CAP_PROP_CONVERT_RGB, 1) == 0:
            return True, np.full((height, width), counts, np.uint16)
        return True, np.full((height, width, 3), counts // 1000, np.uint8)

    def release(self) -> None:
        """Nothing is held."""


def from_device(kind: str, **options: Any) -> tuple[Sample, StandInDevice]:
    """The first picture of a stand-in, and the stand-in."""
    where = "source" if kind == "camera" else "device"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drivers.v4l2.video_capture", StandInDevice)
        (sample,) = taken(kind, 1, **{where: "/dev/null", **options})
    return sample, StandInDevice.opened.pop()


def device_rows(kind: str) -> Rows:
    """The options that all devices of pictures share, but for where they are."""
    return {
        "width": Row(lambda w, _: from_device(kind, width=w)[0].data.shape[1], (80, 80), (96, 96)),
        "height": Row(lambda h, _: from_device(kind, height=h)[0].data.shape[0], (60, 60), (72, 72)),
        "rate_hz": Row(lambda r, _: from_device(kind, rate_hz=r)[1].asked[cv2.CAP_PROP_FPS], (8.0, 8.0), (60.0, 60.0)),
        "latency_ms": Row(lambda ms, _: shift_ms(from_device(kind, latency_ms=ms)[0]), (20.0, 20.0), (70.0, 70.0)),
    }


def fourcc(kind: str) -> Callable[[str, Path], str]:
    def asked(pixel_format: str, _: Path) -> str:
        code = int(from_device(kind, pixel_format=pixel_format)[1].asked[cv2.CAP_PROP_FOURCC])
        return code.to_bytes(4, "little").decode().strip()

    return asked


def raw_value(kind: str, option: str) -> Callable[[Any, Path], float]:
    def value(given: Any, _: Path) -> float:
        return float(from_device(kind, **{option: given})[0].data[0, 0])

    return value


# Microphones, stood in for at PortAudio.


class StandInSound(SimpleNamespace):
    """The module `sounddevice` with two arrays of eight microphones, whose first block comes when they are started."""

    PortAudioError = OSError

    def __init__(self) -> None:
        super().__init__(default=SimpleNamespace(device=(0, 0)), asked={})

    def query_devices(self) -> list[dict[str, Any]]:
        return [{"name": name, "max_input_channels": 8} for name in ("front array", "rear array")]

    def InputStream(self, **asked: Any) -> StandInStream:  # noqa: N802  as PortAudio's is called
        self.asked = asked
        return StandInStream(asked)


class StandInStream:
    active = True

    def __init__(self, asked: dict[str, Any]) -> None:
        self._asked = asked

    def start(self) -> None:
        rows = self._asked["blocksize"]
        block = np.zeros((rows, self._asked["channels"]), np.float32)
        time = SimpleNamespace(currentTime=1.5, inputBufferAdcTime=1.4)
        self._asked["callback"](block, rows, time, None)

    def abort(self, ignore_errors: bool) -> None:
        """Nothing plays."""

    close = abort


def heard(**options: Any) -> tuple[Sample, dict[str, Any]]:
    """The first block of a stand-in, and what was asked of PortAudio."""
    sound = StandInSound()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drivers.microphone.import_sounddevice", lambda: sound)
        (sample,) = taken("microphone", 1, **options)
    return sample, sound.asked


# Serial lines, on pseudo-terminals.


@contextmanager
def serial_line() -> Iterator[tuple[int, int, str]]:
    """The device's end, the port's end and the name of a line."""
    device, port = os.openpty()
    tty.setraw(port)
    try:
        yield device, port, os.ttyname(port)
    finally:
        os.close(device)
        os.close(port)


def lines(*rows: str, count: int = 30) -> bytes:
    """Lines of an IMU after the one that is passed over."""
    return ("\n" + "".join(row + "\n" for row in rows * count)).encode()


def frames(accel: tuple[int, int, int], gyro: tuple[int, int, int], count: int = 30) -> bytes:
    """Measurements of a WitMotion IMU in counts."""

    def frame(kind: int, counts: tuple[int, int, int]) -> bytes:
        body = bytes([0x55, kind]) + struct.pack("<4h", *counts, 0)
        return body + bytes([sum(body) & 0xFF])

    return (frame(0x51, accel) + frame(0x52, gyro)) * count


SENT = {
    "imu_csv": lines("1.0,2.0,3.0,0.1,0.2,0.3"),
    "imu_wit": frames((1024, 2048, 3072), (100, 200, 300)),
}


def felt(kind: str, sent: bytes = b"", clock: Clock | None = None, timeout_s: float = 5.0, **options: Any) -> Sample:
    """The first block of a serial IMU."""
    with (
        serial_line() as (device, _, name),
        driver(kind, clock or ManualClock(START_NS), **{"port": name, **options}) as imu,
    ):
        os.write(device, sent or SENT[kind])
        return imu.read(timeout_s)


def from_port(kind: str) -> Callable[[str, Path], list[float]]:
    """Of two lines that send different numbers, the one that is named by the key is read."""
    other = {
        "imu_csv": lines("9.0,8.0,7.0,0.6,0.5,0.4"),
        "imu_wit": frames((3072, 2048, 1024), (100, 200, 300)),
    }

    def order(which: str, folder: Path) -> list[float]:
        with serial_line() as (one, _, first), serial_line() as (two, _, second):
            for name, port in (("first", first), ("second", second)):
                (folder / name).symlink_to(port)
            with driver(kind, ManualClock(START_NS), port=str(folder / which)) as imu:
                os.write(one, SENT[kind])
                os.write(two, other[kind])
                return list(np.argsort(imu.read(5.0).data[0, :3]))

    return order


def speed(kind: str) -> Callable[[int, Path], int]:
    """The speed that the port was set to, as termios calls it."""

    def of(baud: int, _: Path) -> int:
        with serial_line() as (_, port, name), driver(kind, ManualClock(START_NS), port=name, baud=baud):
            return int(termios.tcgetattr(port)[5])

    return of


def ratio(kind: str) -> Callable[[str, Path], list[float]]:
    """Forward and left of what the device measured along x, y and z as 1 to 2 to 3, up being the unit."""

    def of(axes: str, _: Path) -> list[float]:
        row = felt(kind, axes=axes).data[0]
        return [round(float(v / abs(row[:3]).min()), 2) for v in row[:3]]

    return of


def imu_rows(kind: str) -> Rows:
    """The options that all serial IMUs share."""
    return {
        "port": Row(from_port(kind), ("first", [0, 1, 2]), ("second", [2, 1, 0])),
        "baud": Row(speed(kind), (57_600, termios.B57600), (38_400, termios.B38400)),
        "rate_hz": Row(lambda rate, _: felt(kind, rate_hz=rate).rate_hz, (50.0, 50.0), (200.0, 200.0)),
        # A device whose y points forward and one whose y points up: turned, not mirrored, and not the other way round.
        "axes": Row(ratio(kind), ("y -x z", [2.0, -1.0, 3.0]), ("z x y", [3.0, 1.0, 2.0])),
        # The last row is measured when its bytes arrive, and is over one period (10 ms) later.
        "latency_ms": Row(
            lambda ms, _: (START_NS - felt(kind, latency_ms=ms).end_ns) / MS,
            (30.0, pytest.approx(20.0)),
            (80.0, pytest.approx(70.0)),
        ),
    }


def csv(*rows: str, column: int = 0, **options: Any) -> float:
    """A number of the first row."""
    return float(felt("imu_csv", lines(*rows), **options).data[0, column])


NMEA = "1.0,2.0,3.0,0.1,0.2,0.3*{:02X}"


def with_checksum(checksum: str, _: Path) -> str:
    content = "1.0,2.0,3.0,0.1,0.2,0.3"
    total = 0
    for byte in content.encode():
        total ^= byte
    sent = lines(NMEA.format(total))
    return outcome(lambda: felt("imu_csv", sent, RunClock.start(), 0.2, checksum=checksum))


# Sensors of other processes.


def pushed(samples: Sequence[Sample], **options: Any) -> list[Sample]:
    """What is read of samples that were pushed before."""
    remote = driver("remote", ManualClock(START_NS), **{"modality": "audio", "rate_hz": 100.0, **options})
    assert isinstance(remote, Remote)
    with remote:
        for sample in samples:
            remote.push(sample)
        found = []
        with suppress(ReadTimeout):
            while True:
                found.append(remote.read(0.001))
    return found


def plane(width: int = 8, height: int = 6) -> Sample:
    return Sample(START_NS, np.full((height, width), 3.0, np.float32))


def block(rate_hz: float = 100.0, channels: int = 1, number: int = 0) -> Sample:
    return Sample(START_NS + number * 50 * MS, np.zeros((5, channels), np.float32), rate_hz)


def takes(modality: Modality, _: Path) -> list[str]:
    """Which of two samples a sensor of that modality accepts."""
    samples = {"a block": block(), "a picture": Sample(START_NS, np.zeros((6, 8, 3), np.uint8))}
    return [name for name, s in samples.items() if outcome(lambda s=s: pushed([s], modality=modality)) == "fits"]


def accepted(option: str, **others: Any) -> Callable[[Any, Path], list[int]]:
    """Which widths, heights, rates or channels are accepted."""

    def of(value: Any, _: Path) -> list[int]:
        made: dict[str, Callable[[int], Sample]] = {
            "width": lambda n: plane(width=n),
            "height": lambda n: plane(height=n),
            "channels": lambda n: block(channels=n),
            "rate_hz": lambda n: block(rate_hz=float(n)),
        }

        def fits(n: int) -> bool:
            return outcome(lambda: pushed([made[option](n)], **{option: value}, **others)) == "fits"

        return [n for n in range(1, 9) if fits(n)]

    return of


# The synthetic world.


def scene_rows(kind: str, rates: tuple[int, int]) -> Rows:
    """The options that all synthetic sensors share."""
    small = {"width": 64, "height": 48} if kind not in ("synthetic_microphone", "synthetic_imu") else {}

    def made(count: int = 1, **options: Any) -> list[Sample]:
        return taken(kind, count, **{"pace": "fast", **small, **options})

    def row_s(rate_hz: float, _: Path) -> float:
        first, second = made(2, rate_hz=rate_hz)
        rows = len(first.data) if first.rate_hz else 1
        return round((second.t_ns - first.t_ns) / 1e9 / rows * rate_hz, 6) * rate_hz

    # Two pictures are due 0 and 100 ms after the start, two blocks of 50 ms when their last rows are.
    last_ms = 100.0
    return {
        "seed": differing(lambda seed, _: made(seed=seed)[0].data.tobytes(), 3, 4),
        "pace": Row(
            lambda pace, _: waited_ms(kind, 2, **{**small, "pace": pace}),
            ("real", pytest.approx(last_ms)),
            ("fast", 0.0),
        ),
        "duration_s": Row(
            lambda s, _: len(made(99, duration_s=s)),
            (0.2, 4 if not small else 2),
            (0.6, 12 if not small else 6),
        ),
        "rate_hz": Row(row_s, (rates[0], rates[0]), (rates[1], rates[1])),
    }  # fmt: skip


def picture_rows(kind: str) -> Rows:
    def made(**options: Any) -> Any:
        return taken(kind, 1, **{"pace": "fast", "width": 64, "height": 48, "seed": 7, **options})[0].data

    return {
        **scene_rows(kind, (5, 20)),
        "width": Row(lambda width, _: made(width=width).shape[1], (72, 72), (96, 96)),
        "height": Row(lambda height, _: made(height=height).shape[0], (36, 36), (60, 60)),
        "hfov_deg": differing(lambda hfov, _: made(hfov_deg=hfov).tobytes(), 50.0, 100.0),
    }


def late_sound(reflections: bool, _: Path) -> bytes:
    """Two seconds of a scene that has begun to sound."""
    clock = ManualClock(START_NS)
    clock.sleep_until(START_NS + 8_000 * MS)
    blocks = taken("synthetic_microphone", 40, clock, seed=7, reflections=reflections)
    return np.concatenate([sample.data for sample in blocks]).tobytes()


def _of(kind: str, rows: Rows) -> Rows:
    return {f"{kind}.{option}": row for option, row in rows.items()}


ROWS: Rows = {
    **_of(
        "camera",
        {
            **device_rows("camera"),
            "source": Row(colour_of, ("red.avi", "R"), ("blue.avi", "B")),
            "pixel_format": Row(fourcc("camera"), ("MJPG", "MJPG"), ("YUYV", "YUYV")),
            "pace": Row(
                lambda pace, folder: waited_ms("camera", 4, source=video(folder), pace=pace),
                ("real", pytest.approx(300.0, abs=1.0)),
                ("fast", 0.0),
            ),
            "loop": Row(
                lambda loop, folder: len(taken("camera", 6, source=video(folder), pace="fast", loop=loop)),
                (True, 6),
                (False, 4),
            ),
        },
    ),
    **_of(
        "microphone",
        {
            "device": Row(lambda name, _: heard(device=name)[1]["device"], ("rear", 1), (0, 0)),
            "channels": Row(lambda n, _: heard(channels=n)[0].data.shape[1], (2, 2), (6, 6)),
            "rate_hz": Row(
                lambda rate, _: (heard(rate_hz=rate)[1]["samplerate"], heard(rate_hz=rate)[0].rate_hz),
                (8000, (8000, 8000.0)),
                (48_000, (48_000, 48_000.0)),
            ),
            "block_ms": Row(lambda ms, _: len(heard(block_ms=ms)[0].data), (20.0, 320), (100.0, 1600)),
            # PortAudio says that the block is 100 ms old.
            "latency_ms": Row(
                lambda ms, _: shift_ms(heard(latency_ms=ms)[0]),
                (30.0, pytest.approx(130.0)),
                (80.0, pytest.approx(180.0)),
            ),
        },
    ),
    **_of(
        "audio_file",
        {
            "path": Row(sound_level, ("loud.wav", 0.5), ("soft.wav", 0.25)),
            "channels": Row(
                lambda n, folder: outcome(lambda: taken("audio_file", 1, **audio_file(folder, channels=n))),
                (2, "fits"),
                (3, "BadOption"),
            ),
            "rate_hz": Row(
                lambda rate, folder: outcome(lambda: taken("audio_file", 1, **audio_file(folder, rate_hz=rate))),
                (AUDIO_HZ, "fits"),
                (44_100, "BadOption"),
            ),
            "block_ms": Row(
                lambda ms, folder: len(taken("audio_file", 1, **audio_file(folder, block_ms=ms))[0].data),
                (20.0, 160),
                (100.0, 800),
            ),
            "latency_ms": Row(
                lambda ms, folder: shift_ms(taken("audio_file", 1, **audio_file(folder, latency_ms=ms))[0]),
                (20.0, 20.0),
                (70.0, 70.0),
            ),
            "pace": Row(
                lambda pace, folder: waited_ms("audio_file", 4, **audio_file(folder, pace=pace)),
                ("real", 200.0),
                ("fast", 0.0),
            ),
            "loop": Row(
                lambda loop, folder: len(taken("audio_file", 25, **audio_file(folder, loop=loop))),
                (True, 25),
                (False, 20),
            ),
        },
    ),
    **_of(
        "depth_png",
        {
            **png_rows("depth_png", lambda counts: counts / 1000),
            "scale_m": Row(
                lambda m, folder: float(
                    taken("depth_png", 1, path=pictures(folder / "pictures"), pace="fast", scale_m=m)[0].data[0, 0]
                ),
                (0.002, pytest.approx(2.0)),
                (0.00025, pytest.approx(0.25)),
            ),
        },
    ),
    **_of(
        "thermal_png",
        {
            **png_rows("thermal_png", lambda counts: counts / 100 - 273.15),
            "scale_c": Row(
                lambda c, folder: float(
                    taken("thermal_png", 1, path=pictures(folder / "pictures"), pace="fast", scale_c=c)[0].data[0, 0]
                ),
                (0.1, pytest.approx(-173.15)),
                (0.3, pytest.approx(26.85, abs=1e-3)),
            ),
            "offset_c": Row(
                lambda c, folder: float(
                    taken("thermal_png", 1, path=pictures(folder / "pictures"), pace="fast", offset_c=c)[0].data[0, 0]
                ),
                (5.0, pytest.approx(15.0)),
                (-40.0, pytest.approx(-30.0)),
            ),
        },
    ),
    **_of(
        "depth_v4l2",
        {
            **device_rows("depth_v4l2"),
            "device": Row(
                raw_value("depth_v4l2", "device"),
                ("/dev/null", pytest.approx(30.0)),
                ("/dev/zero", pytest.approx(40.0)),
            ),
            "pixel_format": Row(fourcc("depth_v4l2"), ("Z16", "Z16"), ("Y16", "Y16")),
            "scale_m": Row(
                raw_value("depth_v4l2", "scale_m"), (0.0001, pytest.approx(3.0)), (0.002, pytest.approx(60.0))
            ),
        },
    ),
    **_of(
        "thermal_y16",
        {
            **device_rows("thermal_y16"),
            "device": Row(
                raw_value("thermal_y16", "device"),
                ("/dev/null", pytest.approx(26.85, abs=1e-3)),
                ("/dev/zero", pytest.approx(126.85, abs=1e-3)),
            ),
            "scale_c": Row(
                raw_value("thermal_y16", "scale_c"),
                (0.02, pytest.approx(326.85, abs=1e-3)),
                (0.005, pytest.approx(-123.15)),
            ),
            "offset_c": Row(
                raw_value("thermal_y16", "offset_c"), (-250.0, pytest.approx(50.0)), (-300.0, pytest.approx(0.0))
            ),
        },
    ),
    **_of(
        "imu_csv",
        {
            **imu_rows("imu_csv"),
            "columns": Row(
                lambda columns, _: csv("1,2,3,4,5,6", columns=columns),
                (["az", "ay", "ax", "gx", "gy", "gz"], 3.0),
                (["ay", "ax", "az", "gx", "gy", "gz"], 2.0),
            ),
            "delimiter": Row(
                lambda delimiter, _: outcome(
                    lambda: felt("imu_csv", lines("1;2;3;4;5;6"), RunClock.start(), 0.2, delimiter=delimiter)
                ),
                (";", "fits"),
                ("|", "BadData"),
            ),
            "accel_unit": Row(
                lambda unit, _: csv("1,2,3,4,5,6", accel_unit=unit),
                ("m/s2", 1.0),
                ("g", pytest.approx(9.80665)),
            ),
            "gyro_unit": Row(
                lambda unit, _: csv("1,2,3,18,5,6", column=3, gyro_unit=unit),
                ("rad/s", 18.0),
                ("deg/s", pytest.approx(0.1 * np.pi)),
            ),
            "checksum": Row(with_checksum, ("none", "BadData"), ("xor", "fits")),
        },
    ),
    **_of(
        "imu_wit",
        {
            **imu_rows("imu_wit"),
            "accel_range_g": Row(
                lambda g, _: float(felt("imu_wit", frames((8192, 0, 0), (0, 0, 0)), accel_range_g=g).data[0, 0]),
                (2.0, pytest.approx(0.5 * 9.80665)),
                (8.0, pytest.approx(2.0 * 9.80665)),
            ),
            "gyro_range_dps": Row(
                lambda dps, _: float(felt("imu_wit", frames((0, 0, 0), (8192, 0, 0)), gyro_range_dps=dps).data[0, 3]),
                (720.0, pytest.approx(np.pi)),
                (360.0, pytest.approx(np.pi / 2)),
            ),
        },
    ),
    **_of(
        "remote",
        {
            "modality": Row(takes, ("vision", ["a picture"]), ("audio", ["a block"])),
            "rate_hz": Row(accepted("rate_hz"), (4.0, [4]), (7.0, [7])),
            "width": Row(accepted("width", modality="depth"), (5, [5]), (8, [8])),
            "height": Row(accepted("height", modality="depth"), (4, [4]), (7, [7])),
            "channels": Row(accepted("channels"), (2, [2]), (5, [5])),
            "queue_depth": Row(
                lambda n, _: len(pushed([block(number=i) for i in range(9)], queue_depth=n)), (3, 3), (6, 6)
            ),
            "latency_ms": Row(
                lambda ms, _: shift_ms(pushed([block()], latency_ms=ms)[0]), (20.0, 20.0), (70.0, 70.0)
            ),
        },
    ),
    **_of("synthetic_camera", picture_rows("synthetic_camera")),
    **_of("synthetic_depth", picture_rows("synthetic_depth")),
    **_of("synthetic_thermal", picture_rows("synthetic_thermal")),
    **_of(
        "synthetic_microphone",
        {
            **scene_rows("synthetic_microphone", (8000, 48_000)),
            "reflections": differing(late_sound, True, False),
        },
    ),
    **_of("synthetic_imu", scene_rows("synthetic_imu", (100, 200))),
}  # fmt: skip
