"""A microphone on a private sound server, and an agent that hears it, for the rows of the table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from real_sources import NullSinkMicrophone

from benchmarks.faults.live_agent import LiveAgent


@contextmanager
def hearing() -> Iterator[tuple[NullSinkMicrophone, LiveAgent]]:
    """Noise played into the microphone, and an agent with it and an inertial sensor."""
    noise = np.random.default_rng(1).normal(0, 0.1, (16_000, NullSinkMicrophone.channels)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, NullSinkMicrophone(Path(folder), noise) as source:
        sensors = {
            "microphone": {"type": "microphone", "device": source.device, "channels": source.channels},
            "imu": {"type": "synthetic_imu"},
        }
        with LiveAgent(sensors, source.environment) as live:
            yield source, live
