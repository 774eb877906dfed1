"""InfoNCE and the pooling over patches, against values worked out by hand and against naive formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.training.loss import info_nce, pooled_similarity


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def naive_info_nce(similarity: Tensor, scale: float) -> Tensor:
    terms = []
    for i in range(len(similarity)):
        exps = torch.exp(similarity * scale)
        terms.append(-torch.log(exps[i, i] / exps[i].sum()) / 2)
        terms.append(-torch.log(exps[i, i] / exps[:, i].sum()) / 2)
    return torch.stack(terms).sum() / len(similarity)


def test_two_pairs_by_hand() -> None:
    # rows: log(1 + e^(0.2-0.9)*10), log(1 + e^((0.1-0.6)*10)); columns: 0.1-0.9 and 0.2-0.6
    expected = sum(math.log1p(math.exp(10 * d)) for d in (-0.7, -0.5, -0.8, -0.4)) / 4
    loss = info_nce(torch.tensor([[0.9, 0.2], [0.1, 0.6]]), 10.0)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_value_and_gradient_match_the_naive_formula() -> None:
    ours = (unit(7, 5) @ unit(7, 5, seed=1).T).float().requires_grad_()
    naive = ours.detach().double().requires_grad_()
    info_nce(ours, 14.0).backward()
    naive_info_nce(naive, 14.0).backward()
    assert ours.grad is not None
    assert naive.grad is not None
    torch.testing.assert_close(info_nce(ours, 14.0).double(), naive_info_nce(naive, 14.0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.grad.double(), naive.grad, rtol=1e-4, atol=1e-6)


def test_swapping_the_modalities_changes_nothing() -> None:
    similarity = (unit(6, 4) @ unit(6, 4, seed=1).T).float()
    torch.testing.assert_close(info_nce(similarity, 20.0), info_nce(similarity.T, 20.0))


def test_perfect_pairs_reach_the_floor() -> None:
    # all other pairs opposite: -log(e^s / (e^s + (B-1) e^-s))
    similarity = 2 * torch.eye(5) - 1
    floor = math.log1p(4 * math.exp(-2 * 3.0))
    assert info_nce(similarity, 3.0).item() == pytest.approx(floor, rel=1e-5)
    # and when all pairs are of one kind, nothing can be told apart: log B
    assert info_nce(torch.ones(5, 5), 3.0).item() == pytest.approx(math.log(5), rel=1e-5)


def test_unpaired_images_are_negatives_of_the_other_modality_only() -> None:
    similarity, unpaired = (
        (unit(4, 5) @ unit(4, 5, seed=1).T).float(),
        (unit(3, 5, seed=2) @ unit(4, 5, seed=1).T).float(),
    )
    columns = torch.cat([similarity, unpaired]) * 8.0
    extra = [torch.logsumexp(columns[:, j], 0) - torch.logsumexp(columns[:4, j], 0) for j in range(4)]
    expected = info_nce(similarity, 8.0) + torch.stack(extra).mean() / 2
    torch.testing.assert_close(info_nce(similarity, 8.0, unpaired), expected)
    torch.testing.assert_close(info_nce(similarity, 8.0, unpaired[:0]), info_nce(similarity, 8.0))


def test_loss_refuses_a_similarity_that_is_not_square() -> None:
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        info_nce(torch.zeros(3, 4), 1.0)


def test_pooling_goes_from_the_mean_to_the_best_patch() -> None:
    patches, vectors = unit(3, 16, 8).float(), unit(4, 8, seed=1).float()
    cosines = torch.einsum("bpd,nd->bnp", patches, vectors)
    torch.testing.assert_close(pooled_similarity(patches, vectors, 1e-3), cosines.mean(-1), atol=1e-3, rtol=0)
    torch.testing.assert_close(pooled_similarity(patches, vectors, 1e3), cosines.amax(-1), atol=5e-3, rtol=0)


def test_gradient_goes_to_the_patch_that_matches() -> None:
    vectors = unit(1, 8).float()
    patches = unit(1, 16, 8, seed=1).float()
    patches[0, 11] = vectors[0]
    patches.requires_grad_()
    pooled_similarity(patches, vectors, 20.0).sum().backward()
    assert patches.grad is not None
    share = patches.grad[0].norm(dim=-1)
    assert share.argmax().item() == 11
    assert share[11] > 0.9 * share.sum()
