"""What is timed: every tower by itself, and whole windows, with random weights and inputs."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from benchmarks.model.cost import flops, weight_bytes
from benchmarks.model.machine import Step
from models.imagebind import ImageBind, Sizes
from models.inference import Runner
from models.modalities import Modality
from models.tokenizer import tokenize

SENSORS: Final[tuple[Modality, ...]] = ("vision", "audio", "depth", "thermal", "imu")
CLIPS: Final = 3
"""Audio clips of a window, as published."""
WINDOW: Final = "window"
WINDOW_OF_CLIPS: Final = f"window, {CLIPS} audio clips"
TEXT: Final = "a photo of a dog barking"
LONG_TEXT: Final = " ".join(["dog"] * 100)


@dataclass(frozen=True, slots=True)
class Part:
    """One tower's share of a row."""

    modality: Modality
    flops: int
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is timed."""

    name: str
    step: Step
    parts: Sequence[Part]
    windows: int = 1

    @property
    def flops(self) -> int:
        """Operations of all towers."""
        return sum(part.flops for part in self.parts)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights of all towers."""
        return sum(part.weight_bytes for part in self.parts)


def random_model(sizes: Sizes, modalities: Iterable[Modality], device: torch.device, dtype: torch.dtype) -> ImageBind:
    """Random weights that depend on nothing but their names, rounded to `dtype`; takes little more than they do."""
    with torch.device("meta"):
        model = ImageBind(sizes, modalities).to(dtype)
    model.to_empty(device=device).requires_grad_(False)
    for name, parameter in model.named_parameters():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 and name.endswith("weight") else 0.02
        drawn = torch.empty(parameter.shape).normal_(std=scale, generator=generator)
        parameter.copy_(drawn + 1 if "norm" in name and name.endswith("weight") else drawn)
    return model.eval()


def window(device: torch.device, *, clips: int = 1, batch: int = 1) -> dict[Modality, Tensor]:
    """Random inputs of the five sensors' towers."""
    generator = torch.Generator().manual_seed(0)
    shapes: dict[Modality, tuple[int, ...]] = {
        "vision": (3, 2, 224, 224),
        "audio": (clips, 1, 128, 204),
        "depth": (1, 224, 224),
        "thermal": (1, 224, 224),
        "imu": (6, 2000),
    }
    return {m: torch.randn(batch, *size, generator=generator).to(device) for m, size in shapes.items()}


def tower_rows(runner: Runner, sizes: Sizes) -> list[Row]:
    """Every tower by itself, at batch 1."""
    clip, clips = window(runner.device), window(runner.device, clips=CLIPS)

    def row(name: str, m: Modality, x: Tensor, count: int, *, patches: bool = False) -> Row:
        part = Part(m, count, weight_bytes(sizes, m, runner.dtype))
        return Row(name, _embedding(runner, {m: x}, patches=patches), [part])

    rows = [row(m, m, clip[m], flops(sizes, m)) for m in SENSORS]
    dense = flops(sizes, "vision", patches=True)
    rows.insert(1, row("vision + patches", "vision", clip["vision"], dense, patches=True))
    rows.insert(3, row(f"audio, {CLIPS} clips", "audio", clips["audio"], CLIPS * flops(sizes, "audio")))
    for text in (TEXT, LONG_TEXT):
        tokens = tokenize([text])
        length = int(tokens.argmax()) + 1  # end-of-text has the largest id
        count = flops(sizes, "text", text_tokens=length)
        rows.append(row(f"text, {length} tokens", "text", tokens.to(runner.device), count))
    return rows


def window_rows(runner: Runner, sizes: Sizes, batches: Iterable[int], suffix: str = "") -> list[Row]:
    """All five towers, by number of windows and of audio clips in each."""
    rows = []
    for batch in batches:
        for name, clips in ((WINDOW, 1), (WINDOW_OF_CLIPS, CLIPS)):
            times = f" x {batch}" if batch > 1 else ""
            step = _embedding(runner, window(runner.device, clips=clips, batch=batch))
            items: dict[Modality, int] = {m: batch * (clips if m == "audio" else 1) for m in SENSORS}
            parts = [Part(m, n * flops(sizes, m), weight_bytes(sizes, m, runner.dtype)) for m, n in items.items()]
            rows.append(Row(name + times + suffix, step, parts, batch))
    return rows


def _embedding(runner: Runner, inputs: Mapping[Modality, Tensor], *, patches: bool = False) -> Step:
    return lambda: runner.embed(inputs, patches=patches)
