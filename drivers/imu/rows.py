"""Rows of all IMU protocols: units, axes, and possible values."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.forms import FORMS
from drivers.option_checks import require

Row = tuple[float, float, float, float, float, float]
"""Accelerometer x y z in m/s2, gyroscope x y z in rad/s."""

_LIMITS = FORMS["imu"].limits


def axes_matrix(axes: str) -> NDArray[np.float32]:
    """Return the 3x3 matrix from the device's axes to the body's (x forward, y left, z up).

    `axes` names the device axis that points forward, the one that points left and the one that points up, with a
    sign: 'x y z' is a device mounted straight, 'y -x z' one whose y axis points forward. Raises BadOption.
    """
    wanted = "three different axes of a right-handed device, forward left up, as 'x y z' or 'y -x z'"
    names = axes.split()
    require(len(names) == 3 and all(re.fullmatch("[+-]?[xyz]", name) for name in names), "axes", axes, wanted)
    matrix = np.zeros((3, 3), np.float32)
    for row, name in enumerate(names):
        matrix[row, "xyz".index(name[-1])] = -1 if name[0] == "-" else 1
    require(bool(np.isclose(np.linalg.det(matrix), 1)), "axes", axes, wanted)
    return matrix


def possible(row: Row) -> bool:
    """Return whether an IMU can have measured this row; what is beyond the limits of the form is damage on the line."""
    return all(lowest <= value <= highest for value, (lowest, highest) in zip(row, _LIMITS, strict=True))


def to_body(rows: Sequence[Row], axes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn rows of device axes into body axes, float32 [n, 6]."""
    device = np.array(rows, np.float32).reshape(-1, 2, 3)
    body: NDArray[np.float32] = np.ascontiguousarray((device @ axes.T).reshape(-1, 6))
    return body
