"""What recording costs, and what a killed recording loses.

    python -m benchmarks.logs [--seconds 30] [--hours 1] [--kills 20] [--folder DIR]

The load is 4 cameras of 30 pictures a second, 8 microphones at 48 kHz and an IMU at 1 kHz. The share of one core is all
of the process's time less that of an empty loop that makes the same samples; the JPEG encoder is told apart: where it
is left out, encoded bytes stand in its place. For a while some gigabytes of the disk of `--folder` are used.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np

from agent.clock import ManualClock, RunClock
from agent.config.recording import RecordSettings
from agent.log.editing.copying import Copied, contents
from agent.log.editing.cutting import cut
from agent.log.editing.merging import merge
from agent.log.editing.repair import repair
from agent.log.editing.survey import survey
from agent.log.format import LoggedSensor, RunFacts
from agent.log.reading import frames
from agent.log.recording.recorder import Recorder
from agent.log.unpacking import Damaged
from agent.policy import LOSSLESS
from drivers import image_file
from drivers.driver import Clock, Sample

CAMERAS = {f"camera{i}": LoggedSensor("vision", 30.0) for i in range(4)}
SENSORS = {**CAMERAS, "microphones": LoggedSensor("audio", 48000.0), "imu": LoggedSensor("imu", 1000.0)}
BLOCK_NS = 20_000_000
HEIGHT, WIDTH = 480, 640


def load(start_ns: int, sensors: dict[str, LoggedSensor] = SENSORS) -> Iterator[tuple[str, Sample]]:
    """Samples without end, in order of time; the pictures and rows are the same few over and over."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    smooth = 128 + 60 * np.sin(x / 20) + 40 * np.cos(y / 30)
    picture = np.clip(smooth[..., None] + rng.normal(0, 8, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    audio = rng.uniform(-0.5, 0.5, (960, 8)).astype(np.float32)
    imu = rng.normal(0, 9.81, (20, 6)).astype(np.float32)
    pictures = 0
    for block in count():
        t_ns = start_ns + block * BLOCK_NS
        while start_ns + pictures * 1_000_000_000 // 30 < t_ns + BLOCK_NS:
            stamp = start_ns + pictures * 1_000_000_000 // 30
            yield from ((name, Sample(stamp, picture)) for name in CAMERAS if name in sensors)
            pictures += 1
        yield "microphones", Sample(t_ns, audio, 48000.0)
        yield "imu", Sample(t_ns, imu, 1000.0)


def encoded_picture() -> bytes:
    """A picture of the load as JPEG."""
    return image_file.write_jpeg(next(load(0))[1].data)


def without_encoder(body: bytes) -> Callable[[], None]:
    """Let `body` stand for every JPEG; returns what puts the encoder back."""
    encoder = image_file.write_jpeg
    image_file.write_jpeg = lambda _pixels, _quality=90: body  # type: ignore[assignment]

    def put_back() -> None:
        image_file.write_jpeg = encoder

    return put_back


def feed(write: Callable[[str, Sample], None], clock: Clock, seconds: float) -> float:
    """Hand in the load as its clock goes; returns the processor time of all threads."""
    start_ns = clock.now_ns()
    began = time.process_time()
    for name, sample in load(start_ns):
        if sample.t_ns - start_ns >= seconds * 1e9:
            break
        clock.sleep_until(sample.end_ns)
        write(name, sample)
    return time.process_time() - began


def record_live(path: Path, seconds: float, settings: RecordSettings) -> tuple[float, int]:
    """Record in real time; returns the processor time and the size of the file."""
    clock = RunClock.start()
    facts = RunFacts("benchmark", clock.start_ns, clock.offset_ns, SENSORS, {})
    began = time.process_time()
    with Recorder(path, facts, settings, clock=clock) as recorder:
        feed(recorder.write_sample, clock, seconds)
    took = time.process_time() - began
    report = recorder.report()
    assert not report.drops, report
    size = path.stat().st_size
    path.unlink()
    return took, size


def measure_live(folder: Path, seconds: float) -> None:
    """The share of one core, by chunk length and compression, and the encoder apart."""
    body = encoded_picture()
    put_back = without_encoder(body)
    idle = feed(lambda _name, _sample: None, RunClock.start(), seconds)
    print(f"recording {seconds:.0f} s of 4 x 30 pictures of {len(body) / 1e3:.0f} kB, 8 x 48 kHz, 1 kHz IMU")
    print(f"{'':28} {'MB/s':>6} {'% of a core':>12}")
    for what, settings in {
        "chunks of 100 ms": RecordSettings(),
        "  of 50 ms": RecordSettings(chunk_s=0.05),
        "  of 1 s, 4 MiB": RecordSettings(chunk_s=1.0, chunk_bytes=4 * 2**20),
        "  of 100 ms, lz4": RecordSettings(compression=dict.fromkeys(SENSORS, "lz4")),
    }.items():
        took, size = record_live(folder / "live.mcap", seconds, settings)
        print(f"{what:28} {size / seconds / 1e6:6.2f} {100 * (took - idle) / seconds:12.1f}")
    put_back()
    took, _ = record_live(folder / "live.mcap", seconds, RecordSettings())
    print(f"{'with the JPEG encoder':28} {'':6} {100 * (took - idle) / seconds:12.1f}")


def rss_mb() -> float:
    """Memory that is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure_length(folder: Path, hours: float) -> None:
    """Memory while a long recording is written and worked on; its pictures are small, to spare the disk."""
    path, clock = folder / "long.mcap", ManualClock(1_700_000_000_000_000_000)
    facts = RunFacts("benchmark", clock.start_ns, 0, SENSORS, {})
    put_back = without_encoder(encoded_picture()[:2000])
    marks = [clock.start_ns + round(hours * 3600e9 * share) for share in (0.05, 0.25, 0.5, 0.75)]
    print(f"memory over {hours:g} h, in MB")

    def write(name: str, sample: Sample) -> None:
        recorder.write_sample(name, sample)
        if marks and sample.t_ns >= marks[0]:
            print(f"  recording, after {(marks.pop(0) - clock.start_ns) / 3600e9:5.2f} h {rss_mb():8.1f}", flush=True)

    settings = RecordSettings(queue_bytes=2**22)
    with Recorder(path, facts, settings, clock=clock, policy=LOSSLESS) as recorder:
        feed(write, clock, hours * 3600)
    put_back()
    size, middle_ns = path.stat().st_size, clock.start_ns + round(hours * 1800e9)
    print(f"  recorded: {size / 1e9:.1f} GB                {rss_mb():8.1f}")
    first, second, whole = (folder / f"{name}.mcap" for name in ("first", "second", "whole"))
    for what, work in {
        "info": lambda: survey([path]),
        "cut, one half": lambda: cut([path], first, to_ns=middle_ns),
        "cut, the other half": lambda: cut([path], second, from_ns=middle_ns),
        "merge, both": lambda: merge([first], [second], whole),
        "repair": lambda: (whole.unlink(), repair(path, whole)),
    }.items():
        began = time.perf_counter()
        work()
        took = time.perf_counter() - began
        print(f"  {what:26} {rss_mb():8.1f}   {size / took / 1e6:6.0f} MB/s of the whole log", flush=True)
    for file in (path, first, second, whole):
        file.unlink()


def measure_kills(folder: Path, kills: int) -> None:
    """How much of a recording a kill -9 costs."""
    lost_ms = kill_recordings(folder, kills, random.Random(0))
    print(f"kill -9 of a live recording of 3.5 MB/s, {kills} times: what was handed in last, and is not in the log")
    print(f"  median {statistics.median(lost_ms):.0f} ms, most {max(lost_ms):.0f} ms")


def kill_recordings(folder: Path, kills: int, rng: random.Random) -> list[float]:
    """What kills of a recording of 3.5 MB/s cost: milliseconds from the last block in the log to the last handed in."""
    lost_ms = []
    for _ in range(kills):
        path, progress = folder / "killed.mcap", folder / "progress"
        progress.write_bytes(bytes(8))
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.logs", "--record-until-killed", path, progress])
        while not struct.unpack("<q", progress.read_bytes())[0]:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.5, 1.5))
        process.kill()
        process.wait()
        (handed_ns,) = struct.unpack("<q", progress.read_bytes())
        lost_ms.append((handed_ns - newest_ns(path)) / 1e6)
        path.unlink()
    return lost_ms


def newest_ns(path: Path) -> int:
    """The end of the last block of the IMU's in a log."""
    newest = 0
    with path.open("rb") as stream:
        try:
            for item in contents(frames(stream)):
                if isinstance(item, Copied) and item.sensor == "imu":
                    newest = item.message.log_time + BLOCK_NS
        except Damaged:
            return newest
    return newest


def record_until_killed(path: Path, progress: Path) -> None:
    """Record a camera of 85 kB a picture, the microphones and the IMU; the end of the newest block is in `progress`."""
    without_encoder(bytes(85_000))
    clock = RunClock.start()
    some = {name: SENSORS[name] for name in ("camera0", "microphones", "imu")}
    recorder = Recorder(path, RunFacts("benchmark", clock.start_ns, 0, some, {}), clock=clock)
    with progress.open("r+b") as file, mmap.mmap(file.fileno(), 8) as done:
        for name, sample in load(clock.start_ns, some):
            clock.sleep_until(sample.end_ns)
            recorder.write_sample(name, sample)
            if name == "imu":
                struct.pack_into("<q", done, 0, sample.end_ns)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--record-until-killed", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.record_until_killed:
        record_until_killed(*arguments.record_until_killed)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        measure_live(Path(name), arguments.seconds)
        measure_kills(Path(name), arguments.kills)
        measure_length(Path(name), arguments.hours)


if __name__ == "__main__":
    main()
