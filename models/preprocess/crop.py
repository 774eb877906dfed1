"""The square cut out of an image; `models.extent.CropMap` is the way back to the image's pixels."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from models.extent import IMAGE_PX, CropMap
from models.preprocess.errors import PreprocessError

ASPECT_MAX: Final = 16
"""Longest image accepted, long side over short side: the resized image stays small."""

_PIXELS_AT_ONCE: Final = 1 << 23
"""Of 8-bit images that are resized in float: bounds the copy, four times as large, to 100 MB."""


def centre(images: Tensor, mode: str) -> Tensor:
    """[n, C, H, W] -> [n, C, 224, 224]: shorter side to 224, antialiased, middle of the longer side.

    Raises PreprocessError for images that are too long.
    """
    crop = _crop(images)
    (top, left), size = crop.corner, crop.resized
    if size != (crop.height, crop.width):
        images = F.interpolate(images, size, mode=mode, antialias=True)
    return images[..., top : top + IMAGE_PX, left : left + IMAGE_PX]


def centre_levels(images: Tensor) -> Tensor:
    """8-bit images [n, C, H, W] -> [n, C, 224, 224] as PIL's bicubic makes them.

    PyTorch has PIL's 8-bit arithmetic on a CPU only; elsewhere a level may differ by one. Raises PreprocessError.
    """
    return centre(images, "bicubic") if images.device.type == "cpu" else centre_levels_in_float(images)


def centre_levels_in_float(images: Tensor) -> Tensor:
    """Compute `centre_levels` in float32: [n, C, 224, 224] of whole levels 0..255.

    Columns first, then rows, and whole levels between them: overshoot at edges that PIL cuts off there, and that is up
    to 20 levels after an enlargement, must not reach the second pass.
    """
    crop = _crop(images)
    (top, left), (height, width) = crop.corner, crop.resized
    at_once = max(1, _PIXELS_AT_ONCE // (crop.height * crop.width))
    done = []
    for part in torch.split(images, at_once):
        x = F.interpolate(part.float(), (crop.height, width), mode="bicubic", antialias=True)
        x = x.round().clamp(0, 255)[..., left : left + IMAGE_PX]  # [n, C, H, 224]
        x = F.interpolate(x, (height, IMAGE_PX), mode="bicubic", antialias=True)
        done.append(x.round().clamp(0, 255)[..., top : top + IMAGE_PX, :])
    return torch.cat(done)


def _crop(images: Tensor) -> CropMap:
    height, width = images.shape[-2:]
    if max(height, width) > ASPECT_MAX * min(height, width):
        raise PreprocessError(f"image: {height} x {width} is too long; at most {ASPECT_MAX} times as long as wide")
    return CropMap(height, width)
