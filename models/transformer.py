"""The trunk that all six encoders share: pre-norm transformer blocks (Vaswani 2017, Dosovitskiy 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH_MAX = 16_384

Activation = Literal["gelu", "quick_gelu"]
ACTIVATIONS: Final[tuple[Activation, ...]] = get_args(Activation)

_SLOW_FUSED: Final[bool] = not torch.cpu._is_amx_tile_supported()
"""Without AMX PyTorch's fused attention in bfloat16 takes a CPU twice as long as the plain products."""


@dataclass(frozen=True, slots=True)
class TowerSizes:
    """Sizes of one encoder's trunk and head; raises ValueError for what no model has: sizes come out of files too."""

    width: int
    blocks: int
    heads: int
    drop_path: float = 0.0
    """Stochastic depth of the last block while training."""
    layer_norm_eps: float = 1e-6
    """Epsilon of the LayerNorms in trunk and head; those in the stems have PyTorch's 1e-5. CLIP has 1e-5 everywhere."""
    activation: Activation = "gelu"
    """Activation in the MLPs; OpenAI's CLIP models were trained with `quick_gelu`, x * sigmoid(1.702 x)."""

    def __post_init__(self) -> None:
        for name, largest in (("width", WIDTH_MAX), ("blocks", 256), ("heads", 256)):
            check_size(name, getattr(self, name), largest)
        if self.width % self.heads:
            raise ValueError(f"sizes: width {self.width} is not a multiple of {self.heads} heads")
        if not isinstance(self.drop_path, int | float) or not 0 <= self.drop_path < 1:
            raise ValueError(f"sizes: drop_path is {self.drop_path!r}; it must be from 0 to below 1")
        if not isinstance(self.layer_norm_eps, int | float) or not 0 < self.layer_norm_eps <= 1e-2:
            raise ValueError(f"sizes: layer_norm_eps is {self.layer_norm_eps!r}; it must be over 0 and at most 0.01")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"sizes: activation is {self.activation!r}; known: {', '.join(ACTIVATIONS)}")


def check_size(name: str, value: object, largest: int) -> None:
    """Raise ValueError unless `value` is a whole number from 1 to `largest`."""
    if type(value) is not int or not 1 <= value <= largest:
        raise ValueError(f"sizes: {name} is {value!r}; it must be a whole number from 1 to {largest}")


class Attention(nn.Module):
    """Multi-head self-attention; `bias_kv` lets every token also attend to one learned key and value."""

    def __init__(self, width: int, heads: int, *, bias_kv: bool, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.bias_k = nn.Parameter(torch.empty(1, 1, width)) if bias_kv else None
        self.bias_v = nn.Parameter(torch.empty(1, 1, width)) if bias_kv else None

    def forward(self, x: Tensor, *, first_only: bool = False) -> Tensor:
        """[B, N, W] -> [B, N, W]; with `first_only` -> [B, 1, W], what the first token takes from all of them."""
        B, _, W = x.shape
        if first_only:
            weight, bias = self.qkv.weight, self.qkv.bias
            q = F.linear(x[:, :1], weight[:W], bias[:W])  # [B, 1, W]
            k, v = F.linear(x, weight[W:], bias[W:]).chunk(2, dim=-1)  # 2 x [B, N, W]
        else:
            q, k, v = self.qkv(x).chunk(3, dim=-1)  # 3 x [B, N, W]
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(B, 1, W)], dim=1)  # [B, N+1, W]
            v = torch.cat([v, self.bias_v.expand(B, 1, W)], dim=1)  # [B, N+1, W]
        d = W // self.heads
        q, k, v = (t.view(B, t.shape[1], self.heads, d).transpose(1, 2) for t in (q, k, v))  # [B, heads, N, d]
        y = _attend(q, k, v, causal=self.causal, learned=self.bias_k is not None)  # [B, heads, N, d]
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))  # [B, N, W]
        return out


def _attend(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, learned: bool) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of every head; the last of the keys is a `learned` one, which no query is before."""
    if _SLOW_FUSED and q.dtype == torch.bfloat16 and q.device.type == "cpu" and not causal:
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5  # [B, heads, N, N]
        out: Tensor = scores.softmax(dim=-1) @ v
        return out
    if causal and learned:
        # PyTorch's own causal mask would hide the learned key, as the last, from every query (torch 2.11.0).
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        seen[:, -1] = True
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


class Mlp(nn.Module):
    """Two linear layers, four times as wide in the middle."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.quick = activation == "quick_gelu"
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, W] -> [B, N, W]."""
        x = self.fc1(x)  # [B, N, 4W]
        x = x * torch.sigmoid(1.702 * x) if self.quick else F.gelu(x)
        out: Tensor = self.fc2(x)
        return out


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); training drops a branch of an item with rate `drop_path`."""

    def __init__(self, sizes: TowerSizes, drop_path: float, *, bias_kv: bool, causal: bool) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm_1 = nn.LayerNorm(sizes.width, eps=sizes.layer_norm_eps)
        self.attn = Attention(sizes.width, sizes.heads, bias_kv=bias_kv, causal=causal)
        self.norm_2 = nn.LayerNorm(sizes.width, eps=sizes.layer_norm_eps)
        self.mlp = Mlp(sizes.width, sizes.activation)

    def forward(self, x: Tensor, *, first_only: bool = False) -> Tensor:
        """[B, N, W] -> [B, N, W]; with `first_only` -> [B, 1, W], the first token alone."""
        attended = self.attn(self.norm_1(x), first_only=first_only)
        x = (x[:, :1] if first_only else x) + self._dropped(attended)
        return x + self._dropped(self.mlp(self.norm_2(x)))

    def _dropped(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0.0:
            return branch
        keep = 1.0 - self.drop_path
        return branch * (branch.new_empty(branch.shape[0], 1, 1).bernoulli_(keep) / keep)


class Transformer(nn.Module):
    """A stack of blocks; stochastic depth (Huang 2016) grows linearly from 0 to `sizes.drop_path` at the last."""

    def __init__(self, sizes: TowerSizes, *, bias_kv: bool = False, causal: bool = False) -> None:
        super().__init__()
        steps = max(sizes.blocks - 1, 1)
        self.blocks = nn.ModuleList(
            Block(sizes, sizes.drop_path * i / steps, bias_kv=bias_kv, causal=causal) for i in range(sizes.blocks)
        )

    def forward(self, x: Tensor, *, first_only: bool = False) -> Tensor:
        """[B, N, W] -> [B, N, W].

        With `first_only` -> [B, 1, W]: the last block computes the first token alone, which saves most of a block when
        nobody reads the others.
        """
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            x = block(x, first_only=first_only and i == last)
        return x
