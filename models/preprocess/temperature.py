"""Thermal images as one channel between 0 (cold) and 1 (hot)."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from common.physics import ZERO_KELVIN_C
from common.usual_values import TEMPERATURE_C
from models.preprocess.arrays import Array, Device, check_finite, check_range, checked, placed
from models.preprocess.crop import centre
from models.preprocess.errors import ItemFaults, PreprocessError

THERMAL_LOW_C, THERMAL_HIGH_C = 0.0, 60.0
COUNTS_STRETCH: Final = (0.01, 0.99)
"""The quantiles of a picture's counts that become 0 and 1: a dead pixel or the sun does not set the scale."""
COUNTS_SPAN_MIN: Final = 64.0
"""Least counts between 0 and 1, about 2 K of a 14-bit sensor: less would show noise as a picture."""

_HOTTEST_C: Final = 10_000.0


def thermal(
    temperature_c: Array,
    low_c: float = THERMAL_LOW_C,
    high_c: float = THERMAL_HIGH_C,
    *,
    guess_units: bool = True,
    device: Device = None,
) -> Tensor:
    """Degrees Celsius, float32 [B, H, W] -> [B, 1, 224, 224] between 0 at `low_c` and 1 at `high_c`.

    The published model saw 8-bit pictures scaled to 0..1 without further normalisation. The range here is fixed, not
    stretched to each picture, so that a person is as bright beside a stove as in an empty room; hotter saturates.
    A mean that looks like kelvin or raw counts, be it too hot or too cold, is refused, unless `guess_units` is False:
    a caller who knows the unit, as from a driver, wants the picture of a fire too. Raises PreprocessError.

    >>> import numpy as np
    >>> float(thermal(np.full((1, 120, 160), 30.0, np.float32)).mean())
    0.5
    """
    x = checked("temperature_c", temperature_c, torch.float32, ("B", "H", "W"), " degrees Celsius")
    check_range("low_c, high_c", low_c, high_c)
    faults = ItemFaults(len(x))
    check_finite("temperature_c", x, faults)
    if guess_units:
        mean_c = x.clamp(ZERO_KELVIN_C, _HOTTEST_C).mean(dim=(1, 2), dtype=torch.float64)  # [B]
        faults.add_unit("temperature_c: mean is {:.6g}", TEMPERATURE_C, mean_c)
    faults.refuse()
    # No thing is outside these; a pixel that says so must not reach its neighbours through the resizing.
    x = placed(x, device).clamp(ZERO_KELVIN_C, _HOTTEST_C)
    return _scaled(x, low_c, high_c)


def thermal_counts(
    counts: Array,
    *,
    kelvin_per_count: float | None = None,
    low_c: float = THERMAL_LOW_C,
    high_c: float = THERMAL_HIGH_C,
    low_count: float | None = None,
    high_count: float | None = None,
    guess_units: bool = True,
    device: Device = None,
) -> Tensor:
    """Raw counts of a thermal camera, uint16 [B, H, W] -> [B, 1, 224, 224] between 0 (cold) and 1 (hot).

    A radiometric camera (Lepton and Boson with TLinear: 0.01 or 0.1 kelvin a count) measures temperatures: give
    `kelvin_per_count`, and the result is that of `thermal` with `low_c`, `high_c` and `guess_units`. Without it the
    counts have no unit. Give `low_count` and `high_count` for a camera whose counts are steady; else the 1st and 99th
    percentile of each picture become 0 and 1, because the counts of an uncooled sensor drift with its own temperature,
    so that no fixed scale lasts an hour. That is what such cameras' own gain control does, and what the published
    model's pictures had been through; the price is that a person's brightness depends on what else is in the picture.
    Raises PreprocessError.

    >>> import numpy as np
    >>> room = np.full((1, 120, 160), 30315, np.uint16)  # 303.15 K
    >>> float(thermal_counts(room, kelvin_per_count=0.01).mean().round(decimals=4))
    0.5
    """
    x = checked("counts", counts, torch.uint16, ("B", "H", "W"), " as the camera gives them")
    x = placed(x, device).float()
    if kelvin_per_count is not None:
        if low_count is not None or high_count is not None:
            raise PreprocessError("kelvin_per_count: counts that are temperatures take low_c and high_c, not counts")
        if not (math.isfinite(kelvin_per_count) and kelvin_per_count > 0):
            raise PreprocessError(f"kelvin_per_count: {kelvin_per_count:g} must be above 0; 0.01 is usual")
        return thermal(x * kelvin_per_count + ZERO_KELVIN_C, low_c, high_c, guess_units=guess_units)
    if low_count is not None and high_count is not None:
        check_range("low_count, high_count", low_count, high_count)
        return _scaled(x, low_count, high_count)
    if low_count is not None or high_count is not None:
        raise PreprocessError("low_count, high_count: give both, or neither to stretch each picture")
    return _scaled(x, *_stretch(x))


def _scaled(x: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """[B, H, W] -> [B, 1, 224, 224], `low` becoming 0 and `high` 1."""
    x = centre(x[:, None], "bicubic")
    return ((x - low) / (high - low)).clamp(0.0, 1.0)


def _stretch(x: Tensor) -> tuple[Tensor, Tensor]:
    """The counts of each picture that become 0 and 1, [B, 1, 1, 1] each."""
    flat = x.flatten(1)
    low, high = (flat.kthvalue(1 + round(share * (flat.shape[1] - 1)), dim=1).values for share in COUNTS_STRETCH)
    middle, half = (low + high) / 2, ((high - low) / 2).clamp(min=COUNTS_SPAN_MIN / 2)
    low, high = middle - half, middle + half
    return low.view(-1, 1, 1, 1), high.view(-1, 1, 1, 1)
