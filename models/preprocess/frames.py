"""Images and video: CLIP's recipe, with each image kept in its own shape."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from models.encoders import FRAMES
from models.preprocess.arrays import Array, Device, checked, placed
from models.preprocess.crop import centre_levels
from models.preprocess.errors import PreprocessError

RGB_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
RGB_STD: Final = (0.26862954, 0.26130258, 0.27577711)


def vision(frames: Array, *, device: Device = None) -> Tensor:
    """RGB frames, uint8 [B, F, H, W, 3] with F = 1 or 2 -> [B, 3, 2, 224, 224]; a single frame fills both places.

    CLIP's recipe: antialiased bicubic as PIL does it, the middle of the longer side, then CLIP's mean and standard
    deviation. On a CPU levels are PIL's 8-bit ones; on a GPU they are computed in float32 and rounded, at most a level
    or two away. Frames travel to the device as bytes. Raises PreprocessError.

    >>> import numpy as np
    >>> vision(np.zeros((4, 1, 480, 640, 3), np.uint8)).shape
    torch.Size([4, 3, 2, 224, 224])
    """
    x = checked("frames", frames, torch.uint8, ("B", "F", "H", "W", 3), ", F = 1 or 2, RGB")
    B, n = x.shape[:2]
    if n not in (1, FRAMES):
        raise PreprocessError(f"frames: {n} of them; the model takes 1 or {FRAMES}")
    x = placed(x, device)
    x = centre_levels(x.flatten(0, 1).permute(0, 3, 1, 2))  # [B * F, 3, 224, 224]
    mean, std = _mean_and_std(x.device)
    x = (x.float() / 255 - mean) / std
    x = x.view(B, n, *x.shape[1:]).expand(-1, FRAMES, -1, -1, -1)  # [B, 2, 3, 224, 224]
    return x.transpose(1, 2).contiguous()


def video(frames: Array, *, device: Device = None) -> Tensor:
    """Clips of RGB frames, uint8 [B, clips, F, H, W, 3] with F = 1 or 2 -> [B, clips, 3, 2, 224, 224].

    Each clip is treated as `vision` treats an item; the model averages the vectors of an item's clips.
    Raises PreprocessError.

    >>> import numpy as np
    >>> video(np.zeros((1, 3, 2, 120, 160, 3), np.uint8)).shape
    torch.Size([1, 3, 3, 2, 224, 224])
    """
    x = checked("frames", frames, torch.uint8, ("B", "clips", "F", "H", "W", 3), ", F = 1 or 2, RGB")
    clips = vision(x.flatten(0, 1), device=device)  # [B * clips, 3, 2, 224, 224]
    return clips.view(*x.shape[:2], *clips.shape[1:])


@lru_cache(maxsize=8)
def _mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    """CLIP's, [3, 1, 1] each; kept on the device, because a copy to a GPU waits for what is queued there."""
    mean, std = (torch.tensor(values).view(3, 1, 1).to(device) for values in (RGB_MEAN, RGB_STD))
    return mean, std
