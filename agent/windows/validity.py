"""Validity of a window: numbers that its sensor can have measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.driver import Modality
from drivers.forms import FORMS

_AUDIO_FULL_SCALE = 0.99
"""An input that holds this level is at its limit; a steady level below it may be the offset of a silent one."""

_LOWEST, _HIGHEST = (np.array(values, np.float32) for values in zip(*FORMS["imu"].limits, strict=True))

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
    if modality == "imu":
        return _imu_fault(data)
    ((lowest, highest),) = FORMS[modality].limits
    beyond = low < lowest or high > highest
    if modality == "audio":
        return "invalid: out of range" if beyond else _sound_fault(data, max(-low, high))
    if low == high:
        return "invalid: all zero" if low == 0.0 else "invalid: constant"
    return "invalid: out of range" if beyond else ""


def _sound_fault(rows: NDArray[np.float32], loudest: float) -> str:
    """Of channels that each hold one level, one of them full scale; zeros may stand for rows that never came."""
    if loudest < _AUDIO_FULL_SCALE:
        return ""
    low, high = rows.min(axis=0), rows.max(axis=0)
    level = np.where(-low > high, low, high)
    return "invalid: constant" if ((rows == level) | (rows == 0.0)).all() else ""


def _imu_fault(rows: NDArray[np.float32]) -> str:
    low, high = rows.min(axis=0), rows.max(axis=0)
    if len(rows) > 1 and (low == high).all():
        return "invalid: constant"
    if (low < _LOWEST).any() or (high > _HIGHEST).any():
        return "invalid: out of range"
    extreme = np.maximum(-low, high)
    suspect = (extreme > np.repeat([_ACCEL_FULL_SCALE_MPS2, _GYRO_FULL_SCALE_RPS], 3)) & (low != high)
    for column in np.flatnonzero(suspect):
        at_extreme = np.abs(rows[:, column]) == extreme[column]
        if at_extreme.mean() > _SATURATED_SHARE:
            return "invalid: saturated"
    return ""
