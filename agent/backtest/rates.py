"""Rates of rare events, and how far a count can be trusted. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

CONFIDENCE = 0.95
_STEPS = 60


def interval(count: int, hours: float) -> tuple[float, float]:
    """Return the rates an hour between which the true one lies, at CONFIDENCE, when `count` events came in `hours`.

    Exact for a Poisson process (Garwood, 1936): alarms that come in bursts are less certain than that.
    """
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if count == 0 else _mean_where(lambda mean: _at_most(count - 1, mean) > 1 - tail, count)
    return low / hours, _mean_where(lambda mean: _at_most(count, mean) > tail, count) / hours


def hours_to_tell(per_hour: float) -> float:
    """Return the hours without an alarm after which the rate is below `per_hour`, at CONFIDENCE."""
    return -math.log((1 - CONFIDENCE) / 2) / per_hour


def shown(count: int, hours: float) -> str:
    """A rate and its interval: `3 an hour (95 %: 0.62 to 8.8)`."""
    low, high = (plain(rate, 2) for rate in interval(count, hours))
    return f"{plain(count / hours)} an hour ({CONFIDENCE:.0%}: {low} to {high})".replace("%", " %")


def plain(value: float, digits: int = 3) -> str:
    """A number below a million rounded to so many digits, and written out: `1200`, not `1.2e+03`."""
    return f"{float(f'{value:.{digits}g}'):g}"


def _at_most(count: int, mean: float) -> float:
    """The probability of `count` events or fewer of a Poisson distribution."""
    return math.fsum(math.exp(i * math.log(mean) - mean - math.lgamma(i + 1)) for i in range(count + 1))


def _mean_where(below: Callable[[float], bool], count: int) -> float:
    """The mean at which `below`, true of small ones, turns false."""
    low, high = 1e-12, count + 10 * math.sqrt(count + 1) + 10
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return high
