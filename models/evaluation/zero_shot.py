"""Zero-shot classification: the label whose phrases lie nearest in the shared space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.imagebind import ImageBind
from models.tokenizer import tokenize


@torch.no_grad()
def class_vectors(model: ImageBind, phrases: Mapping[str, Sequence[str]]) -> tuple[list[str], Tensor]:
    """Labels and their unit vectors [K, D]: the normalised mean over the phrases of each (Radford 2021, 3.1.4)."""
    vectors = []
    for texts in phrases.values():
        mean = model({"text": tokenize(texts)})["text"].mean(dim=0)
        vectors.append(F.normalize(mean, dim=0))
    return list(phrases), torch.stack(vectors)


def nearest(vectors: Tensor, labels: Sequence[str], classes: Tensor) -> list[str]:
    """The label with the highest cosine for each of `vectors` [N, D], `classes` being [K, D]."""
    return [labels[i] for i in (vectors @ classes.T).argmax(dim=1).tolist()]


def accuracy(found: Sequence[str], true: Sequence[str]) -> float:
    """Share of equal labels; NaN when there are none."""
    return sum(f == t for f, t in zip(found, true, strict=True)) / len(true) if true else float("nan")
