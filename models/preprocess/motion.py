"""Inertial measurements as 5 s at 400 Hz."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.physics import STANDARD_GRAVITY_MPS2
from common.usual_values import ACCELERATION_MPS2, ROTATION_RPS
from common.window_lengths import IMU_MAX_GAP_S, IMU_WINDOW_S
from models.encoders import IMU_CHANNELS, IMU_STEPS
from models.preprocess.arrays import Array, Device, check_rate, checked, placed
from models.preprocess.errors import ItemFaults, PreprocessError

IMU_RATE_HZ: Final = IMU_STEPS // IMU_WINDOW_S
"""400."""
IMU_AXES: Final = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
"""The model's order; acceleration in m/s2, rotation in rad/s."""

# A low-pass for rates above 400 Hz, by Kaiser's formulas: flat to 160 Hz, 60 dB down from 240 Hz, which folds to 160.
_CUTOFF_HZ: Final = IMU_RATE_HZ / 2
_KAISER_BETA: Final = 0.1102 * (60.0 - 8.7)
_KAISER_HALF_S: Final = (60.0 - 7.95) / (2.285 * 2 * math.pi * 80.0) / 2


def imu(
    rows: Array,
    rate_hz: float,
    *,
    axes: Sequence[str] = IMU_AXES,
    max_gap_s: float = IMU_MAX_GAP_S,
    guess_units: bool = True,
    device: Device = None,
) -> Tensor:
    """The last 5 s of rows, float32 [B, n, 6] in m/s2 and rad/s at any rate -> [B, 6, 2000] at 400 Hz.

    `axes` names the columns of `rows`, each of IMU_AXES once. The newest row is the last step. A row that holds NaN
    never came: up to `max_gap_s` of them are interpolated. In a longer gap acceleration keeps the value before it (at
    the beginning that after it), because gravity stays and zeros would be free fall; rotation is zero, because holding
    it would turn the robot on and on. `imu_real_steps` tells which steps those are.

    The published recipe says neither units nor filter. Acceleration is given to the model in units of gravity, so that
    both sensors have the order of 1. Up to 400 Hz steps are interpolated linearly; above, a windowed sinc takes out
    what 400 Hz cannot hold, which interpolation alone would fold into the motion as false vibration.

    Values that look like units of gravity, milli-g or degrees per second most of the time are refused, unless
    `guess_units` is False: a caller who knows the units, as from a driver, wants a robot in free fall too. Raises
    PreprocessError.

    >>> import numpy as np
    >>> still = np.zeros((1, 1000, 6), np.float32)  # 5 s at 200 Hz
    >>> still[..., 2] = 9.80665
    >>> imu(still, rate_hz=200.0)[0, :, -1]
    tensor([0., 0., 1., 0., 0., 0.])
    """
    if sorted(axes) != sorted(IMU_AXES):
        raise PreprocessError(f"axes: got {', '.join(axes)}; need each of {', '.join(IMU_AXES)} once")
    x, real = _checked(rows, rate_hz, max_gap_s)  # [B, n, 6], [B, n]
    x = x[..., [list(axes).index(name) for name in IMU_AXES]]
    _check_values(x, real, guess_units=guess_units)
    if not real.all():
        x = _filled(x, real, _too_long(real, rate_hz, max_gap_s))
    x = placed(x, device)
    taps, weights = _interpolation(x.shape[1], rate_hz, x.device)  # [2000, taps]
    # In float64, so that steps between rows of nearly equal value are not rounded to either.
    steps = torch.stack([torch.einsum("stc,st->cs", item[taps], weights) for item in x.double()])  # [B, 6, 2000]
    steps[:, :3] /= STANDARD_GRAVITY_MPS2
    return steps.float()


def imu_real_steps(rows: Array, rate_hz: float, *, max_gap_s: float = IMU_MAX_GAP_S, device: Device = None) -> Tensor:
    """Return the steps of `imu`'s result that were measured, or bridge a gap of at most `max_gap_s`: bool [B, 2000].

    Takes what `imu` takes and raises PreprocessError as it does for shape, type, rate and length.

    >>> import numpy as np
    >>> rows = np.zeros((1, 2000, 6), np.float32)  # 5 s at 400 Hz
    >>> rows[0, 1000:1100] = np.nan
    >>> int(imu_real_steps(rows, 400.0).sum())
    1900
    """
    _, real = _checked(rows, rate_hz, max_gap_s)
    made_up = _too_long(placed(real, device), rate_hz, max_gap_s)  # [B, n]
    position = torch.from_numpy(_positions(made_up.shape[1], rate_hz)).to(made_up.device)  # [2000]
    below, above = position.floor().long(), position.ceil().long()
    return ~(made_up[:, below] | made_up[:, above])


