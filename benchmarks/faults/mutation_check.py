"""What becomes of logs with something wrong inside: nothing but what they hold, or an error of one line."""

from __future__ import annotations

import logging
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agent.config.faults import ConfigError
from agent.config.recording import RecordSettings
from agent.log.editing.cutting import cut
from agent.log.editing.repair import repair
from agent.log.editing.survey import survey
from agent.log.format import LogError, LoggedSensor, RunFacts
from agent.log.recording.recorder import Recorder
from agent.log.replay.samples import SampleReplay
from agent.log.stored_config import stored_config
from agent.log.timeline import Timeline
from agent.policy import LOSSLESS
from benchmarks.faults.hostile_logs import START_NS
from benchmarks.faults.mutated_logs import mutated
from drivers.driver import Sample

SENSORS = {
    "camera": LoggedSensor("vision", 10.0),
    "microphone": LoggedSensor("audio", 16_000.0),
    "depth": LoggedSensor("depth", 10.0, scale=0.001),
    "imu": LoggedSensor("imu", 100.0),
}


@dataclass
class Outcomes:
    """How often what was done ended how."""

    fine: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """With one line."""
    faults: Counter[str] = field(default_factory=Counter)
    """With anything else: none may be."""


def check(count: int, seed: str = "mutations") -> Outcomes:
    """Read, repair, cut and replay (without a model) so many altered copies of a log, in this process."""
    found, rng = Outcomes(), random.Random(seed)
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, "log.mcap"), Path(folder, "out.mcap")
        data = _recorded(path)
        uses: dict[str, Callable[[], object]] = {
            "survey": lambda: survey([path]),
            "repair": lambda: repair(path, out),
            "cut": lambda: cut([path], out, from_ns=START_NS + 50_000_000),
            "replay": lambda: _replay(path),
        }
        for _ in range(count):
            path.write_bytes(mutated(data, rng))
            for name, use in uses.items():
                _note(found, name, use)
                out.unlink(missing_ok=True)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Every damage is logged otherwise."""
    logger = logging.getLogger("agent.log")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _note(found: Outcomes, name: str, use: Callable[[], object]) -> None:
    try:
        use()
    except (LogError, ConfigError) as error:
        (found.refused if "\n" not in str(error) else found.faults)[name] += 1
    except Exception as error:  # noqa: BLE001  whatever it is, it is what is counted
        found.faults[f"{name}: {error!r:.100}"] += 1
    else:
        found.fine[name] += 1


def _replay(path: Path) -> None:
    stored_config(Timeline([path]))
    replay = SampleReplay(path)
    replay.start()
    while not replay.ended:
        polled = replay.poll(0.0)
        if isinstance(polled, list):
            for _, sample in polled:
                assert sample.data.ndim
    replay.stop()


def _recorded(path: Path) -> bytes:
    """A fifth of a second of four sensors."""
    tree = {name: {"type": "remote", "modality": s.modality, "rate_hz": s.rate_hz} for name, s in SENSORS.items()}
    rng = np.random.default_rng(7)
    with Recorder(
        path,
        RunFacts("a1b2c3", START_NS, 0, SENSORS, {"sensors": tree}),
        RecordSettings(chunk_bytes=20_000),
        policy=LOSSLESS,
    ) as recorder:
        recorder.write_model("imagebind_nano 0123")
        for step in range(2):
            t_ns = START_NS + step * 100_000_000
            recorder.write_sample("camera", Sample(t_ns, rng.integers(0, 255, (48, 64, 3), np.uint8)))
            recorder.write_sample("depth", Sample(t_ns, rng.uniform(1, 5, (48, 64)).astype(np.float32)))
            sound = rng.uniform(-1, 1, (1600, 2)).astype(np.float32)
            recorder.write_sample("microphone", Sample(t_ns, sound, 16_000.0))
            recorder.write_sample("imu", Sample(t_ns, rng.normal(0, 9, (10, 6)).astype(np.float32), 100.0))
    data = path.read_bytes()
    path.unlink()
    return data
