"""Labels of axes: round numbers, few enough to stand beside each other on a phone. Pure."""

from __future__ import annotations

import math

_PLOT_PX = 240
"""Least width of a chart: that on a phone of 360 px."""
_CHARACTER_PX = 7.2
"""Width of a digit, in a wide font."""
_BETWEEN_PX = 8
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14400, 21600, 43200)
_DAY_S = 86400


def clock(seconds: float, places: int = 0) -> str:
    """A time from the start of a recording: `1:02:03`, or `2:03.5` with so many places."""
    whole = round(seconds * 10**places)
    rest, fraction = divmod(abs(whole), 10**places)
    hours, minutes, of_minute = rest // 3600, rest // 60 % 60, rest % 60
    told = f"{hours}:{minutes:02d}:{of_minute:02d}" if hours else f"{minutes}:{of_minute:02d}"
    return ("-" if whole < 0 else "") + told + (f".{fraction:0{places}d}" if places else "")


def time_ticks(from_s: float, to_s: float) -> list[tuple[float, str]]:
    """Return shares of the axis between two times, and their labels, as many as have room."""
    span_s = to_s - from_s
    label_px = _CHARACTER_PX * len(clock(to_s, int(span_s < 5))) + _BETWEEN_PX
    least_s = span_s * label_px / _PLOT_PX
    step = next((step for step in _STEPS_S if step >= least_s), math.ceil(least_s / _DAY_S) * _DAY_S)
    multiples = range(math.ceil(from_s / step - 1e-9), math.floor(to_s / step + 1e-9) + 1)
    return [((n * step - from_s) / span_s, clock(n * step, int(step < 1))) for n in multiples]


def score_ticks() -> list[tuple[float, str]]:
    """Return the labels of scores from 0 to 1."""
    return [(fifth / 5, f"{fifth / 5:g}") for fifth in range(6)]
