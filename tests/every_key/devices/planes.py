"""Cameras of depth and heat: devices, and pictures in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.driver import Sample
from drivers.image_file import write_png
from every_key import Row, Rows
from every_key.devices.reading import of_driver, outcome, period_ms, shift_ms, taken, waited_ms
from every_key.devices.v4l2 import device_rows, fourcc, raw_value


def pictures(folder: Path, count: int = 1000, width: int = 8) -> str:
    """Three pictures of counts, 8 x 6."""
    folder.mkdir(exist_ok=True)
    for number in range(3):
        (folder / f"{number}.png").write_bytes(write_png(np.full((6, width), count, np.uint16)))
    return str(folder)


def png_rows(kind: str, value_of: Callable[[float], float]) -> Rows:
    """The options that depth and thermal pictures in files share; `value_of` counts is what a pixel comes to."""

    def play(folder: Path, count: int = 3, **options: Any) -> list[Sample]:
        return taken(kind, count, **{"path": pictures(folder / "pictures"), "pace": "fast", **options})

    def place(path: str, folder: Path) -> float:
        for name, counts in (("near", 30_000), ("far", 40_000)):
            pictures(folder / name, counts)
        return float(play(folder, path=str(folder / path))[0].data[0, 0])

    return {
        "path": Row(
            place,
            ("near", pytest.approx(value_of(30_000), rel=1e-5)),
            ("far", pytest.approx(value_of(40_000), rel=1e-5)),
        ),
        "rate_hz": Row(lambda rate, folder: period_ms(play(folder, rate_hz=rate)), (4.0, 250.0), (20.0, 50.0)),
        "width": Row(
            lambda width, folder: outcome(lambda: play(folder, width=width)), (8, "fits"), (9, "FormatMismatch")
        ),
        "height": Row(
            lambda height, folder: outcome(lambda: play(folder, height=height)), (6, "fits"), (5, "FormatMismatch")
        ),
        "latency_ms": Row(lambda ms, folder: shift_ms(play(folder, latency_ms=ms)[0]), (20.0, 20.0), (70.0, 70.0)),
        "pace": Row(
            lambda pace, folder: waited_ms(kind, 3, path=pictures(folder / "pictures"), pace=pace, rate_hz=4.0),
            ("real", 500.0),
            ("fast", 0.0),
        ),
        "loop": Row(lambda loop, folder: len(play(folder, 5, loop=loop)), (True, 5), (False, 3)),
    }


ROWS: Rows = {
    **of_driver(
        "depth_png",
        {
            **png_rows("depth_png", lambda counts: counts / 1000),
            "scale_m": Row(
                lambda m, folder: float(
                    taken("depth_png", 1, path=pictures(folder / "pictures"), pace="fast", scale_m=m)[0].data[0, 0]
                ),
                (0.002, pytest.approx(2.0)),
                (0.00025, pytest.approx(0.25)),
            ),
        },
    ),
    **of_driver(
        "thermal_png",
        {
            **png_rows("thermal_png", lambda counts: counts / 100 - 273.15),
            "scale_c": Row(
                lambda c, folder: float(
                    taken("thermal_png", 1, path=pictures(folder / "pictures"), pace="fast", scale_c=c)[0].data[0, 0]
                ),
                (0.1, pytest.approx(-173.15)),
                (0.3, pytest.approx(26.85, abs=1e-3)),
            ),
            "offset_c": Row(
                lambda c, folder: float(
                    taken("thermal_png", 1, path=pictures(folder / "pictures"), pace="fast", offset_c=c)[0].data[0, 0]
                ),
                (5.0, pytest.approx(15.0)),
                (-40.0, pytest.approx(-30.0)),
            ),
        },
    ),
    **of_driver(
        "depth_v4l2",
        {
            **device_rows("depth_v4l2"),
            "device": Row(
                raw_value("depth_v4l2", "device"),
                ("/dev/null", pytest.approx(30.0)),
                ("/dev/zero", pytest.approx(40.0)),
            ),
            "pixel_format": Row(fourcc("depth_v4l2"), ("Z16", "Z16"), ("Y16", "Y16")),
            "scale_m": Row(
                raw_value("depth_v4l2", "scale_m"), (0.0001, pytest.approx(3.0)), (0.002, pytest.approx(60.0))
            ),
        },
    ),
    **of_driver(
        "thermal_y16",
        {
            **device_rows("thermal_y16"),
            "device": Row(
                raw_value("thermal_y16", "device"),
                ("/dev/null", pytest.approx(26.85, abs=1e-3)),
                ("/dev/zero", pytest.approx(126.85, abs=1e-3)),
            ),
            "scale_c": Row(
                raw_value("thermal_y16", "scale_c"),
                (0.02, pytest.approx(326.85, abs=1e-3)),
                (0.005, pytest.approx(-123.15)),
            ),
            "offset_c": Row(
                raw_value("thermal_y16", "offset_c"), (-250.0, pytest.approx(50.0)), (-300.0, pytest.approx(0.0))
            ),
        },
    ),
}  # fmt: skip
