"""The agent is killed while recording, and the log cut off anywhere."""

from __future__ import annotations

import logging
import random
import statistics
import tempfile
from pathlib import Path

from agent.log.format import LogError, RunFacts
from agent.log.recording.recorder import Recorder
from agent.log.timeline import Timeline
from agent.policy import LOSSLESS
from benchmarks.faults.measured import Measured
from benchmarks.logs import SENSORS, kill_recordings, load

START_NS = 1_700_000_000_000_000_000
KILLS = 8
CUTS = 60
RATE_MB_S = 3.5
"""Of the recording that is killed."""
BAR_MS = 250.0
"""A chunk of 100 ms is being filled and another may be on its way; 256 KiB are 75 ms."""


def record(path: Path) -> None:
    """Two seconds of the load, complete."""
    with Recorder(path, RunFacts("benchmark", START_NS, 0, SENSORS, {}), policy=LOSSLESS) as recorder:
        for name, sample in load(START_NS):
            if sample.t_ns > START_NS + 2_000_000_000:
                return
            recorder.write_sample(name, sample)


def run() -> Measured:
    """Kill recordings; cut one off at random places and read what is left."""
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        lost_ms = kill_recordings(Path(name), KILLS, rng)
        whole = Path(name) / "whole.mcap"
        record(whole)
        data = whole.read_bytes()
        logging.disable()  # every one of them is told
        cut, opened = Path(name) / "cut.mcap", 0
        for _ in range(CUTS):
            cut.write_bytes(data[: rng.randrange(len(data))])
            try:
                opened += sum(1 for _ in Timeline([cut]).read()) >= 0
            except LogError:
                opened += cut.stat().st_size < len(data) // 20  # before its facts, which stand at the beginning
    return Measured(
        f"what a kill costs is less than {BAR_MS:g} ms; every cut log is read",
        f"{KILLS} kills at {RATE_MB_S:g} MB/s cost {statistics.median(lost_ms):.0f} ms, at most {max(lost_ms):.0f}; "
        f"{opened} of {CUTS} cut logs are read",
        max(lost_ms) < BAR_MS and opened == CUTS,
    )


if __name__ == "__main__":
    print(run())
