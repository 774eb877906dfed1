"""Images as training sees them: moved, in another light, and some of their patches only; and a stem to begin with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.datasets.dataset import Box
from models.datasets.pairs import Examples, Group
from models.encoders import PatchEncoder
from models.extent import IMAGE_PX, VISION_GRID, VISION_PATCH_PX
from models.imagebind import ImageBind
from models.preprocess import RGB_MEAN, RGB_STD

_STEM_NOISE: Final = 0.02
"""Variance below which a component of image patches counts as noise and is not amplified."""

_TURN_DEG: Final = 8.0
_SCALE_LOG: Final = 0.25
_SHIFT_PX: Final = 16.0
_MIXTURE: Final = 0.12
_LIGHT: Final = (0.7, 1.35)
_TINT: Final = (0.92, 1.08)

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Images as they are in the shards but moved: RGB levels uint8 [B, 3, 2, 224, 224], the boxes of their things, and
    which of them are mirrored.
    """

    levels: Tensor
    boxes: list[dict[str, list[Box]]]
    mirrored: list[bool]


def moved_images(examples: Examples, rows: Rows, rng: np.random.Generator) -> Views:
    """Mirror half of the images, and turn, scale and shift all a little, both frames alike.

    What is left empty shows the reflected picture. Patches cut a thing anew each time: without that, a small model
    learns the cuts of few scenes by heart.
    """
    import cv2

    levels, boxes, mirrored = [], [], []
    centre = IMAGE_PX / 2
    for row in rows:
        mirror = bool(rng.random() < 0.5)
        angle, size = math.radians(rng.uniform(-_TURN_DEG, _TURN_DEG)), math.exp(rng.uniform(-_SCALE_LOG, _SCALE_LOG))
        shift = rng.uniform(-_SHIFT_PX, _SHIFT_PX, 2)
        turn = size * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        turn[:, 0] *= -1 if mirror else 1
        affine = np.column_stack([turn, centre + shift - turn @ (centre, centre)])  # [2, 3]
        planes = examples.inputs["vision"][row].flatten(0, 1).numpy()  # [6, 224, 224]
        warped = [
            cv2.warpAffine(plane, affine, (IMAGE_PX, IMAGE_PX), borderMode=cv2.BORDER_REFLECT_101) for plane in planes
        ]
        levels.append(torch.from_numpy(np.stack(warped)).view(3, 2, IMAGE_PX, IMAGE_PX))
        held = examples.boxes[row]
        boxes.append({label: [_moved_box(box, affine) for box in found] for label, found in held.items()})
        mirrored.append(mirror)
    return Views(torch.stack(levels), boxes, mirrored)


def _moved_box(box: Box, affine: NDArray[np.float64]) -> Box:
    """The upright box around a box's moved corners."""
    x0, y0, x1, y1 = box
    corners = affine @ np.array([[x0, x1, x0, x1], [y0, y0, y1, y1], [1, 1, 1, 1]])  # [2, 4]
    (left, top), (right, bottom) = corners.min(axis=1).tolist(), corners.max(axis=1).tolist()
    return left, top, right, bottom


