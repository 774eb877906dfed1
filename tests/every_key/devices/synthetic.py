"""The synthetic world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.clock import ManualClock
from drivers.driver import Sample
from every_key import Row, Rows, differing
from every_key.devices.reading import MS, START_NS, of_driver, taken, waited_ms


def scene_rows(kind: str, rates: tuple[int, int]) -> Rows:
    """The options that all synthetic sensors share."""
    small = {"width": 64, "height": 48} if kind not in ("synthetic_microphone", "synthetic_imu") else {}

    def made(count: int = 1, **options: Any) -> list[Sample]:
        return taken(kind, count, **{"pace": "fast", **small, **options})

    def row_s(rate_hz: float, _: Path) -> float:
        first, second = made(2, rate_hz=rate_hz)
        rows = len(first.data) if first.rate_hz else 1
        return round((second.t_ns - first.t_ns) / 1e9 / rows * rate_hz, 6) * rate_hz

    # Two pictures are due 0 and 100 ms after the start, two blocks of 50 ms when their last rows are.
    last_ms = 100.0
    return {
        "seed": differing(lambda seed, _: made(seed=seed)[0].data.tobytes(), 3, 4),
        "pace": Row(
            lambda pace, _: waited_ms(kind, 2, **{**small, "pace": pace}),
            ("real", pytest.approx(last_ms)),
            ("fast", 0.0),
        ),
        "duration_s": Row(
            lambda s, _: len(made(99, duration_s=s)),
            (0.2, 4 if not small else 2),
            (0.6, 12 if not small else 6),
        ),
        "rate_hz": Row(row_s, (rates[0], rates[0]), (rates[1], rates[1])),
    }  # fmt: skip


def picture_rows(kind: str) -> Rows:
    def made(**options: Any) -> Any:
        return taken(kind, 1, **{"pace": "fast", "width": 64, "height": 48, "seed": 7, **options})[0].data

    return {
        **scene_rows(kind, (5, 20)),
        "width": Row(lambda width, _: made(width=width).shape[1], (72, 72), (96, 96)),
        "height": Row(lambda height, _: made(height=height).shape[0], (36, 36), (60, 60)),
        "hfov_deg": differing(lambda hfov, _: made(hfov_deg=hfov).tobytes(), 50.0, 100.0),
    }


def late_sound(reflections: bool, _: Path) -> bytes:
    """Two seconds of a scene that has begun to sound."""
    clock = ManualClock(START_NS)
    clock.sleep_until(START_NS + 8_000 * MS)
    blocks = taken("synthetic_microphone", 40, clock, seed=7, reflections=reflections)
    return np.concatenate([sample.data for sample in blocks]).tobytes()


ROWS: Rows = {
    **of_driver("synthetic_camera", picture_rows("synthetic_camera")),
    **of_driver("synthetic_depth", picture_rows("synthetic_depth")),
    **of_driver("synthetic_thermal", picture_rows("synthetic_thermal")),
    **of_driver(
        "synthetic_microphone",
        {
            **scene_rows("synthetic_microphone", (8000, 48_000)),
            "reflections": differing(late_sound, True, False),
        },
    ),
    **of_driver("synthetic_imu", scene_rows("synthetic_imu", (100, 200))),
}  # fmt: skip
