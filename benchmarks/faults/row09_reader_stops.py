"""Nobody reads a microphone for longer than its buffer holds, five times; the sound server goes on recording."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from real_sources import NullSinkMicrophone, missing

from agent.clock import RunClock
from benchmarks.faults.measured import Measured
from drivers.microphone import RING_S, Microphone, MicrophoneOptions

TIMES = 5
STOP_S = RING_S + 0.7
READ = 30
"""Blocks between two stops."""
OFF_MS = 25.0
"""Half a block."""
BAR = f"rows lost are counted to the row; stamps keep to the count of rows, read or lost, within {OFF_MS:g} ms"


class CountedMicrophone(Microphone):
    """Counts what the sound server handed over."""

    handed_over = 0

    def _arrive(self, rows: NDArray[np.float32], n: int, time: Any, status: Any) -> None:
        self.handed_over += n
        super()._arrive(rows, n, time, status)


def run() -> Measured:
    """Stop reading."""
    if why := missing("pulseaudio", "portaudio"):
        return Measured(BAR, f"cannot be injected: PulseAudio and PortAudio are {why}", met=False)
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(1).normal(0, 0.1, (16_000, 4)).astype(np.float32)
        with NullSinkMicrophone(Path(folder), noise) as server:
            os.environ.update(server.environment)
            return _measure(server)


def _measure(server: NullSinkMicrophone) -> Measured:
    clock = RunClock.start()
    options = MicrophoneOptions(device=server.device, channels=server.channels, rate_hz=server.rate_hz)
    overflows, read, lost = 0, 0, 0
    off_ms: list[float] = []
    first_ns: int | None = None
    with CountedMicrophone(options, clock) as microphone:
        for _ in range(TIMES):
            clock.sleep_until(clock.now_ns() + round(STOP_S * 1e9))
            for _ in range(round(RING_S * 1e3 / options.block_ms) + READ):
                sample = microphone.read(2.0)
                lost += sample.lost
                overflows += sample.lost > 0
                first_ns = sample.t_ns if first_ns is None else first_ns
                off_ms.append((sample.t_ns - first_ns) / 1e6 - (read + lost) / server.rate_hz * 1e3)
                read += len(sample.data)
        queued = microphone._ring._put - microphone._ring._taken
        waiting = microphone._ring._dropped
        missing_rows = microphone.handed_over - read - lost - waiting - queued * microphone._block_rows
    off = max(map(abs, off_ms))
    return Measured(
        BAR,
        f"{TIMES} stops of {STOP_S:.1f} s: {overflows} overflows told, {lost} rows lost, {missing_rows} of all that "
        f"PortAudio handed over unaccounted for; stamps within {off:.1f} ms of the count",
        overflows == TIMES and abs(missing_rows) <= microphone._block_rows and off < OFF_MS,
    )
