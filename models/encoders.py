"""The six encoders: a stem makes tokens, a trunk mixes them, a head projects one of them into the shared space.

Input sizes are fixed by the published model and are the constants below; widths, depths and the side of an image's
patches are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.extent import IMAGE_PX, VISION_PATCH_PX
from models.transformer import TowerSizes, Transformer

FRAMES = 2
AUDIO_MEL_BINS = 128
AUDIO_FRAMES = 204
AUDIO_PATCH = 16
AUDIO_STRIDE = 10  # patches overlap: 12 x 19 of them
MAP_PATCH_PX = 16  # depth and thermal: 14 x 14 patches
IMU_CHANNELS = 6
IMU_STEPS = 2000
IMU_PATCH_STEPS = 8  # 250 patches of 8 x 6 values
TEXT_TOKENS = 77
TEXT_VOCABULARY = 49408
TEXT_LOGIT_SCALE_MAX = 100.0


class VisionStem(nn.Module):
    """Patches of 2 frames x P x P px, projected; the kernel steps by its own size, so it is one matrix product."""

    def __init__(self, width: int, patch_px: int) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.weight = nn.Parameter(torch.empty(width, 3, FRAMES, patch_px, patch_px))

    def forward(self, frames: Tensor) -> Tensor:
        """[B, 3, 2, 224, 224] -> [B, G * G, width] with G = 224 / P, patches row by row."""
        P, G = self.patch_px, IMAGE_PX // self.patch_px
        x = frames.reshape(-1, 3, FRAMES, G, P, G, P)
        x = x.permute(0, 3, 5, 1, 2, 4, 6).flatten(3).flatten(1, 2)  # [B, G * G, 6 * P * P]
        return F.linear(x, self.weight.flatten(1))  # [B, G * G, width]


class MapStem(nn.Module):
    """Square patches of a one-channel map (spectrogram, depth, thermal), projected and normalised."""

    def __init__(self, width: int, patch: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, patch, stride, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, H, W] -> [B, patches, width], patches row by row."""
        out: Tensor = self.norm(self.proj(x).flatten(2).transpose(1, 2))
        return out


class ImuStem(nn.Module):
    """Patches of 8 steps x 6 channels, projected and normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(IMU_CHANNELS * IMU_PATCH_STEPS, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 6, 2000] -> [B, 250, width]."""
        x = x.unfold(-1, IMU_PATCH_STEPS, IMU_PATCH_STEPS)  # [B, 6, 250, 8]
        x = x.permute(0, 2, 1, 3).flatten(2)  # [B, 250, 48]
        out: Tensor = self.norm(self.proj(x))
        return out


