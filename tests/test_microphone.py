"""Microphones: choosing one, the ring behind the callback, and a real 4-channel device of a sound server.

The driver runs in a process of its own, as it does in the program: PortAudio reads its device list once, from the
environment that the process was started with.
"""

from __future__ import annotations

import json
import math
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter
from real_sources import NullSinkMicrophone, missing

from agent.clock import ManualClock
from drivers.adc_time import AdcTime
from drivers.block_ring import BlockRing
from drivers.driver import BadOption, DeviceNotFound
from drivers.microphone import Microphone, find_input
from drivers.row_clock import RowClock

DEVICES = [
    {"name": "HDMI: 0 (hw:0,3)", "max_input_channels": 0},
    {"name": "USB Array: Audio (hw:1,0)", "max_input_channels": 4},
    {"name": "USB Camera: Audio (hw:2,0)", "max_input_channels": 1},
    {"name": "array", "max_input_channels": 32},
]


class TestChoice:
    @pytest.mark.parametrize(("wanted", "index"), [(None, 2), (1, 1), ("usb array", 1), ("hw:2", 2), ("array", 3)])
    def test_by_index_name_or_part(self, wanted: str | int | None, index: int) -> None:
        assert find_input(DEVICES, wanted, default=2) == index

    @pytest.mark.parametrize("wanted", [0, 7, -1, "usb", "HDMI", "none"])
    def test_what_is_not_there_is_told_with_what_is(self, wanted: str | int) -> None:
        with pytest.raises(DeviceNotFound, match="there are: 1 USB Array: Audio") as caught:
            find_input(DEVICES, wanted, default=1)
        assert f"microphone {wanted}" in str(caught.value)

    def test_no_input_at_all(self) -> None:
        with pytest.raises(DeviceNotFound, match="microphone: no default input device; there is none"):
            find_input(DEVICES[:1], None, default=-1)

    @pytest.mark.parametrize(
        "bad",
        [
            {"channels": 0},
            {"use_channels": [0, 0]},
            {"use_channels": [1]},
            {"use_channels": []},
            {"rate_hz": 0},
            {"block_ms": 0.0},
            {"latency_ms": float("inf")},
        ],
    )
    def test_impossible_options(self, bad: dict[str, object]) -> None:
        options = TypeAdapter(Microphone.Options).validate_python(bad)
        with pytest.raises(BadOption, match=next(iter(bad))):
            Microphone(options, ManualClock())


class TestAdcTime:
    """Ages of blocks of 50 ms, by times as backends give them."""

    def stamps(self, ages_s: Callable[[float], float], seconds: float) -> list[tuple[float, int, float]]:
        """(By how much a stamp is after the truth in s, rows lost, by how much the block ends in the future)."""
        adc, clock, found = AdcTime(16_000), RowClock(16_000, 800), []
        for k in range(round(seconds / 0.05)):
            arrived_s = 100 + 0.05 * (k + 1)
            age_s = adc.age_s(800, arrived_s, arrived_s - ages_s(arrived_s - 100))
            t_ns, lost = clock.stamp(800, round((arrived_s - age_s) * 1e9))
            found.append((t_ns / 1e9 - (100 + 0.05 * k), lost, t_ns / 1e9 + 0.05 - arrived_s))
        return found

    def test_a_sound_server_whose_times_run_faster_than_its_samples(self) -> None:
        """447 ms at first, 244 after a second, 0.3 ms from the second second on: as PulseAudio was seen to do."""
        stamps = self.stamps(lambda t_s: float(np.interp(t_s, [0, 1, 2], [0.447, 0.244, 0.0003])), 10)
        assert sum(lost for _, lost, _ in stamps) == 0
        assert max(ahead_s for _, _, ahead_s in stamps) < 1e-6
        assert max(abs(error_s) for error_s, _, _ in stamps) < 1e-6

    def test_a_device_that_says_how_old_its_rows_are_is_believed_after_a_second(self) -> None:
        """They were captured 20 ms before what their arrival tells."""
        stamps = self.stamps(lambda t_s: 0.070 + 0.0002 * math.sin(40 * t_s), 10)
        assert sum(lost for _, lost, _ in stamps) == 0
        assert all(abs(error_s) < 1e-6 for error_s, _, _ in stamps[:19])
        assert all(abs(error_s + 0.020) < 0.001 for error_s, _, _ in stamps[21:])

    def test_rows_that_were_lost_are_counted_by_both_clocks(self) -> None:
        for age_s in (0.070, 0.0003):
            adc, clock, lost = AdcTime(16_000), RowClock(16_000, 800), 0
            for k in (*range(100), *range(110, 200)):
                arrived_s = 100 + 0.05 * (k + 1)
                age = adc.age_s(800, arrived_s, arrived_s - age_s)
                lost += clock.stamp(800, round((arrived_s - age) * 1e9))[1]
            assert lost == pytest.approx(8000, abs=400)


