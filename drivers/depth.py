"""Depth cameras as images in metres: 16-bit PNG sequences and 16-bit V4L2 devices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from drivers.driver import Clock, Modality, StreamFacts
from drivers.forms import FORMS
from drivers.option_checks import require_between
from drivers.png import PngOptions, PngSequence
from drivers.raw16 import Raw16Camera, Raw16Options

MILLIMETRE_M = FORMS["depth"].count_scale
"""Unit of most depth cameras and data sets."""


SCALES_M = 1e-5, 0.05
"""Metres of a count: 0.0001 of a D405, 0.001 of most cameras, 1/256 of KITTI's pictures."""


@dataclass(frozen=True, slots=True)
class DepthPngOptions(PngOptions):
    """A directory of 16-bit grey PNG depth images, or a pattern; played in the order of the numbers in their names."""

    scale_m: float = MILLIMETRE_M
    """Metres per count; a count of 0 is a missing reading."""


@dataclass(frozen=True, slots=True)
class DepthV4l2Options(Raw16Options):
    """A depth camera that is a V4L2 device with 16 bits a pixel."""

    pixel_format: Literal["Z16", "Y16"] = "Z16"
    scale_m: float = MILLIMETRE_M
    """Metres per count; a count of 0 is a missing reading."""


class DepthPng(PngSequence):
    """Yields depth samples, float32 [H, W] in metres; 0 marks a pixel without a reading."""

    Options: ClassVar[type[Any]] = DepthPngOptions
    modality: ClassVar[Modality] = "depth"

    @classmethod
    def stream(cls, options: DepthPngOptions) -> StreamFacts:
        """As of its pictures, and the scale of its counts."""
        return replace(super().stream(options), scale=options.scale_m, offset=0.0)

    def __init__(self, options: DepthPngOptions, clock: Clock) -> None:
        require_between("scale_m", options.scale_m, *SCALES_M, "metres a count")
        super().__init__(options, clock)
        self._scale_m = options.scale_m

    def convert(self, counts: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Return counts as metres."""
        return depth_m(counts, self._scale_m)


class DepthV4l2(Raw16Camera):
    """Yields depth samples, float32 [H, W] in metres; 0 marks a pixel without a reading."""

    Options: ClassVar[type[Any]] = DepthV4l2Options
    modality: ClassVar[Modality] = "depth"

    @classmethod
    def stream(cls, options: DepthV4l2Options) -> StreamFacts:
        """As of its pictures, and the scale of its counts."""
        return replace(super().stream(options), scale=options.scale_m, offset=0.0)

    def __init__(self, options: DepthV4l2Options, clock: Clock) -> None:
        require_between("scale_m", options.scale_m, *SCALES_M, "metres a count")
        super().__init__(options, options.pixel_format, clock)
        self._scale_m = options.scale_m

    def convert(self, counts: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Return counts as metres."""
        return depth_m(counts, self._scale_m)


def depth_m(counts: NDArray[np.uint16], scale_m: float = MILLIMETRE_M) -> NDArray[np.float32]:
    """Metres, float32 [H, W], of a depth image in counts of `scale_m`."""
    return counts.astype(np.float32) * np.float32(scale_m)
