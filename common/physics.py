"""Constants of nature that several packages compute with."""

from __future__ import annotations

from typing import Final

STANDARD_GRAVITY_MPS2: Final = 9.80665
"""By definition (CGPM 1901); the unit g of accelerometers."""

ZERO_KELVIN_C: Final = -273.15

SPEED_OF_SOUND_MPS: Final = 343.0
"""In dry air of 20 degrees Celsius."""
