"""Retrieval: whether what belongs to a query is among its nearest neighbours."""

from __future__ import annotations

import torch
from torch import Tensor


def recall_at(k: int, similarity: Tensor, relevant: Tensor) -> float:
    """Share of queries with something relevant among their `k` best; `similarity` and `relevant` are [queries, items].

    Queries to which nothing is relevant are left out; NaN when none remains.
    """
    asked = relevant.any(dim=1)
    if not asked.any():
        return float("nan")
    best = similarity[asked].topk(min(k, similarity.shape[1]), dim=1).indices  # [asked, k]
    return relevant[asked].gather(1, best).any(dim=1).float().mean().item()


def same_label(queries: list[str], items: list[set[str]]) -> Tensor:
    """Return the items that hold the label of each query: bool [queries, items]."""
    return torch.tensor([[label in held for held in items] for label in queries], dtype=torch.bool)
