"""Depth maps as disparity, which is what ImageBind's depth encoder reads."""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from common.usual_values import DEPTH_M
from models.extent import IMAGE_PX
from models.preprocess.arrays import Array, Device, checked, placed
from models.preprocess.crop import centre
from models.preprocess.errors import ItemFaults

DISPARITY_MAX_PX: Final = 75.0
DISPARITY_MEAN, DISPARITY_STD = 0.0418, 0.0295

_KINECT_FOCAL_PX: Final = 518.86
_KINECT_BASELINE_M: Final = 0.075
_STORED_DEPTH_PER_MM: Final = 8.0
_SCALE: Final = _KINECT_FOCAL_PX * _KINECT_BASELINE_M / _STORED_DEPTH_PER_MM / DISPARITY_MAX_PX
_NEAREST_M: Final = 1e-3
_LEAST: Final = 1e-12
"""Divides where there is no weight; the mean of one valid pixel of millions is above it."""


def depth(depth_m: Array, *, guess_units: bool = True, device: Device = None) -> Tensor:
    """Depth in metres, float32 [B, H, W], 0 or not finite where invalid -> normalised disparity [B, 1, 224, 224].

    ImageBind reads disparity = focal length x baseline / depth. Its code for that was not published; Omnivore's, which
    it follows, clamps at 75 px, divides by 75 and normalises with mean 0.0418 and deviation 0.0295. Those statistics
    fit rooms only for SUN RGB-D's stored depths, which are 1/8 mm taken as mm, so the factor 8 is kept: the mean is
    then at 1.6 m. Focal length and baseline are always those of the Kinect of that data set, a fixed scale that suits
    any metric sensor: the same wall gives the same values whatever camera measured it.

    Invalid pixels take the mean of the valid ones nearest around them, because 0 would read as the horizon and the
    nearest value alone would draw streaks. A mean that looks like millimetres or kilometres is refused, unless
    `guess_units` is False: a caller who knows the unit, as from a driver, wants a valley too. Raises PreprocessError.

    >>> import numpy as np
    >>> depth(np.full((1, 480, 640), 1.5, np.float32)).shape
    torch.Size([1, 1, 224, 224])
    """
    x = _checked(depth_m)
    valid = x.isfinite() & (x > 0)  # [B, H, W]
    faults = ItemFaults(len(x))
    if guess_units:
        mean_m = x.where(valid, 0.0).sum(dim=(1, 2), dtype=torch.float64) / valid.sum(dim=(1, 2))  # [B]
        faults.add_unit("depth_m: mean is {:.6g} m", DEPTH_M, mean_m)
    faults.refuse()
    x, valid = placed(x, device), placed(valid, device)
    disparity = (_SCALE / x.clamp(min=_NEAREST_M)).clamp(max=1.0).where(valid, 0.0)  # [B, H, W]
    layers = centre(torch.stack([disparity, valid.float()], dim=1), "bilinear")  # [B, 2, 224, 224]
    faults.add(
        ~layers[:, 1].flatten(1).any(dim=1),
        lambda _: "depth_m: no valid pixel in the middle square (all 0 or not finite); check the depth camera's range",
    )
    faults.refuse()
    return (_filled(layers[:, :1], layers[:, 1:]) - DISPARITY_MEAN) / DISPARITY_STD


def _checked(depth_m: Any) -> Tensor:
    means = " metres"
    if str(getattr(depth_m, "dtype", "")).removeprefix("torch.") == "uint16":
        means += "; of millimetres: depth_mm.astype('float32') / 1000"
    return checked("depth_m", depth_m, torch.float32, ("B", "H", "W"), means)


def _filled(value: Tensor, weight: Tensor) -> Tensor:
    """Weighted values [B, 1, 224, 224] -> values; where there is no weight, the mean of the nearest coarser cell."""
    filled = value / weight.clamp(min=_LEAST)
    known = weight > 1e-3
    for side in (112, 56, 28, 14, 7, 1):
        if known.all():
            break
        coarse_weight = F.adaptive_avg_pool2d(weight, side)
        coarse = F.adaptive_avg_pool2d(value, side) / coarse_weight.clamp(min=_LEAST)
        coarse, coarse_weight = (F.interpolate(t, IMAGE_PX, mode="nearest") for t in (coarse, coarse_weight))
        new = ~known & (coarse_weight > 0)
        filled = torch.where(new, coarse, filled)
        known = known | new
    return filled
