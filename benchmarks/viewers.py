"""Cost of the messages for viewers in a recording: bytes, and time of the processor, against a recording without them.

    python -m benchmarks.viewers [--seconds 20] [--rounds 3]

Each round records the same samples and events once for each row, in turn; figures are medians of the rounds' ratios.
Pictures of the third load are encoded beforehand: the encoder is the same in every row.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.config.recording import RecordSettings
from agent.log.format import LoggedSensor, RunFacts
from agent.log.recording import recorder
from agent.log.timeline import Timeline
from agent.log.viewers.messages import ViewerMessages
from agent.log.writing import Beside
from agent.policy import LOSSLESS
from benchmarks.logs import CAMERAS, SENSORS, encoded_picture, load, without_encoder
from drivers.driver import Sample
from protos import perception_pb2 as pb

START_NS = 1_700_000_000_000_000_000
GOLDEN = Path(__file__).parents[1] / "tests" / "data" / "golden" / "log.mcap"
Handed = tuple[str, Sample] | pb.Event


class NoMessages(ViewerMessages):
    """A recorder without messages for viewers."""

    def of_sample(self, *_: object) -> tuple[Beside, ...]:  # type: ignore[override]
        """Return none."""
        return ()

    def of_event(self, *_: object) -> tuple[Beside, ...]:  # type: ignore[override]
        """Return none."""
        return ()


ROWS: dict[str, tuple[type[ViewerMessages], float]] = {
    "none": (NoMessages, 0.0),
    "all but rows of the IMU": (ViewerMessages, 0.0),
    "and 100 rows a second": (ViewerMessages, 100.0),
    "and every row": (ViewerMessages, 1000.0),
}


@dataclass(frozen=True, slots=True)
class Load:
    """Samples and events of one robot."""

    facts: RunFacts
    seconds: float
    handed: Callable[[], Iterator[Handed]]


def imu_alone(seconds: float) -> Load:
    """An IMU at 400 Hz and nothing else."""
    rows = np.random.default_rng(0).normal(0, 9.81, (50, 20, 6)).astype(np.float32)

    def handed() -> Iterator[Handed]:
        for block in range(round(seconds * 20)):
            yield "imu", Sample(START_NS + block * 50_000_000, rows[block % 50], 400.0)

    return Load(RunFacts("benchmark", START_NS, 0, {"imu": LoggedSensor("imu", 400.0)}, {}), seconds, handed)


def small_robot() -> Load:
    """The stored log, with its events."""
    from agent.log.replay.samples import SampleReplay

    timeline, found = Timeline([GOLDEN]), list[tuple[int, int, Handed]]()
    replay = SampleReplay(timeline)
    replay.start()
    while not replay.ended:
        found += [(sample.end_ns, len(found), (name, _read(sample))) for name, sample in replay.poll(0.0)]
    for message in timeline.events():
        event = pb.Event.FromString(message.data)
        found.append((event.publish_ns, len(found), event))
    ordered = [handed for *_, handed in sorted(found, key=lambda row: row[:2])]
    return Load(timeline.facts, (timeline.end_ns - timeline.start_ns) / 1e9, lambda: iter(ordered))


def large_robot(seconds: float) -> Load:
    """Four cameras, eight microphones, an IMU at 1 kHz."""
    config = {"sensors": {name: {"hfov_deg": 70} for name in CAMERAS}}

    def handed() -> Iterator[Handed]:
        for name, sample in load(START_NS):
            if sample.t_ns - START_NS > seconds * 1e9:
                return
            yield name, sample

    return Load(RunFacts("benchmark", START_NS, 0, SENSORS, config), seconds, handed)


def _read(sample: Sample) -> Sample:
    return Sample(sample.t_ns, sample.data, sample.rate_hz, sample.lost)


def record(path: Path, robot: Load, made_by: type[ViewerMessages], imu_plot_hz: float) -> tuple[float, int]:
    """Processor time and bytes of one recording."""
    recorder.ViewerMessages = made_by  # type: ignore[misc]
    began = time.process_time()
    settings = RecordSettings(imu_plot_hz=imu_plot_hz)
    with recorder.Recorder(path, robot.facts, settings, policy=LOSSLESS) as into:
        for item in robot.handed():
            if isinstance(item, pb.Event):
                into.write_event(item)
            else:
                into.write_sample(*item)
    took, size = time.process_time() - began, path.stat().st_size
    path.unlink()
    recorder.ViewerMessages = ViewerMessages  # type: ignore[misc]
    return took, size


def measure(what: str, robot: Load, folder: Path, rounds: int) -> None:
    """Print a table."""
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in ROWS}
    for _ in range(rounds):
        for name, (made_by, imu_plot_hz) in ROWS.items():
            found[name].append(record(folder / "log.mcap", robot, made_by, imu_plot_hz))
    print(f"{what:28} {'kB/s':>10} {'of none':>8} {'% of a core more':>17}")
    none = found["none"]
    for name, runs in found.items():
        size = runs[0][1]
        more = statistics.median(took - without for (took, _), (without, _) in zip(runs, none, strict=True))
        rate, share = size / robot.seconds / 1e3, 100 * more / robot.seconds
        print(f"  {name:26} {rate:10.1f} {size / none[0][1]:8.3f} {share:17.2f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        measure("an IMU at 400 Hz alone", imu_alone(arguments.seconds), Path(name), arguments.rounds)
        measure("the stored log", small_robot(), Path(name), arguments.rounds)
        put_back = without_encoder(encoded_picture())
        measure("4 cameras, 8 mics, IMU", large_robot(arguments.seconds), Path(name), arguments.rounds)
        put_back()


if __name__ == "__main__":
    main()
