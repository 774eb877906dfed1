"""Usual magnitudes of what sensors measure: values of another unit are too small as often as too large.

A shock is short and a unit is not, so these are of the middle of many values, never of one. They are for files and for
callers of the model's public functions, which may be wrong about a unit; a driver knows its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Usual:
    """Range of a usual magnitude, and the units that values beyond it look like."""

    lowest: float
    highest: float
    too_small: str
    too_large: str

    def looks_like(self, value: float) -> str:
        """Return what unit a magnitude looks like; empty when it is usual."""
        return self.too_small if value < self.lowest else self.too_large if value > self.highest else ""


ACCELERATION_MPS2: Final = Usual(3.0, 200.0, "units of gravity, or gravity was taken out", "milli-g")
"""Of the median norm: gravity is always in it, and no robot is at 20 g most of the time."""
ROTATION_RPS: Final = Usual(0.0, 40.0, "", "degrees per second")
"""Of the median of the fastest axis: no robot turns six times a second."""
DEPTH_M: Final = Usual(0.02, 200.0, "kilometres, or were scaled twice", "millimetres")
"""Of the mean of what was measured: no depth camera sees nearer than some centimetres."""
TEMPERATURE_C: Final = Usual(
    -80.0, 200.0, "raw counts or tenths of a kelvin, scaled as hundredths of a kelvin", "kelvin or raw counts"
)
"""Of the mean of a picture: a clear night sky is about -60."""
