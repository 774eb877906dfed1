"""How fast is a log replayed, without a model and with one, and what memory does it take?

    python -m benchmarks.replay [--seconds 30]

Without a model: a log of 4 cameras (JPEG, 30 Hz), 8 microphones (48 kHz) and an IMU (1 kHz), from the file to windows;
the floor is to read that file and to decode those pictures that windows need. With imagebind_nano: a log of the
synthetic scene, from the file to events, beside the model alone on the same windows. Memory: what a process has taken
at most after a log and after one that is four times as long.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.clock import RunClock
from agent.config.parse import parse, synthetic
from agent.events.filters import EventFilter
from agent.health.health import Health
from agent.log import messages
from agent.log.format import LoggedSensor, RunFacts
from agent.log.recording.recorder import Recorder
from agent.log.replay.samples import SampleReplay
from agent.policy import LOSSLESS
from agent.run import build
from agent.run.run import Run
from agent.run.sampler import Outlet, Sampler, SampleStretch
from agent.streams import Stream, Streams
from agent.windows.windower import Tick, Windower
from drivers import image_file
from drivers.driver import Sample
from protos import perception_pb2 as pb

START_NS = 1_700_000_000_000_000_000
HOP_NS = 500_000_000
BLOCK_S = 0.1
CAMERAS = ("front", "left", "right", "rear")
SENSORS = {name: LoggedSensor("vision", 30.0) for name in CAMERAS}
SENSORS |= {"array": LoggedSensor("audio", 48_000.0), "imu": LoggedSensor("imu", 1000.0)}
STREAMS: Streams = {
    **{name: Stream(name, "vision", 30.0, 30.0, 1, 0.25, "all", 4, 0.2) for name in CAMERAS},
    "array": Stream("array", "audio", 48_000.0, 1 / BLOCK_S, 1, 2.0, "all", 4, 0.2),
    "imu": Stream("imu", "imu", 1000.0, 1 / BLOCK_S, 1, 5.0, "all", 4, 0.2),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        for width, height in ((320, 240), (640, 480)):
            without_model(Path(folder), seconds, width, height)
        with_model(Path(folder), seconds)
        memory(Path(folder), seconds)


def without_model(folder: Path, seconds: float, width: int, height: int) -> None:
    """From the file to windows."""
    log = folder / f"busy{width}.mcap"
    frames = pictures(width, height)
    record(log, seconds, frames)
    began = time.perf_counter()
    ticks, decoded = windows(log)
    took_s = time.perf_counter() - began
    began = time.perf_counter()
    size = len(log.read_bytes())
    read_s = time.perf_counter() - began
    floor_s = read_s + decoded * decode_s(frames)
    print(f"without a model, {width} x {height}: {seconds:.0f} s of log, {size / seconds / 1e6:.1f} MB/s")
    print(f"  {ticks} ticks, for which {decoded} pictures were decoded")
    print(f"  replayed in {took_s:6.2f} s: {seconds / took_s:6.1f} x real time")
    print(f"  floor       {floor_s:6.2f} s: {seconds / floor_s:6.1f} x real time, reading and decoding alone")


def with_model(folder: Path, seconds: float) -> None:
    """From the file to events, beside the model on its own."""
    log = folder / "scene.mcap"
    # Recorded without a model, whose events the log does not need.
    config = synthetic(pace="fast", duration_s=seconds)
    clock = RunClock.start()
    run(build.offline(config, log_to=log, clock=clock), load=False)
    pipeline = build.replay(log, parse({**config.tree, "model": {"device": "cpu"}}))
    windows_of = collect(build.replay(log))
    replay_s = run(pipeline)
    ticks = pipeline.status().ticks_delivered
    model_s = model_alone(windows_of)
    print(f"with imagebind_nano: {seconds:.0f} s of log, {ticks} ticks")
    print(
        f"  replayed in      {replay_s:6.2f} s: {ticks / replay_s:6.1f} ticks/s, {seconds / replay_s:.1f} x real time"
    )
    print(
        f"  the model alone  {model_s:6.2f} s: {ticks / model_s:6.1f} ticks/s; replay reaches {model_s / replay_s:.0%}"
    )


def memory(folder: Path, seconds: float) -> None:
    """Of a process that replays one log, by the log's length."""
    print("memory, most of all")
    for times in (1, 4):
        log = folder / f"long{times}.mcap"
        record(log, seconds * times)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            most = pool.apply(replayed_memory, (log,))
        print(f"  {seconds * times:6.0f} s of log, {log.stat().st_size / 1e6:6.1f} MB: {most / 1e6:6.1f} MB")


