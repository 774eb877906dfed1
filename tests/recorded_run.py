"""A run with known samples, to be recorded. `recorded_run.py FILE [LIMIT_BYTES]` records it."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np

from agent.capture.offline import Offline
from agent.clock import ManualClock
from agent.config.parse import Config
from agent.config.recording import RecordSettings
from agent.log.format import LoggedSensor, RunFacts
from agent.log.recording.recorder import Recorder
from agent.log.replay.samples import SampleReplay
from agent.policy import LOSSLESS
from agent.run.run import Run
from agent.run.to_the_end import events_of
from drivers.driver import Sample
from protos import perception_pb2 as pb

START_NS = 1_700_000_000_123_456_789
SENSORS = {
    "camera": LoggedSensor("vision", 10.0),
    "microphone": LoggedSensor("audio", 16000.0),
    "depth": LoggedSensor("depth", 10.0, scale=0.001),
    "thermal": LoggedSensor("thermal", 10.0, scale=0.01, offset=-273.15),
    "imu": LoggedSensor("imu", 400.0),
}
Handed = list[tuple[str, Sample]]
"""Samples with their sensors, in order."""
CONFIG = {"sensors": {"camera": {"type": "synthetic_camera", "seed": 7}}, "queries": [{"text": "a dog barking"}]}


def facts(sensors: dict[str, LoggedSensor] = SENSORS) -> RunFacts:
    return RunFacts("a1b2c3", START_NS, 1_699_999_000_000_000_000, sensors, CONFIG, {"sensebind": "0.1.0"})


def samples_of(config: Config) -> Handed:
    """All samples of a configuration whose sensors end, on a clock that begins at START_NS."""
    source = Offline(config.specs, ManualClock(START_NS))
    source.start()
    handed: Handed = []
    while not source.ended:
        handed += source.poll(0.0)
    source.stop()
    return handed


def recorded(path: Path, handed: Handed, run: RunFacts, settings: RecordSettings | None = None) -> Path:
    with Recorder(path, run, settings, policy=LOSSLESS) as recorder:
        for name, sample in handed:
            recorder.write_sample(name, sample)
    assert not recorder.report().drops
    return path


def told_by(pipeline: Run) -> tuple[list[pb.Event], pb.Status]:
    """Run a replay through the model to its end."""
    try:
        pipeline.load_model()
        return list(events_of(pipeline)), pipeline.status()
    finally:
        pipeline.stop()


def event(seq: int) -> pb.Event:
    capture_ns = START_NS + seq * 500_000_000
    alert = pb.AlertTransition(query_id="dog", alert_id=seq, phase=pb.ALERT_PHASE_BEGIN)
    return pb.Event(run_id="a1b2c3", seq=seq, capture_ns=capture_ns, publish_ns=capture_ns + 40_000_000, alert=alert)


def one_of_each(step: int) -> list[tuple[str, Sample]]:
    """A tenth of a second of every sensor."""
    t_ns = START_NS + step * 100_000_000
    rng = np.random.default_rng(step)
    y, x = np.mgrid[0:120, 0:160].astype(np.float32)
    picture = np.stack([x + step, 2 * y, 128 + 60 * np.sin(x / 20)], axis=2).clip(0, 255).astype(np.uint8)
    depth_m = (1 + 0.01 * x + 0.003 * step).astype(np.float32)
    depth_m[:10] = 0  # no reading
    thermal_c = (20 + y / 8 + rng.normal(0, 0.05, y.shape)).astype(np.float32)
    seconds = (step * 1600 + np.arange(1600)) / 16000
    audio = np.stack([0.5 * np.sin(2 * np.pi * f * seconds) for f in (440, 1000)], axis=1).astype(np.float32)
    imu = rng.normal(0, 9.81, (40, 6)).astype(np.float32)
    return [
        ("camera", Sample(t_ns, picture)),
        ("microphone", Sample(t_ns + 1, audio, 16000.0, lost=3 if step == 2 else 0)),
        ("depth", Sample(t_ns + 2, depth_m)),
        ("thermal", Sample(t_ns + 3, thermal_c)),
        ("imu", Sample(t_ns + 4, imu, 400.5)),
    ]


def samples(steps: int) -> list[tuple[str, Sample]]:
    return [sample for step in range(steps) for sample in one_of_each(step)]


def record(path: Path, handed: list[tuple[str, Sample]], events: int = 0) -> None:
    with Recorder(path, facts(), policy=LOSSLESS) as recorder:
        for name, sample in handed:
            recorder.write_sample(name, sample)
        for seq in range(1, events + 1):
            recorder.write_event(event(seq))
    assert recorder.report().state == "closed"
    assert not recorder.report().drops


def replayed(replay: SampleReplay) -> list[tuple[str, Sample]]:
    replay.start()
    found = []
    while not replay.ended:
        found += replay.poll(0.0)
    replay.stop()
    return found


def endless() -> Iterator[tuple[str, Sample]]:
    for step in count():
        yield from one_of_each(step)


def main(path: Path, limit_bytes: int | None = None) -> None:
    """Record for ever; with a limit no file can grow beyond it, and the outcome of five files is printed."""
    if limit_bytes:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    recorder = Recorder(path, facts(), policy=LOSSLESS)
    handed = 0
    for name, sample in endless():
        recorder.write_sample(name, sample)
        handed += 1
        if recorder.report().parts >= 5:
            break
    recorder.close()
    report = recorder.report()
    print(report.state, sum(report.written.values()) - handed, report.drops, sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
