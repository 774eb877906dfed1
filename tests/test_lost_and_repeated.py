"""What windows make of rows that the driver knows to be lost, and of samples that come twice."""

from __future__ import annotations

import numpy as np

from agent.streams import Stream
from agent.windows.windower import Windower
from drivers.driver import Sample

S = 1_000_000_000
RATE_HZ = 16_000
ROWS = 320
WINDOW_ROWS = 2 * RATE_HZ


def test_a_hole_is_as_long_as_the_driver_says_though_the_stamp_after_it_is_off() -> None:
    lost, off_rows = 300, 40
    stream = Stream("microphone", "audio", float(RATE_HZ), 50.0, 1 << 20, 2.0, "all", 64, 0.2)
    windower = Windower({"microphone": stream}, S // 2, 0)
    rng = np.random.default_rng(1)
    for number in range(220):
        begin = number * ROWS + (lost if number >= 60 else 0)
        stamp = begin + (off_rows if number == 60 else 0)
        rows = rng.normal(0, 0.1, (ROWS, 2)).astype(np.float32)
        sample = Sample(round(stamp * 1e9 / RATE_HZ), rows, float(RATE_HZ), lost if number == 60 else 0)
        windower.push("microphone", sample)
    (window,) = (tick.windows["microphone"] for tick in windower.finish() if tick.t_ns == 3 * S)
    assert window.data is not None
    assert round(window.filled * WINDOW_ROWS) == lost
    assert int((window.data == 0).all(axis=1).sum()) == lost


def test_a_picture_that_comes_twice_is_taken_once_and_counted() -> None:
    stream = Stream("depth", "depth", 10.0, 10.0, 1 << 20, 0.0, "all", 8, 0.2)
    windower = Windower({"depth": stream}, S // 2, 0)
    for number in range(12):
        picture = Sample(number * S // 10, np.linspace(1, 2 + number, 48, dtype=np.float32).reshape(6, 8))
        windower.push("depth", picture)
        if number in (3, 7):
            other = np.full((6, 8), 9.0, np.float32)
            windower.push("depth", Sample(picture.t_ns, other))
    assert windower.drops() == {"depth": {"duplicate": 2}}
