"""Checks of option values; a driver's constructor calls them, and what fails is a BadOption of one line."""

from __future__ import annotations

import math

from drivers.driver import BadOption

MAX_LATENCY_MS = 10_000.0
"""A stamp that is further off is in another unit, or of another clock."""


def require(fits: bool, option: str, value: object, wanted: str) -> None:
    """Raise BadOption naming the option, its value and what is wanted, unless `fits`."""
    if not fits:
        raise BadOption(f"{option} is {value!r}, wanted {wanted}")


def require_positive(option: str, value: float | None) -> None:
    """A finite number over zero, or None where the option may be left out."""
    require(value is None or (math.isfinite(value) and value > 0), option, value, "a number over 0")


def require_finite(option: str, value: float) -> None:
    """Any number but NaN and infinity."""
    require(math.isfinite(value), option, value, "a finite number")


def require_between(option: str, value: float, lowest: float, highest: float, unit: str) -> None:
    """A number of the usual magnitude of its unit: one in another unit is too small as often as too large."""
    require(lowest <= value <= highest, option, value, f"{lowest:g} to {highest:g} {unit}")


def latency_ns(latency_ms: float) -> int:
    """The `latency_ms` option in nanoseconds: how long before its time stamp a sample was really captured."""
    require_between("latency_ms", latency_ms, -MAX_LATENCY_MS, MAX_LATENCY_MS, "milliseconds")
    return round(latency_ms * 1e6)