class TestBlockRing:
    def block(self, value: float) -> NDArray[np.float32]:
        return np.full((3, 2), value, np.float32)

    def test_blocks_in_order_and_copied(self) -> None:
        ring = BlockRing(4, 3, 2)
        written = self.block(1)
        ring.put(written, 10)
        written[:] = 9
        ring.put(self.block(2), 20)
        first, t_ns, dropped = ring.get(0.1)
        ring.put(self.block(3), 30)
        assert (first[0, 0], t_ns, dropped) == (1.0, 10, 0)
        assert [ring.get(0.1)[1] for _ in range(2)] == [20, 30]
        with pytest.raises(queue.Empty):
            ring.get(0.01)

    def test_a_full_ring_drops_the_new_and_counts_its_rows(self) -> None:
        ring = BlockRing(4, 3, 2)
        for k in range(7):
            ring.put(self.block(k), k)
        assert [ring.get(0.1)[1:] for _ in range(4)] == [(0, 0), (1, 0), (2, 0), (3, 0)]
        ring.put(self.block(7), 7)
        assert ring.get(0.1)[1:] == (7, 9)
        ring.put(self.block(8), 8)
        assert ring.get(0.1)[1:] == (8, 0)

    def test_a_waiting_reader_is_woken(self) -> None:
        ring = BlockRing(4, 3, 2)
        ring.wake()
        assert len(ring.get(5.0)[0]) == 0


RECORD = """
import json, os, sys
import numpy as np
from agent.clock import RunClock
from drivers.driver import DriverError
from drivers.microphone import Microphone, MicrophoneOptions

options, blocks, path = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
clock = RunClock.start()
microphone = Microphone(MicrophoneOptions(**options), clock)
rows, samples, error = [], [], None
try:
    microphone.connect()
    while len(rows) < blocks:
        sample = microphone.read(2.0)
        rows.append(sample.data)
        samples.append([sample.t_ns, len(sample.data), sample.lost, sample.rate_hz, clock.now_ns()])
        print("block", flush=True)
    microphone.close()
    np.save(path, np.concatenate(rows))
except DriverError as raised:
    error = [type(raised).__name__, str(raised)]
print(json.dumps({"samples": samples, "error": error}), flush=True)
os._exit(0)  # closing a device whose server stalls would wait for the server
"""


