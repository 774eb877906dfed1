"""The baseline: the same weights, computed as the published code computes them.

float32, attention written out, all tokens through the last block, one modality after the other, and always three clips
of audio; also under autocast to bfloat16, which is what a user of that code can switch on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.model.machine import measure_ms
from benchmarks.model.rows import CLIPS, LONG_TEXT, SENSORS, TEXT, random_model, window
from models.encoders import PatchEncoder
from models.imagebind import Sizes
from models.inference import Runner
from models.modalities import Modality
from models.tokenizer import tokenize
from models.transformer import Attention


@dataclass(frozen=True, slots=True)
class Gain:
    """One tower's least times in milliseconds, and how far its vectors are from those in float32."""

    float32_ms: float
    autocast_ms: float
    ours_ms: float
    worst_cosine: float


class WrittenOutAttention(nn.Module):
    """`Attention` with softmax(q k^T / sqrt(d)) v going through memory step by step."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.ours = attention

    def forward(self, x: Tensor, *, first_only: bool) -> Tensor:
        """[B, N, W] -> [B, N, W]."""
        assert not first_only
        ours, B, W = self.ours, x.shape[0], x.shape[2]
        q, k, v = ours.qkv(x).chunk(3, dim=-1)  # 3 x [B, N, W]
        if ours.bias_k is not None and ours.bias_v is not None:
            k = torch.cat([k, ours.bias_k.expand(B, 1, W)], dim=1)  # [B, N+1, W]
            v = torch.cat([v, ours.bias_v.expand(B, 1, W)], dim=1)  # [B, N+1, W]
        q, k, v = (t.unflatten(-1, (ours.heads, -1)).transpose(1, 2) for t in (q, k, v))  # [B, heads, N, d]
        scores = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)  # [B, heads, N, N+1]
        out: Tensor = ours.out((F.softmax(scores, dim=-1) @ v).transpose(1, 2).flatten(2))
        return out


def gains(runner: Runner, sizes: Sizes, repetitions: int) -> Iterator[tuple[Modality, Gain]]:
    """Of every sensor's tower in turn; only one of the baseline's is in memory at a time."""
    inputs = window(runner.device, clips=CLIPS, batch=2)
    for m in SENSORS:
        encoder = random_model(sizes, [m], runner.device, torch.float32).encoders[m]
        assert isinstance(encoder, PatchEncoder)
        for block in encoder.trunk.blocks:
            block.attn = WrittenOutAttention(block.attn)  # type: ignore[arg-type]
        yield m, _gain(runner, m, encoder, inputs[m], repetitions)


def text_cosine(runner: Runner, sizes: Sizes) -> float:
    """The lowest cosine of the runner's vectors of two texts with those in float32."""
    exact = Runner(random_model(sizes, ["text"], runner.device, torch.float32), device=runner.device)
    tokens = tokenize([TEXT, LONG_TEXT])
    wanted, found = (r.embed({"text": tokens}).vectors["text"] for r in (exact, runner))
    return F.cosine_similarity(wanted, found).min().item()


def _gain(runner: Runner, m: Modality, encoder: PatchEncoder, x: Tensor, repetitions: int) -> Gain:
    items = x if m == "audio" else x[:, None]  # [2, clips, ...]
    with torch.inference_mode():
        exact = torch.stack([_embed(encoder, clips) for clips in items])
    cosine = F.cosine_similarity(exact, runner.embed({m: x}).vectors[m]).min().item()

    def autocast() -> None:
        with torch.autocast(x.device.type, torch.bfloat16):
            _embed(encoder, items[0])

    steps = {
        "float32": lambda: _embed(encoder, items[0]),
        "autocast": autocast,
        "ours": lambda: runner.embed({m: x[:1]}),
    }
    best = {name: min(spent) for name, spent in measure_ms(steps, repetitions, x.device).items()}
    return Gain(best["float32"], best["autocast"], best["ours"], cosine)


def _embed(encoder: PatchEncoder, clips: Tensor) -> Tensor:
    """Clips [n, ...] -> the unit vector [D] of their mean."""
    vectors = F.normalize(encoder.head(encoder.tokens(clips)[:, 0]).float(), dim=-1)  # [n, D]
    return F.normalize(vectors.mean(dim=0), dim=0)
