"""Labels of axes: round numbers, few enough to stand beside each other on a phone. Pure."""

from __future__ import annotations

import math

from agent.backtest.page.lanes import MOST_TICKS

_DAY_S = 86400
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14400, 21600, 43200)


def clock(seconds: float, places: int = 0) -> str:
    """A time from the start of a recording: `1:02:03`, or `2:03.5` with so many places."""
    whole = round(seconds * 10**places)
    rest, fraction = divmod(abs(whole), 10**places)
    hours, minutes, seconds_ = rest // 3600, rest // 60 % 60, rest % 60
    told = f"{hours}:{minutes:02d}:{seconds_:02d}" if hours else f"{minutes}:{seconds_:02d}"
    return ("-" if whole < 0 else "") + told + (f".{fraction:0{places}d}" if places else "")


def time_ticks(from_s: float, to_s: float) -> list[tuple[float, str]]:
    """Return shares of the axis between two times, and their labels: at most MOST_TICKS."""
    span = to_s - from_s
    whole_days = math.ceil(span / (MOST_TICKS - 1) / _DAY_S) * _DAY_S
    step = next((step for step in _STEPS_S if _fits(from_s, to_s, step)), whole_days)
    return [((n * step - from_s) / span, clock(n * step, int(step < 1))) for n in _multiples(from_s, to_s, step)]


def _fits(from_s: float, to_s: float, step: float) -> bool:
    """Return whether labels at so many seconds are few and stand far enough from each other."""
    return to_s - from_s <= MOST_TICKS * step and len(_multiples(from_s, to_s, step)) <= MOST_TICKS


def _multiples(from_s: float, to_s: float, step: float) -> range:
    return range(math.ceil(from_s / step - 1e-9), math.floor(to_s / step + 1e-9) + 1)


def score_ticks() -> list[tuple[float, str]]:
    """Return the labels of scores from 0 to 1."""
    return [(fifth / 5, f"{fifth / 5:g}") for fifth in range(6)]
