"""A stream of 3.5 MB/s to be recorded until killed: `recorded_stream.py FILE PROGRESS`, on the stream's own clock.

The first 8 bytes of PROGRESS tell up to which capture time everything has been handed in.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np

from agent.clock import ManualClock
from agent.config.recording import PictureFormat, RecordSettings
from agent.log.encoded import encode_sample
from agent.log.format import LoggedSensor, RunFacts
from agent.log.recording.parts import Recording
from drivers.driver import Sample

START_NS = 1_700_000_000_000_000_000
STEP_NS = 10_000_000
SENSORS = {"camera": LoggedSensor("vision", 25.0), "microphone": LoggedSensor("audio", 32000.0)}


def stream() -> Iterator[tuple[str, Sample]]:
    """Raw pictures of 123 kB and blocks of 5 kB; each ends a step later than the one before."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (160, 256, 3), np.uint8)
    rows = rng.uniform(-1, 1, (320, 8)).astype(np.float32)
    for step in count():
        t_ns = START_NS + step * STEP_NS
        if step % 4 == 0:
            yield "camera", Sample(t_ns, picture)
        yield "microphone", Sample(t_ns, rows, 32000.0)


def main(path: Path, progress: Path) -> None:
    """Record for ever."""
    clock = ManualClock(START_NS)
    facts = RunFacts("a1b2c3", START_NS, 0, SENSORS, {})
    settings = RecordSettings(pictures=PictureFormat(colour="raw"))
    recording = Recording(
        path,
        facts,
        settings,
        clock,
        on_written=lambda _messages: None,
        on_dropped=lambda _messages: None,
        on_lost=lambda _counts: None,
    )
    with progress.open("r+b") as file, mmap.mmap(file.fileno(), 8) as done:
        for name, sample in stream():
            clock.sleep_until(sample.end_ns)
            recording.write(encode_sample(name, SENSORS[name], sample, settings.pictures))
            recording.tend(sample.t_ns)
            struct.pack_into("<q", done, 0, sample.end_ns)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
