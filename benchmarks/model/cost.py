"""What one pass of a tower costs, from the architecture alone: floating-point operations, and bytes of weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from models.encoders import (
    AUDIO_FRAMES,
    AUDIO_MEL_BINS,
    AUDIO_PATCH,
    AUDIO_STRIDE,
    FRAMES,
    IMAGE_PX,
    IMU_CHANNELS,
    IMU_PATCH_STEPS,
    IMU_STEPS,
    MAP_PATCH_PX,
    TEXT_TOKENS,
)
from models.imagebind import ImageBind, Sizes
from models.modalities import Modality
from models.transformer import TowerSizes


@dataclass(frozen=True, slots=True)
class Shape:
    """The sequence that a tower makes of one item."""

    tokens: int
    """With the class token."""
    patch_values: int
    """Numbers that the stem projects for every token but the class token; 0 for text, which is looked up."""
    bias_kv: bool
    """One key and value more than there are tokens."""


def shape(sizes: Sizes, modality: Modality, text_tokens: int = TEXT_TOKENS) -> Shape:
    """The sequence of one item; a text's is as long as the text."""
    match modality:
        case "vision":
            return Shape(1 + sizes.vision_grid**2, 3 * FRAMES * sizes.vision_patch_px**2, bias_kv=False)
        case "audio":
            rows, columns = ((n - AUDIO_PATCH) // AUDIO_STRIDE + 1 for n in (AUDIO_MEL_BINS, AUDIO_FRAMES))
            return Shape(1 + rows * columns, AUDIO_PATCH**2, bias_kv=True)
        case "depth" | "thermal":
            return Shape(1 + (IMAGE_PX // MAP_PATCH_PX) ** 2, MAP_PATCH_PX**2, bias_kv=True)
        case "imu":
            return Shape(1 + IMU_STEPS // IMU_PATCH_STEPS, IMU_CHANNELS * IMU_PATCH_STEPS, bias_kv=True)
        case "text":
            return Shape(text_tokens, 0, bias_kv=False)


def flops(
    sizes: Sizes, modality: Modality, *, text_tokens: int = TEXT_TOKENS, whole: bool = False, patches: bool = False
) -> int:
    """Operations of matrix products for one item, a multiplication and an addition being two.

    Without `whole` or `patches` the last block computes the class token alone, as `ImageBind` does; the published code
    computes all tokens: `whole`. Text is always whole. `patches` adds the head on every patch.
    """
    tower: TowerSizes = getattr(sizes, modality)
    seen = shape(sizes, modality, text_tokens)
    N, W, keys = seen.tokens, tower.width, seen.tokens + seen.bias_kv
    block = 24 * N * W * W + 4 * N * keys * W  # qkv 3, out 1, MLP 4 + 4 squares of W; products with keys and values
    first_only = 4 * N * W * W + 20 * W * W + 4 * keys * W  # keys and values of all; the rest of one
    last = block if whole or patches or modality == "text" else first_only
    stem = 2 * (N - 1) * seen.patch_values * W
    head = 2 * W * sizes.embedding_dim * (N if patches else 1)
    return stem + (tower.blocks - 1) * block + last + head


def weight_bytes(sizes: Sizes, modality: Modality, dtype: torch.dtype) -> int:
    """Bytes that any pass must read, be it of one item or many; of text's table only few rows, which do not count."""
    with torch.device("meta"):
        model = ImageBind(sizes, [modality])
    values = sum(p.numel() for name, p in model.named_parameters() if not name.endswith("token_embedding"))
    return values * dtype.itemsize