def pictures(width: int, height: int) -> list[NDArray[np.uint8]]:
    """Gradients with noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    scene = np.stack([255 * x / width, 255 * y / height, 128 + 60 * np.sin(x / 20) * np.cos(y / 30)], axis=2)
    return [(scene + rng.normal(0, 6, scene.shape)).clip(0, 255).astype(np.uint8) for _ in range(8)]


def record(log: Path, seconds: float, frames: Sequence[NDArray[np.uint8]] = ()) -> None:
    """A log of `SENSORS`; without frames, of those that are no cameras."""
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 0.1, (round(48_000 * BLOCK_S), 8)).astype(np.float32)
    imu = rng.normal(0, 1, (round(1000 * BLOCK_S), 6)).astype(np.float32)
    facts = RunFacts("benchmark", START_NS, 0, SENSORS, {"sensors": {}})
    with Recorder(log, facts, policy=LOSSLESS) as recorder:
        for block in range(round(seconds / BLOCK_S)):
            t_ns = START_NS + round(block * BLOCK_S * 1e9)
            for i in range(3 if frames else 0):
                for name in CAMERAS:
                    recorder.write_sample(name, Sample(t_ns + i * 33_333_333, frames[(3 * block + i) % len(frames)]))
            recorder.write_sample("array", Sample(t_ns, audio, 48_000.0))
            recorder.write_sample("imu", Sample(t_ns, imu, 1000.0))


class Counter(Outlet[Any]):
    """Counts ticks and keeps nothing."""

    def __init__(self) -> None:
        self.ticks = 0

    def submit(self, ticks: Sequence[Tick]) -> None:
        """Count them."""
        self.ticks += len(ticks)


def windows(log: Path) -> tuple[int, int]:
    """Cut the windows of a log: how many ticks there are, and how many pictures were decoded."""
    decoded, decode = 0, messages.decode

    def counted(schema: str, sensor: LoggedSensor, t_ns: int, data: bytes) -> Sample:
        nonlocal decoded
        decoded += sensor.modality == "vision"
        return decode(schema, sensor, t_ns, data)

    replay, counter = SampleReplay(log), Counter()

    def begin(start_ns: int) -> SampleStretch:
        return SampleStretch(Windower(STREAMS, HOP_NS, start_ns), Health(STREAMS), replay.reports, None)

    messages.decode = counted
    try:
        sampler = Sampler(replay, begin, replay.clock.start_ns, counter, LOSSLESS)
        sampler.start()
        sampler.ended.result()
    finally:
        messages.decode = decode
    return counter.ticks, decoded


def decode_s(frames: Sequence[NDArray[np.uint8]]) -> float:
    """Seconds to decode one of the pictures."""
    files = [image_file.write_jpeg(frame) for frame in frames]
    for file in files:  # so that the decoder is there
        image_file.read_jpeg(file)
    began = time.perf_counter()
    for file in files:
        image_file.read_jpeg(file)
    return (time.perf_counter() - began) / len(files)


def run(pipeline: Run, *, load: bool = True) -> float:
    """Run to the end; seconds without the time to load the model."""
    subscription = pipeline.bus.subscribe(EventFilter(pb.SubscribeRequest()), lambda: None)
    try:
        if load:
            pipeline.load_model()
        began = time.perf_counter()
        pipeline.start()
        pipeline.wait()
        return time.perf_counter() - began
    finally:
        subscription.close()
        pipeline.stop()


def collect(pipeline: Run) -> list[Tick]:
    """The ticks of a replay, with their windows."""
    ticks: list[Tick] = []
    pipeline.submit = ticks.extend  # type: ignore[method-assign, assignment]
    run(pipeline, load=False)
    return ticks


def model_alone(ticks: Sequence[Tick]) -> float:
    """Seconds that the model takes for windows that are there already."""
    from agent.embedding.embedder import Embedder
    from agent.embedding.weights import load_weights

    model, _ = load_weights("imagebind_nano", {"vision", "audio", "depth", "thermal", "imu", "text"})
    embedder = Embedder(model, device="cpu")
    embedder.embed(ticks[-1:])
    began = time.perf_counter()
    for tick in ticks[:-1]:
        embedder.embed([tick])
    return (time.perf_counter() - began) * len(ticks) / max(1, len(ticks) - 1)


def replayed_memory(log: Path) -> int:
    """Replay a log in this process; bytes that it has taken at most."""
    windows(log)
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
