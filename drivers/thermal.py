"""Thermal cameras as images in degrees Celsius: 16-bit PNG sequences and Y16 devices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from drivers.driver import Clock, Modality, StreamFacts
from drivers.forms import FORMS
from drivers.option_checks import require_between
from drivers.png import PngOptions, PngSequence
from drivers.raw16 import Raw16Camera, Raw16Options

_CENTIKELVIN_C, _ZERO_KELVIN_C = FORMS["thermal"].count_scale, FORMS["thermal"].count_offset


SCALES_C = 0.001, 10.0
"""Degrees of a count: 0.01 or 0.1 of a Lepton, some of a picture of 8 bits."""
OFFSETS_C = -500.0, 200.0
"""Degrees Celsius of a count of 0: 0 K where counts are kelvins; 273.15 is the sign forgotten."""


@dataclass(frozen=True, slots=True)
class ThermalPngOptions(PngOptions):
    """A directory of 16-bit grey PNG thermal images, or a pattern; played in the order of the numbers in their names.

    Temperature = counts * scale_c + offset_c; the defaults are hundredths of a kelvin.
    """

    rate_hz: float = 9.0
    """Images a second; 9 is the most that thermal cameras without an export licence give."""
    scale_c: float = _CENTIKELVIN_C
    """Degrees Celsius of one count."""
    offset_c: float = _ZERO_KELVIN_C
    """Degrees Celsius of a count of 0."""


@dataclass(frozen=True, slots=True)
class ThermalY16Options(Raw16Options):
    """A thermal camera that is a V4L2 device with the pixel format 'Y16 ' (FLIR Lepton on a PureThermal board).

    Temperature = counts * scale_c + offset_c; the defaults are a radiometric Lepton's with TLinear on, which counts
    hundredths of a kelvin (tenths in low gain: set scale_c to 0.1).
    """

    scale_c: float = _CENTIKELVIN_C
    """Degrees Celsius of one count."""
    offset_c: float = _ZERO_KELVIN_C
    """Degrees Celsius of a count of 0."""


class ThermalPng(PngSequence):
    """Yields thermal samples, float32 [H, W] in degrees Celsius."""

    Options: ClassVar[type[Any]] = ThermalPngOptions
    modality: ClassVar[Modality] = "thermal"

    @classmethod
    def stream(cls, options: ThermalPngOptions) -> StreamFacts:
        """As of its pictures, and the scale of its counts."""
        return replace(super().stream(options), scale=options.scale_c, offset=options.offset_c)

    def __init__(self, options: ThermalPngOptions, clock: Clock) -> None:
        require_between("scale_c", options.scale_c, *SCALES_C, "degrees a count")
        require_between("offset_c", options.offset_c, *OFFSETS_C, "degrees Celsius")
        super().__init__(options, clock)
        self._scale_c, self._offset_c = options.scale_c, options.offset_c

    def convert(self, counts: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Return counts as degrees Celsius."""
        return temperature_c(counts, self._scale_c, self._offset_c)


class ThermalY16(Raw16Camera):
    """Yields thermal samples, float32 [H, W] in degrees Celsius."""

    Options: ClassVar[type[Any]] = ThermalY16Options
    modality: ClassVar[Modality] = "thermal"

    @classmethod
    def stream(cls, options: ThermalY16Options) -> StreamFacts:
        """As of its pictures, and the scale of its counts."""
        return replace(super().stream(options), scale=options.scale_c, offset=options.offset_c)

    def __init__(self, options: ThermalY16Options, clock: Clock) -> None:
        require_between("scale_c", options.scale_c, *SCALES_C, "degrees a count")
        require_between("offset_c", options.offset_c, *OFFSETS_C, "degrees Celsius")
        super().__init__(options, "Y16", clock)
        self._scale_c, self._offset_c = options.scale_c, options.offset_c

    def convert(self, counts: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Return counts as degrees Celsius."""
        return temperature_c(counts, self._scale_c, self._offset_c)


def temperature_c(
    counts: NDArray[np.uint16], scale_c: float = _CENTIKELVIN_C, offset_c: float = _ZERO_KELVIN_C
) -> NDArray[np.float32]:
    """Degrees Celsius, float32 [H, W]."""
    return (counts * np.float64(scale_c) + offset_c).astype(np.float32)
