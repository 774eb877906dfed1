"""A batch of one step: how it is encoded, and the loss of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.datasets.pairs import Examples, Group, caption, mirrored
from models.encoders import PatchEncoder
from models.imagebind import ImageBind
from models.modalities import Modality
from models.tokenizer import tokenize
from models.training.chunks import Encode, Outputs
from models.training.embedded_images import EmbeddedImages
from models.training.image_patches import Rows, kept_patches, moved_images, recoloured_patches, trunk_output
from models.training.loss import info_nce, pooled_similarity
from models.training.recipe import Recipe, TrainingStage


def both_towers(
    model: ImageBind,
    examples: Examples,
    rows: Rows,
    groups: list[Group],
    recipe: Recipe,
    stage: TrainingStage,
    rng: np.random.Generator,
) -> tuple[Encode, Callable[..., Tensor]]:
    """Encoding of a batch of images and captions, and the loss of it: both towers learn."""
    vision = model.encoders["vision"]
    assert isinstance(vision, PatchEncoder)
    texts = [caption(examples.about[row], group, rng) for row, group in zip(rows, groups, strict=True)]
    views = moved_images(examples, rows, rng)
    texts = [mirrored(text) if mirror else text for text, mirror in zip(texts, views.mirrored, strict=True)]
    kept = kept_patches(views, groups, stage.keep, stage.focus, rng)  # [B, kept]
    patches = recoloured_patches(views, kept, rng)  # [B, kept, 1176]
    tokens = tokenize(texts)  # [B, 77]

    def encode(part: slice) -> Outputs:
        with torch.autocast("cpu", torch.bfloat16):
            embedded = vision.head(trunk_output(vision, patches[part], kept[part]))  # [b, 1 + kept, D]
            words = model({"text": tokens[part]})["text"].float()  # [b, D]
        return F.normalize(embedded.float(), dim=-1), words

    def loss(embedded: Tensor, words: Tensor) -> Tensor:
        return _paired_loss(embedded[:, 0], embedded[:, 1:], words, groups, model.logit_scale("text"), recipe)

    return encode, loss


def one_tower(
    model: ImageBind,
    stage: TrainingStage,
    x: Tensor,
    images: EmbeddedImages,
    rows: Rows,
    groups: list[Group],
    recipe: Recipe,
) -> tuple[Encode, Callable[..., Tensor]]:
    """Encoding of a batch by a tower that learns the images of the frozen one, and the loss of it."""
    dense = images.patches[rows].float() if stage.modality == "audio" and images.patches is not None else None

    def encode(part: slice) -> Outputs:
        with torch.autocast("cpu", torch.bfloat16):
            return (model({stage.modality: x[part]}, keep=stage.keep)[stage.modality].float(),)  # [b, D]

    def loss(other: Tensor) -> Tensor:
        return _paired_loss(images.vectors[rows], dense, other, groups, model.logit_scale(stage.modality), recipe)

    return encode, loss


def _paired_loss(
    vectors: Tensor, patches: Tensor | None, other: Tensor, groups: list[Group], scale: Tensor, recipe: Recipe
) -> Tensor:
    """InfoNCE of whole images [B, D] and `other` [B, D], and of patches [B, P, D] where a pair is about one thing:
    none of these is in the images of pairs that are about nothing.
    """
    loss = info_nce(vectors @ other.T, scale)
    things = [i for i, (kind, _) in enumerate(groups) if kind == "thing"]
    empty = [i for i, (kind, _) in enumerate(groups) if kind == "nothing"]
    if patches is None or len(things) < 2:
        return loss
    pooled = pooled_similarity(patches[things + empty], other[things], recipe.sharpness)  # [things + empty, things]
    return loss + recipe.dense_weight * info_nce(pooled[: len(things)], scale, pooled[len(things) :])


def inputs_of(
    examples: Examples, modality: Modality, rows: Rows, groups: list[Group], rng: np.random.Generator
) -> Tensor:
    """A batch of what learns the images: captions as tokens [B, 77], sound changed a little, the others as they are."""
    if modality == "text":
        return tokenize([caption(examples.about[row], group, rng) for row, group in zip(rows, groups, strict=True)])
    return _augmented(modality, examples.batch(modality, rows), rng)


def _augmented(modality: Modality, x: Tensor, rng: np.random.Generator) -> Tensor:
    """Audio gets a shift in time (round about) and another loudness; depth, thermal and IMU stay as they are."""
    if modality != "audio":
        return x
    shifts = rng.integers(0, x.shape[-1], len(x))
    rolled = torch.stack([row.roll(int(shift), dims=-1) for row, shift in zip(x, shifts, strict=True)])
    return rolled + torch.from_numpy(rng.normal(0.0, 0.08, (len(x), 1, 1, 1))).float()
