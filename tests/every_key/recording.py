"""The keys of `record:` and `clips:`, on a recording whose clock is moved by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.clock import ManualClock
from agent.config.parse import Config, parse
from agent.log.editing.survey import survey
from agent.log.format import RunFacts, logged_sensors, sensor_of
from agent.log.reading import facts_of
from agent.log.recording import retention
from agent.log.recording.recorder import Recorder
from agent.log.replay.samples import SampleReplay
from agent.log.timeline import Timeline
from agent.policy import LOSSLESS
from agent.run.recording import live_recording
from drivers.driver import Sample
from every_key import Row, Rows
from protos import perception_pb2 as pb

S = 1_000_000_000
MB = 1_000_000
START_NS = 1_700_000_000 * S
SENSORS: dict[str, dict[str, Any]] = {
    "camera": {"type": "synthetic_camera", "width": 320, "height": 240, "rate_hz": 10},
    "depth": {"type": "synthetic_depth", "width": 32, "height": 24, "rate_hz": 10},
    "imu": {"type": "synthetic_imu", "rate_hz": 100},
}
RAW_BYTES = 320 * 240 * 3
"""Of a picture that is stored as it is: 0.23 MB."""


def config(**keys: Any) -> Config:
    return parse({"sensors": SENSORS, **keys})


def facts(made: Config) -> RunFacts:
    return RunFacts("a1b2c3", START_NS, 0, logged_sensors(made.specs), made.tree)


def picture(number: int) -> Sample:
    """A smooth picture with some noise, one every 100 ms."""
    y, x = np.mgrid[0:240, 0:320]
    noise = np.random.default_rng(number).integers(0, 40, (240, 320))
    pixels = np.stack([x / 2 + noise, y, 255 - y], axis=2).clip(0, 255).astype(np.uint8)
    return Sample(START_NS + number * S // 10, pixels)


def recorded(folder: Path, samples: list[tuple[str, Sample]], **record: Any) -> list[Path]:
    """The files of samples that are recorded as the configuration says."""
    made = config(record=record)
    with Recorder(folder / "run.mcap", facts(made), made.record, policy=LOSSLESS) as recorder:
        for sensor, sample in samples:
            recorder.write_sample(sensor, sample)
    assert not recorder.report().drops
    return sorted(folder.glob("*.mcap"))


def pictures(count: int) -> list[tuple[str, Sample]]:
    return [("camera", picture(number)) for number in range(count)]


def parts_of_pictures(key: str, count: int) -> Callable[[float, Path], list[int]]:
    """How many pictures each file holds."""

    def of(value: float, folder: Path) -> list[int]:
        files = recorded(folder, pictures(count), colour="raw", **{key: value})
        return [sum(1 for entry in Timeline([file]).read() if sensor_of(entry.topic)) for file in files]

    return of


def schemas(sensor: str, key: str) -> Callable[[str, Path], str]:
    """How a picture is stored."""

    def of(value: str, folder: Path) -> str:
        sample = picture(1) if sensor == "camera" else Sample(START_NS, np.full((24, 32), 2.0, np.float32))
        (file,) = recorded(folder, [(sensor, sample)], **{key: value})
        (entry,) = (entry for entry in Timeline([file]).read() if sensor_of(entry.topic) == sensor)
        return (
            f"{entry.schema} {next((form for form in ('jpeg', 'png') if form.encode() in entry.message.data), 'raw')}"
        )

    return of


def jpeg_is_small(quality: int, folder: Path) -> bool:
    """Whether a picture takes less than a twelfth of its pixels."""
    (file,) = recorded(folder, pictures(1), jpeg_quality=quality)
    return file.stat().st_size < RAW_BYTES / 12


def is_compressed(compression: Mapping[str, str], folder: Path) -> bool:
    black = Sample(START_NS, np.zeros((240, 320, 3), np.uint8))
    (file,) = recorded(folder, [("camera", black)], colour="raw", compression=dict(compression))
    return file.stat().st_size < RAW_BYTES / 4


def kept_of(folder: Path, rules: Callable[[Config], Any], **record: Any) -> list[str]:
    """Which of five old logs of 1 MB stay; their numbers are their ages in days."""
    for days in range(1, 6):
        path = folder / f"{days}.mcap"
        path.write_bytes(bytes(MB))
        changed_ns = START_NS - days * 86_400 * S
        os.utime(path, ns=(changed_ns, changed_ns))
    retention.apply(folder, rules(config(record=record)), START_NS)
    return sorted(path.stem for path in folder.glob("*.mcap"))


def state_with_500_mb_left(min_free_mb: float, folder: Path) -> str:
    made = config(record={"min_free_mb": min_free_mb})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=500 * MB))
        with Recorder(folder / "run.mcap", facts(made), made.record) as recorder:
            return recorder.report().state


def folder_of_a_live_run(name: str, folder: Path) -> str:
    made = config(record={"folder": str(folder / name)})
    recorder = live_recording(made, facts(made), None, ManualClock(START_NS), lambda _: None).recorder
    assert recorder is not None
    recorder.close()
    (file,) = folder.rglob("*.mcap")
    assert facts_of(file).run_id == "a1b2c3"
    return file.parent.name


def saved_clips(place: Path, asks: bool, **clips: Any) -> list[Path]:
    """The clips of a run with an alert that began 4 s after its start; a picture came every 0.1 s."""
    made = config(
        clips={"folder": str(place / "clips"), "before_s": 1.5, "after_s": 2.5, **clips},
        record={"colour": "raw"},
        queries=[{"id": "dog", "text": "a dog", "clip": asks}],
    )
    clock = ManualClock(START_NS)
    keeping = live_recording(made, facts(made), None, clock, lambda _: None)
    recorder = keeping.recorder
    assert recorder is not None
    # Not beyond the clip's grace: it is saved when the recording is closed, however busy the machine is.
    for number in range(46 + round(10 * made.clips.after_s)):
        sample = picture(number)
        clock.sleep_until(sample.t_ns)
        recorder.write_sample("camera", sample)
        if number == 40:
            alert = pb.AlertTransition(query_id="dog", alert_id=1, phase=pb.ALERT_PHASE_BEGIN, begin_ns=sample.t_ns)
            for listener in keeping.listeners:
                listener(pb.Event(run_id="a1b2c3", alert=alert))
    recorder.close()
    return list(place.rglob("*_dog_*.mcap"))


def clip(place: Path, **clips: Any) -> tuple[Path, list[float]]:
    """The one that is saved, and when its pictures were captured after the alert began."""
    (path,) = saved_clips(place, asks=True, **clips)
    replay = SampleReplay(path)
    replay.start()
    times = []
    while not replay.ended:
        times += [round((sample.t_ns - START_NS) / S - 4, 2) for _, sample in replay.poll(0.0)]
    replay.stop()
    return path, times


def clips_kept(keep_gb: float, folder: Path) -> int:
    """How many old clips of 1 MB stay when another is saved."""
    old = folder / "clips"
    old.mkdir()
    for number in range(6):
        (old / f"{number}.mcap").write_bytes(bytes(MB))
    clip(folder, keep_gb=keep_gb, before_s=0.2, after_s=0.2)
    return len(list(old.glob("?.mcap")))


def plotted_a_second(most_hz: float, folder: Path) -> int:
    """Rows of an IMU of 100 Hz that one second of a log holds as plain numbers."""
    rows = np.zeros((10, 6), np.float32)
    blocks = [("imu", Sample(START_NS + number * S // 10, rows, 100.0)) for number in range(10)]
    [file] = recorded(folder, blocks, imu_plot_hz=most_hz)
    found = survey([file]).viewers.get("/sensors/imu/rows")
    return found.count if found else 0


ROWS: Rows = {
    "record.folder": Row(folder_of_a_live_run, ("here", "here"), ("there", "there")),
    # A file ends with the chunk that makes it this large; a picture of 0.23 MB fills a chunk with the next one.
    "record.split_mb": Row(parts_of_pictures("split_mb", 24), (1.0, [6, 6, 6, 6]), (2.0, [10, 10, 4])),
    "record.split_s": Row(parts_of_pictures("split_s", 24), (1.0, [10, 10, 4]), (1.8, [18, 6])),
    "record.keep_gb": Row(
        lambda gb, folder: kept_of(folder, lambda made: made.record.retention, keep_gb=gb),
        (0.0021, ["1", "2"]),
        (0.0041, ["1", "2", "3", "4"]),
    ),
    "record.keep_days": Row(
        lambda days, folder: kept_of(folder, lambda made: made.record.retention, keep_days=days),
        (1.5, ["1"]),
        (3.5, ["1", "2", "3"]),
    ),
    "record.min_free_mb": Row(state_with_500_mb_left, (100.0, "recording"), (900.0, "stopped")),
    "record.colour": Row(
        schemas("camera", "colour"), ("png", "foxglove.CompressedImage png"), ("raw", "foxglove.RawImage raw")
    ),
    "record.jpeg_quality": Row(jpeg_is_small, (15, True), (98, False)),
    "record.plane": Row(
        schemas("depth", "plane"), ("png", "foxglove.CompressedImage png"), ("raw", "foxglove.RawImage raw")
    ),
    "record.compression": Row(is_compressed, ({"camera": "lz4"}, True), ({"imu": "lz4"}, False)),
    "record.imu_plot_hz": Row(plotted_a_second, (20, 20), (50, 50)),
    "queries.clip": Row(lambda asks, folder: len(saved_clips(folder, asks)), (True, 1), (False, 0)),
    "clips.folder": Row(
        lambda name, folder: clip(folder, folder=str(folder / name))[0].parent.name,
        ("here", "here"),
        ("there", "there"),
    ),
    "clips.before_s": Row(
        lambda s, folder: [clip(folder, before_s=s)[1][i] for i in (0, -1)], (0.5, [-0.5, 2.4]), (2.0, [-2.0, 2.4])
    ),
    "clips.after_s": Row(
        lambda s, folder: [clip(folder, after_s=s)[1][i] for i in (0, -1)], (0.5, [-1.5, 0.4]), (3.0, [-1.5, 2.9])
    ),
    # The last picture came 3 s after the alert; so many of 0.23 MB are in the ring then.
    "clips.memory_mb": Row(
        lambda mb, folder: clip(folder, memory_mb=mb)[1][0],
        (6.0, pytest.approx(0.5, abs=0.15)),
        (9.0, pytest.approx(-0.8, abs=0.15)),
    ),
    # The new one takes 0.9 MB of it.
    "clips.keep_gb": Row(clips_kept, (0.0025, 1), (0.0045, 3)),
}  # fmt: skip