class Head(nn.Module):
    """LayerNorm and projection into the shared space."""

    def __init__(self, sizes: TowerSizes, embedding_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.width, eps=sizes.layer_norm_eps)
        self.proj = nn.Linear(sizes.width, embedding_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., D]."""
        out: Tensor = self.proj(self.norm(x))
        return out


class PatchEncoder(nn.Module):
    """Vision, audio, depth, thermal or IMU: stem, class token, positions, trunk, head.

    `patches` is the number of tokens the stem makes. `pre_norm` puts a LayerNorm before the trunk (vision);
    `bias_kv` gives the trunk's attention its learned key and value (all but vision).
    """

    def __init__(
        self, stem: nn.Module, patches: int, sizes: TowerSizes, embedding_dim: int, *, pre_norm: bool, bias_kv: bool
    ) -> None:
        super().__init__()
        self.stem = stem
        self.cls_token = nn.Parameter(torch.empty(1, 1, sizes.width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + patches, sizes.width))
        self.pre_norm = nn.LayerNorm(sizes.width, eps=sizes.layer_norm_eps) if pre_norm else None
        self.trunk = Transformer(sizes, bias_kv=bias_kv)
        self.head = Head(sizes, embedding_dim)

    def tokens(self, x: Tensor, keep: float = 1.0, *, first_only: bool = False) -> Tensor:
        """Trunk output [B, 1 + patches, width], the class token first; with `first_only` it alone, [B, 1, width].

        With `keep` < 1 only that fraction of the patches, drawn anew for every item, enters the trunk: cheaper
        training at little loss (FLIP, Li 2023).
        """
        x = self.stem(x) + self.pos_embed[:, 1:]  # [B, patches, width]
        B, N, W = x.shape
        if keep < 1.0:
            kept = torch.rand(B, N, device=x.device).argsort(dim=1)[:, : max(1, round(keep * N))]  # [B, kept]
            x = x.gather(1, kept[:, :, None].expand(-1, -1, W))  # [B, kept, width]
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(B, -1, -1)  # [B, 1, width]
        x = torch.cat([cls, x], dim=1)  # [B, 1 + kept, width]
        if self.pre_norm is not None:
            x = self.pre_norm(x)
        out: Tensor = self.trunk(x, first_only=first_only)
        return out

    def forward(self, x: Tensor, keep: float = 1.0) -> Tensor:
        """Input of the modality -> [B, D], not normalised."""
        out: Tensor = self.head(self.tokens(x, keep, first_only=True)[:, 0])
        return out


class TextEncoder(nn.Module):
    """CLIP's text tower: causal, read at the end-of-text token; it also owns the only learned logit scale.

    The scale stays float32 when the tower is cast to a half type: it is a logarithm, so that bfloat16, whose step is
    1/32 there, would put the factor off by up to 1.6 %.
    """

    def __init__(self, sizes: TowerSizes, embedding_dim: int) -> None:
        super().__init__()
        self.token_embedding = nn.Parameter(torch.empty(TEXT_VOCABULARY, sizes.width))
        self.pos_embed = nn.Parameter(torch.empty(1, TEXT_TOKENS, sizes.width))
        self.trunk = Transformer(sizes, causal=True)
        self.head = Head(sizes, embedding_dim)
        self.log_logit_scale = nn.Parameter(torch.empty(()))

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, L <= 77] int64, each row holding the end-of-text token -> [B, D], not normalised."""
        x = F.embedding(tokens, self.token_embedding) + self.pos_embed[:, : tokens.shape[1]]  # [B, L, width]
        x = self.trunk(x)  # [B, L, width]
        end = tokens.argmax(dim=-1)  # [B]: end-of-text is the largest id, and argmax takes the first
        x = x[torch.arange(len(x), device=x.device), end]  # [B, width]
        out: Tensor = self.head(x)  # [B, D]
        return out

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast the module's tensors one by one, as `Module.to` does."""

        def applied(x: Tensor) -> Tensor:
            changed = fn(x)
            halved = x.ndim == 0 and changed.dtype.itemsize < torch.float32.itemsize  # 0-d: the scale, or its gradient
            return x.to(changed.device, torch.float32) if halved else changed

        super()._apply(applied, recurse)  # type: ignore[no-untyped-call]
        return self


def vision_encoder(sizes: TowerSizes, embedding_dim: int, patch_px: int = VISION_PATCH_PX) -> PatchEncoder:
    """Make the encoder of [B, 3, 2, 224, 224]."""
    patches = (IMAGE_PX // patch_px) ** 2
    stem = VisionStem(sizes.width, patch_px)
    return PatchEncoder(stem, patches, sizes, embedding_dim, pre_norm=True, bias_kv=False)


def audio_encoder(sizes: TowerSizes, embedding_dim: int) -> PatchEncoder:
    """Make the encoder of [B, 1, 128, 204]."""
    rows, columns = ((n - AUDIO_PATCH) // AUDIO_STRIDE + 1 for n in (AUDIO_MEL_BINS, AUDIO_FRAMES))
    stem = MapStem(sizes.width, AUDIO_PATCH, AUDIO_STRIDE)
    return PatchEncoder(stem, rows * columns, sizes, embedding_dim, pre_norm=False, bias_kv=True)


def map_encoder(sizes: TowerSizes, embedding_dim: int) -> PatchEncoder:
    """Depth and thermal, for [B, 1, 224, 224]."""
    stem = MapStem(sizes.width, MAP_PATCH_PX, MAP_PATCH_PX)
    return PatchEncoder(stem, (IMAGE_PX // MAP_PATCH_PX) ** 2, sizes, embedding_dim, pre_norm=False, bias_kv=True)


def imu_encoder(sizes: TowerSizes, embedding_dim: int) -> PatchEncoder:
    """Make the encoder of [B, 6, 2000]."""
    patches = IMU_STEPS // IMU_PATCH_STEPS
    return PatchEncoder(ImuStem(sizes.width), patches, sizes, embedding_dim, pre_norm=False, bias_kv=True)