def _checked(rows: Array, rate_hz: float, max_gap_s: float) -> tuple[Tensor, Tensor]:
    """The newest rows that the window needs [B, n, 6], and which of them are real [B, n]."""
    x = checked("rows", rows, torch.float32, ("B", "n", IMU_CHANNELS), " m/s2 and rad/s")
    check_rate(rate_hz)
    if not max_gap_s >= 0:
        raise PreprocessError(f"max_gap_s: {max_gap_s:g} is not a duration")
    if 0.99 * IMU_WINDOW_S * rate_hz >= x.shape[1] + 1:
        raise PreprocessError(f"rows: {x.shape[1]} at {rate_hz:g} Hz are too short; need {IMU_WINDOW_S:g} s")
    x = x[:, -(math.ceil((IMU_WINDOW_S + _KAISER_HALF_S) * rate_hz) + 1) :]
    return x, ~x.isnan().any(dim=2)


def _check_values(x: Tensor, real: Tensor, *, guess_units: bool) -> None:
    """Raise PreprocessError for items without a real row, with infinite values, or with values of another unit."""
    infinite = x.isinf().flatten(1).sum(dim=1)  # [B]
    faults = ItemFaults(len(x))
    faults.add(~real.any(dim=1), lambda _: "rows: all are NaN, so none ever came; check the connection")
    faults.add(infinite > 0, lambda i: f"rows: {infinite[i]} values are infinite")
    if guess_units:
        accel = x[..., :3].norm(dim=2).nanmedian(dim=1).values  # [B]
        gyro = x[..., 3:].abs().nanmedian(dim=1).values.amax(dim=1)
        for name, unit, usual, found in (
            ("acceleration", "m/s2", ACCELERATION_MPS2, accel),
            ("rotation", "rad/s", ROTATION_RPS, gyro),
        ):
            faults.add_unit(f"rows: {name} is {{:.6g}} {unit} most of the time", usual, found)
    faults.refuse()


def _neighbours(real: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the real row at or before each row, -1 for none, and at or after it, n for none; int64 [B, n] each."""
    n = real.shape[1]
    index = torch.arange(n, device=real.device).expand_as(real)
    before = index.where(real, -1).cummax(dim=1).values
    after = index.where(real, n).flip(1).cummin(dim=1).values.flip(1)
    return before, after


def _too_long(real: Tensor, rate_hz: float, max_gap_s: float) -> Tensor:
    """Return the rows in a gap longer than `max_gap_s`, bool [B, n]."""
    before, after = _neighbours(real)
    return ~real & (after - before - 1 > max_gap_s * rate_hz)


def _filled(x: Tensor, real: Tensor, too_long: Tensor) -> Tensor:
    """Rows [B, n, 6] with what never came made up; at the ends of the window the nearest real row is held."""
    before, after = _neighbours(real)  # [B, n]
    n = x.shape[1]
    first, last = before.where(before >= 0, after), after.where(after < n, before)
    along = (torch.arange(n, device=x.device) - first) / (last - first).clamp(min=1)
    along = along.where(~too_long, 0.0)[..., None]  # in a long gap all of the row before it
    row_before, row_after = (x.gather(1, at[..., None].expand_as(x)) for at in (first, last))
    bridged = row_before + along * (row_after - row_before)
    bridged[..., 3:] = bridged[..., 3:].where(~too_long[..., None], 0.0)
    return x.where(real[..., None], bridged)


def _positions(n: int, rate_hz: float) -> NDArray[np.float64]:
    """Return the position of each of the 2000 steps among n rows; a window that is a little short is held at its oldest
    row.
    """
    return np.clip(n - 1 + np.arange(1 - IMU_STEPS, 1) * (rate_hz / IMU_RATE_HZ), 0, n - 1)


@lru_cache(maxsize=4)
def _interpolation(n: int, rate_hz: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the rows that make up each step, int64 [2000, taps], and their weights, float64 [2000, taps]."""
    position = _positions(n, rate_hz)[:, None]  # [2000, 1]
    half = max(1, math.ceil(_KAISER_HALF_S * rate_hz)) if rate_hz > IMU_RATE_HZ else 1
    taps = np.floor(position) + np.arange(1 - half, half + 1)  # [2000, 2 * half]
    away = taps - position  # in rows
    if rate_hz > IMU_RATE_HZ:
        window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (away / half) ** 2, 0, 1)))
        weights = np.sinc(2 * _CUTOFF_HZ / rate_hz * away) * window
        weights /= weights.sum(axis=1, keepdims=True)
    else:
        weights = 1 - np.abs(away)
    rows = np.clip(taps, 0, n - 1).astype(np.int64)  # beyond the ends the last row is held
    return torch.from_numpy(rows).to(device), torch.from_numpy(weights).to(device)
