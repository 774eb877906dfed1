"""Recipes: what cannot work is refused; rates and optimisers."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from made_up import SIZES

from models.imagebind import ImageBind
from models.training.recipe import Recipe, TrainingStage, learning_rate_factor, optimisers_of


def test_a_recipe_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="batch >= 2"):
        Recipe(stages=(TrainingStage("text", 10, 1, 1e-3),))


def test_the_learning_rate_rises_then_falls_to_its_last_part() -> None:
    stage = TrainingStage("text", 100, 8, 1e-3, last_rate=0.2)
    rates = [learning_rate_factor(step, stage, 10) for step in range(100)]
    assert rates[0] == 0.1
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.2, abs=0.002)


def test_every_trained_parameter_has_one_optimiser_and_only_matrices_decay() -> None:
    model = ImageBind(SIZES)
    for name, encoder in model.encoders.items():
        encoder.requires_grad_(name in ("vision", "text"))
    muon, adamw = optimisers_of(model, TrainingStage("text", 10, 8, 1e-3), Recipe(sizes=SIZES))
    held = [parameter for o in (muon, adamw) for group in o.param_groups for parameter in group["params"]]
    wanted = [p for name in ("vision", "text") for p in model.encoders[name].parameters()]
    assert {id(p) for p in held} == {id(p) for p in wanted}
    assert len(held) == len(wanted)
    assert all(p.ndim == 2 for group in muon.param_groups for p in group["params"])
    kept = [p for group in adamw.param_groups if group["weight_decay"] == 0 for p in group["params"]]
    text = model.encoders["text"]
    assert any(p is text.token_embedding for p in kept)
    assert torch.is_tensor(text.log_logit_scale)
