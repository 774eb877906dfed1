"""Whether the numbers of a window can be what its sensor measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.driver import Modality

_AUDIO_LIMIT = 16.0
"""Full scale is 1; float formats may pass it, but not by 24 dB."""
_AUDIO_FULL_SCALE = 0.99
"""An input that holds this level is at its limit; a steady level below it may be the offset of a silent one."""
_DEPTH_LIMIT_M = 10_000.0
_COLDEST_C = -273.15
_HOTTEST_C = 3_000.0
_ACCEL_LIMIT_MPS2 = 4_000.0
"""Four hundred g, beyond the range of any inertial unit."""
_GYRO_LIMIT_RPS = 100.0

# The smallest full scales on the market, 2 g and 250 degrees a second: an extreme below them is no saturation.
_ACCEL_FULL_SCALE_MPS2 = 19.0
_GYRO_FULL_SCALE_RPS = 4.3
_SATURATED_SHARE = 0.1
"""Of the rows, at exactly the extreme value."""


def fault(data: NDArray[Any], modality: Modality) -> str:
    """Return "" for data that may go to the model, else "invalid: ..." with the reason."""
    if modality == "vision":
        return ""
    low, high = float(data.min()), float(data.max())  # NaN when any value is
    if not (np.isfinite(low) and np.isfinite(high)):
        return "invalid: not finite"
    if modality == "audio":
        if max(-low, high) > _AUDIO_LIMIT:
            return "invalid: out of range"
        return "invalid: constant" if _at_full_scale(data, max(-low, high)) else ""
    if modality == "imu":
        return _imu_fault(data)
    if low == high:
        return "invalid: all zero" if low == 0.0 else "invalid: constant"
    lowest, highest = (0.0, _DEPTH_LIMIT_M) if modality == "depth" else (_COLDEST_C, _HOTTEST_C)
    return "invalid: out of range" if low < lowest or high > highest else ""


def _at_full_scale(rows: NDArray[np.float32], loudest: float) -> bool:
    """Whether every channel holds one level, one of them full scale; zeros may stand for rows that never came."""
    if loudest < _AUDIO_FULL_SCALE:
        return False
    low, high = rows.min(axis=0), rows.max(axis=0)
    level = np.where(-low > high, low, high)
    return bool(((rows == level) | (rows == 0.0)).all())


def _imu_fault(rows: NDArray[np.float32]) -> str:
    low, high = rows.min(axis=0), rows.max(axis=0)
    if len(rows) > 1 and (low == high).all():
        return "invalid: constant"
    extreme = np.maximum(-low, high)
    if extreme[:3].max() > _ACCEL_LIMIT_MPS2 or extreme[3:].max() > _GYRO_LIMIT_RPS:
        return "invalid: out of range"
    suspect = (extreme > np.repeat([_ACCEL_FULL_SCALE_MPS2, _GYRO_FULL_SCALE_RPS], 3)) & (low != high)
    for column in np.flatnonzero(suspect):
        at_extreme = np.abs(rows[:, column]) == extreme[column]
        if at_extreme.mean() > _SATURATED_SHARE:
            return "invalid: saturated"
    return ""
