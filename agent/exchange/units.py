"""Units of rows and pictures from elsewhere, by what is usual: a log of another unit would be believed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.usual_values import ACCELERATION_MPS2, DEPTH_M, ROTATION_RPS, TEMPERATURE_C
from drivers.driver import BadData, Modality


def check_inertial(rows: Sequence[Sequence[float]]) -> None:
    """Raise BadData for the first rows of a unit, in m/s2 and rad/s, whose usual magnitude is that of another unit."""
    found = np.abs(np.array(rows, np.float64)).reshape(-1, 6)
    accel_mps2 = float(np.median(np.linalg.norm(found[:, :3], axis=1)))
    gyro_rps = float(np.median(found[:, 3:], axis=0).max())
    if unit := ACCELERATION_MPS2.looks_like(accel_mps2):
        raise BadData(f"acceleration is {accel_mps2:.3g} m/s2 most of the time; the values look like {unit}")
    if unit := ROTATION_RPS.looks_like(gyro_rps):
        raise BadData(f"rotation is {gyro_rps:.3g} rad/s most of the time; the values look like {unit}")


def check_picture(data: NDArray[Any], modality: Modality) -> None:
    """Raise BadData for a depth picture in metres, or a thermal one in Celsius, that looks like another unit."""
    if modality == "depth" and (data > 0).any():
        mean_m = float(data[data > 0].mean(dtype=np.float64))
        if unit := DEPTH_M.looks_like(mean_m):
            raise BadData(f"depth is {mean_m:.3g} m on average; the values look like {unit}")
    if modality == "thermal":
        mean_c = float(np.median(data))
        if unit := TEMPERATURE_C.looks_like(mean_c):
            raise BadData(f"temperature is {mean_c:.3g} degrees Celsius in the middle; the values look like {unit}")