class Recorder:
    """A microphone driver reading in a process of its own."""

    def __init__(self, source: NullSinkMicrophone, path: Path, blocks: int, **options: object) -> None:
        given = {"device": source.device, "channels": 4, "rate_hz": 16_000, **options}
        self._path = path
        self._process = subprocess.Popen(
            [sys.executable, "-c", RECORD, json.dumps(given), str(blocks), str(path)],
            env=source.environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for_blocks(self, n: int) -> None:
        assert self._process.stdout is not None
        for _ in range(n):
            assert self._process.stdout.readline() == "block\n"

    def result(self) -> dict[str, Any]:
        """What was told at the end; the process must have ended by itself."""
        out, _ = self._process.communicate(timeout=60)
        assert self._process.returncode == 0
        told: dict[str, Any] = json.loads(out.splitlines()[-1])
        return told

    def rows(self) -> NDArray[np.float32]:
        recorded: NDArray[np.float32] = np.load(self._path)
        return recorded

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


LAGS = (0, 3, 6, 9)


def wave() -> NDArray[np.float32]:
    """Noise that reaches channel k LAGS[k] samples late, at an amplitude of 0.1."""
    noise = np.random.default_rng(8).normal(0, 0.1, 30 * 16_000).clip(-0.9, 0.9).astype(np.float32)
    return np.stack([np.roll(noise, lag) for lag in LAGS], 1)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[NullSinkMicrophone]:
    why = missing("pulseaudio", "portaudio")
    if why is not None:
        pytest.skip(why)
    with NullSinkMicrophone(tmp_path, wave()) as microphone:
        yield microphone


def lag(a: NDArray[np.float32], b: NDArray[np.float32]) -> int:
    """By how many samples b follows a, at most 40, by cross-correlation."""
    middle = b[40:-40]
    return int(np.argmax([np.dot(a[40 - d : len(a) - 40 - d], middle) for d in range(40)]))


@pytest.mark.hardware
def test_four_channels_with_their_delays_and_times(source: NullSinkMicrophone, tmp_path: Path) -> None:
    with Recorder(source, tmp_path / "rows.npy", blocks=40) as recorder:
        told = recorder.result()
        rows = recorder.rows()
    assert told["error"] is None
    assert rows.dtype == np.float32
    assert rows.shape == (40 * 800, 4)
    sounding = rows[8000:]
    assert np.sqrt((sounding**2).mean(0)) == pytest.approx([0.1] * 4, rel=0.2)
    assert [lag(sounding[:, 0], sounding[:, k]) for k in range(4)] == list(LAGS)
    samples = told["samples"]
    assert all(rate_hz == 16_000 for _, _, _, rate_hz, _ in samples)
    times = [t_ns for t_ns, *_ in samples]
    assert times == sorted(times)
    ages_s = [(now_ns - t_ns) / 1e9 for t_ns, _, _, _, now_ns in samples]
    assert all(now_ns >= t_ns + n / 16_000 * 1e9 for t_ns, n, _, _, now_ns in samples), "no block ends in the future"
    assert sum(lost for _, _, lost, _, _ in samples) == 0
    assert np.median(ages_s) < 1.0


@pytest.mark.hardware
def test_a_killed_server_is_disconnected_and_a_new_process_finds_it_again(
    source: NullSinkMicrophone, tmp_path: Path
) -> None:
    with Recorder(source, tmp_path / "rows.npy", blocks=10_000) as recorder:
        recorder.wait_for_blocks(5)
        source.stop()
        kind, message = recorder.result()["error"]
    assert kind == "Disconnected"
    assert "went away" in message
    with Recorder(source, tmp_path / "rows.npy", blocks=10) as recorder:
        kind, message = recorder.result()["error"]
    assert kind in ("DeviceNotFound", "DeviceBusy", "DriverError")
    assert "\n" not in message
    source.start()
    with Recorder(source, tmp_path / "rows.npy", blocks=10) as recorder:
        assert recorder.result()["error"] is None


@pytest.mark.hardware
def test_a_stalled_server_times_out(source: NullSinkMicrophone, tmp_path: Path) -> None:
    with Recorder(source, tmp_path / "rows.npy", blocks=10_000) as recorder:
        recorder.wait_for_blocks(5)
        source.freeze()
        kind, message = recorder.result()["error"]
    assert kind == "ReadTimeout"
    assert "no audio within 2 s" in message


@pytest.mark.hardware
def test_more_channels_than_there_are(source: NullSinkMicrophone, tmp_path: Path) -> None:
    with Recorder(source, tmp_path / "rows.npy", blocks=1, channels=64) as recorder:
        kind, message = recorder.result()["error"]
    assert kind == "FormatMismatch"
    assert "channels was asked as 64 but the device gives 32" in message


@pytest.mark.parametrize(
    ("fault", "package"),
    [("OSError('no libportaudio')", "libportaudio2"), ("ImportError('x')", "pip install sounddevice")],
)
def test_a_missing_library_names_its_package(tmp_path: Path, fault: str, package: str) -> None:
    """A sounddevice that fails as the real one does without PortAudio, or that is not there."""
    (tmp_path / "sounddevice.py").write_text(f"raise {fault}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RECORD, "{}", "1", ""], env=environment, capture_output=True, text=True, check=True
    )
    kind, message = json.loads(done.stdout)["error"]
    assert kind == "MissingLibrary"
    assert package in message


PORTAUDIO = """
class PortAudioError(Exception): pass
def fail(*_): raise PortAudioError("Unanticipated host error", -9999)
class default: device = (0, 0)
class InputStream:
    active = property(fail)
    def __init__(self, **options): options["finished_callback"]()
    def start(self): pass
    def abort(self, ignore_errors): pass
    close = abort
"""
DEVICE = "def query_devices(): return [{'name': 'array', 'max_input_channels': 1}]"


@pytest.mark.parametrize(
    ("module", "kind", "words"),
    [
        ("fail()", "DriverError", "PortAudio does not start: Unanticipated host error"),
        ("query_devices = fail", "DriverError", "PortAudio cannot list the devices: Unanticipated host error"),
        (
            f"{DEVICE}\nInputStream.__init__ = lambda *_, **__: None",
            "Disconnected",
            "device went away: Unanticipated host error",
        ),
        (DEVICE, "Disconnected", "the device or the sound server went away"),
    ],
)
def test_errors_of_portaudio_do_not_leave_the_driver(tmp_path: Path, module: str, kind: str, words: str) -> None:
    """A sounddevice that fails where the real one can: on import, in the list of devices, when asked how it does."""
    (tmp_path / "sounddevice.py").write_text(PORTAUDIO + module)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RECORD, "{}", "1", ""], env=environment, capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)["error"]
    assert told[0] == kind
    assert words in told[1]