def kept_patches(views: Views, groups: list[Group], keep: float, focus: bool, rng: np.random.Generator) -> Tensor:
    """Return the patches of each image that enter the trunk: int64 [B, kept].

    A fraction `keep`, at random; with `focus` first those on and around the things that the caption is about.
    """
    side = VISION_PATCH_PX
    order = rng.random((len(groups), VISION_GRID, VISION_GRID))
    if focus:
        for i, (held, (kind, label)) in enumerate(zip(views.boxes, groups, strict=True)):
            meant = [label] if kind == "thing" else list(held)
            for x0, y0, x1, y1 in (box for name in meant for box in held[name]):
                columns = slice(max(0, int(x0 // side) - 1), max(0, int(x1 // side) + 2))
                order[i, max(0, int(y0 // side) - 1) : max(0, int(y1 // side) + 2), columns] -= 1.0
    count = max(1, round(keep * VISION_GRID**2))
    return torch.from_numpy(order.reshape(len(groups), -1).argsort(axis=1)[:, :count])


def recoloured_patches(views: Views, kept: Tensor, rng: np.random.Generator) -> Tensor:
    """The kept patches, bfloat16 [B, kept, 1176], as the model takes them but in another light and colour.

    Nothing is done to patches that are not kept: reading the images costs as much as the trunk otherwise.
    """
    B, C, T, P, G = len(kept), 3, 2, VISION_PATCH_PX, VISION_GRID
    grid = views.levels.view(B, C, T, G, P, G, P).permute(0, 3, 5, 1, 2, 4, 6)  # [B, 16, 16, 3, 2, 14, 14]
    x = grid[torch.arange(B)[:, None], kept // G, kept % G].bfloat16()  # [B, kept, 3, 2, 14, 14]
    # A mixture of the colour channels, then the model's normalisation: one matrix and one offset an image.
    mixture = np.eye(3) + rng.normal(0.0, _MIXTURE, (B, 3, 3))
    mixture *= rng.uniform(*_LIGHT, (B, 1, 1)) / mixture.sum(axis=2, keepdims=True)
    mixture *= rng.uniform(*_TINT, (B, 3, 1))
    matrix = torch.from_numpy(mixture / np.array(RGB_STD)[:, None] / 255).bfloat16()  # [B, 3 new, 3 old]
    offset = (torch.tensor(RGB_MEAN) / torch.tensor(RGB_STD)).bfloat16()
    pixels = x.permute(0, 2, 1, 3, 4, 5).flatten(2)  # [B, 3, kept * 392]
    mixed = torch.baddbmm(-offset[None, :, None], matrix, pixels)  # [B, 3, kept * 392]
    return mixed.view(B, C, -1, T * P * P).transpose(1, 2).flatten(2)


def trunk_output(vision: PatchEncoder, patches: Tensor, kept: Tensor) -> Tensor:
    """Return the trunk's output for the kept patches alone: [B, kept, 1176] -> [B, 1 + kept, width]."""
    weight, positions = vision.stem.weight, vision.pos_embed
    assert isinstance(weight, Tensor)
    assert vision.pre_norm is not None
    x = F.linear(patches, weight.flatten(1)) + positions[0, 1:][kept]  # [B, kept, width]
    cls = (vision.cls_token + positions[:, :1]).expand(len(x), -1, -1)
    out: Tensor = vision.trunk(vision.pre_norm(torch.cat([cls.to(x.dtype), x], dim=1)))
    return out


@torch.no_grad()
def whiten_stem(model: ImageBind, examples: Examples, seed: int, images: int = 256) -> None:
    """Begin with an image stem that whitens patches: principal components, each scaled to unit variance, mixed.

    Neighbouring pixels are nearly equal, so random filters all tell the mean colour and a trunk is slow to find shapes
    (Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", section 3.1). For the same reason a sixth of the
    filters is kept for what differs between the two frames: motion is small beside the picture.
    """
    vision = model.encoders["vision"]
    assert isinstance(vision, PatchEncoder)
    weight = vision.stem.weight
    assert isinstance(weight, Tensor)
    width, C, T, P, _ = weight.shape
    rows = np.random.default_rng(seed).choice(len(examples), min(images, len(examples)), replace=False)
    x = examples.batch("vision", rows)  # [n, 3, 2, 224, 224]
    G = x.shape[-1] // P
    x = x.reshape(-1, C, T, G, P, G, P).permute(2, 0, 3, 5, 1, 4, 6).reshape(T, -1, C * P * P)  # [2, n * 256, 588]
    still, moving = (x[0] + x[1]) / math.sqrt(2), (x[0] - x[1]) / math.sqrt(2)
    a, b = _whitening(still, width - width // 6), _whitening(moving, width // 6)
    filters = torch.stack([torch.cat([a, b]), torch.cat([a, -b])], dim=1) / math.sqrt(2)  # [width, 2, 588]
    mix = torch.nn.init.orthogonal_(torch.empty(width, width))
    mixed = (mix @ filters.flatten(1)).view(width, T, C, P, P)
    weight.copy_(mixed.transpose(1, 2))


def _whitening(x: Tensor, count: int) -> Tensor:
    """The `count` strongest principal components of rows [n, d], scaled to give outputs of unit variance."""
    values, directions = torch.linalg.eigh(x.T @ x / len(x))  # ascending
    scale = (values[-count:].clamp(min=0.0) + _STEM_NOISE).rsqrt()
    filters: Tensor = (directions[:, -count:] * scale).T  # [count, d]
    return filters
