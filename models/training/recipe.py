"""Recipe of a training run: its stages, rates and optimisers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from models.imagebind import NANO, ImageBind, Sizes
from models.modalities import Modality

_NOT_DECAYED: Final = ("embedding", "pos_embed", "cls_token", "bias_k", "bias_v")


@dataclass(frozen=True, slots=True)
class TrainingStage:
    """One kind of pair: images with `modality`. "text" trains the image tower as well.

    `keep` is the fraction of patches that enter the trunk (FLIP, Li 2023). With `focus` they are those on and around
    the things that the caption is about, and the rest at random: a new image tower sees a thing as one among many
    patches and is slow to find what captions are about.
    """

    modality: Modality
    steps: int
    batch: int
    learning_rate: float
    keep: float = 1.0
    focus: bool = False
    last_rate: float = 0.02
    """Learning rate of the last step, as a part of the highest."""
    chunk: int = 0
    """Pairs that are encoded at a time, so that a batch takes no more memory than these; 0: all of the batch."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a training run depends on, beside the shards."""

    sizes: Sizes = NANO
    stages: tuple[TrainingStage, ...] = (
        TrainingStage("text", 600, 64, 1.5e-3, keep=0.2, focus=True, last_rate=0.8),
        TrainingStage("text", 900, 64, 1.2e-3, keep=0.4, last_rate=0.4),
        TrainingStage("text", 350, 64, 5e-4),
        TrainingStage("audio", 400, 64, 1.5e-3, keep=0.5),
        TrainingStage("depth", 250, 64, 1.5e-3, keep=0.5),
        TrainingStage("thermal", 250, 64, 1.5e-3, keep=0.5),
        TrainingStage("imu", 250, 64, 1.5e-3),
    )
    seed: int = 0
    muon_ratio: float = 2.0
    """Muon's learning rate over AdamW's."""
    weight_decay: float = 0.05
    warmup_steps: int = 50
    """Steps of each stage in which the learning rate rises."""
    dense_weight: float = 1.0
    sharpness: float = 16.0
    initial: str = ""
    """Hash of the weights to begin with; empty when all towers begin anew."""
    log_every: int = 20
    checkpoint_every: int = 100
    validate_every: int = 400

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def refining(self, initial: str, sizes: Sizes) -> Recipe:
        """Return the recipe for towers that are trained already: the last stage of each modality, without short cuts.

        `initial` is the hash of their weights.
        """
        last = {stage.modality: replace(stage, keep=1.0, focus=False) for stage in self.stages}
        return replace(self, sizes=sizes, stages=tuple(last.values()), initial=initial)

    def __post_init__(self) -> None:
        for stage in self.stages:
            if stage.steps < 1 or stage.batch < 2 or not 0 < stage.keep <= 1 or stage.chunk < 0:
                raise ValueError(f"recipe: {stage} needs steps >= 1, batch >= 2, 0 < keep <= 1 and chunk >= 0")


def learning_rate_factor(step: int, stage: TrainingStage, warmup_steps: int) -> float:
    """Learning rate at a step as a part of the highest: a linear rise, then half a cosine down to `stage.last_rate`."""
    rising = min(warmup_steps, stage.steps // 4)
    if step < rising:
        return (step + 1) / rising
    falling = 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, stage.steps - rising)))
    return stage.last_rate + (1 - stage.last_rate) * falling


def optimisers_of(model: ImageBind, stage: TrainingStage, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon (Jordan 2024) for the matrices of the trunks, which it trains in far fewer steps, AdamW for the rest.

    Muon's steps are scaled to the size of AdamW's (Liu 2025, "Muon is Scalable for LLM Training", section 2.2).
    """
    matrices: list[Tensor] = []
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and not name.endswith(_NOT_DECAYED)
            (matrices if ".trunk." in name and parameter.ndim == 2 else decayed if decays else others).append(parameter)
    rate, decay = stage.learning_rate, recipe.weight_decay
    muon_rate = recipe.muon_ratio * rate
    groups = [
        {"params": decayed, "weight_decay": decay, "highest": rate},
        {"params": others, "weight_decay": 0.0, "highest": rate},
    ]
    return [
        torch.optim.Muon(
            [{"params": matrices, "highest": muon_rate}],
            lr=muon_rate,
            weight_decay=decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95)),
    ]
