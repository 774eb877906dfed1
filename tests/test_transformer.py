"""Attention against PyTorch's own module; stochastic depth against its statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.transformer import Attention, Block, TowerSizes, Transformer


@pytest.mark.parametrize(("bias_kv", "causal"), [(False, False), (True, False), (False, True), (True, True)])
def test_attention_is_multi_head_attention(bias_kv: bool, causal: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(48, 4, add_bias_kv=bias_kv, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    ours = Attention(48, 4, bias_kv=bias_kv, causal=causal)
    state = theirs.state_dict()
    names = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias"}
    ours.load_state_dict({names.get(k, k.replace("out_proj", "out")): v for k, v in state.items()})
    x = torch.randn(2, 7, 48)
    mask = nn.Transformer.generate_square_subsequent_mask(7) if causal else None
    expected, _ = theirs(x, x, x, attn_mask=mask, need_weights=False)
    torch.testing.assert_close(ours(x), expected, atol=1e-6, rtol=1e-5)


def test_causal_trunk_does_not_look_ahead() -> None:
    torch.manual_seed(0)
    trunk = Transformer(TowerSizes(32, 2, 2), causal=True)
    x = torch.randn(1, 6, 32)
    changed = x.clone()
    changed[:, 4:] += 1.0
    before, after = trunk(x), trunk(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().max() > 0.1


def test_drop_path_keeps_the_mean_and_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    block = Block(TowerSizes(16, 1, 2), 0.5, bias_kv=False, causal=False)
    x = torch.randn(1, 3, 16).expand(4000, 3, 16)
    full = block.eval()(x[:1])
    with torch.no_grad():
        dropped = block.train()(x)
    skipped = (dropped == x).all(dim=(1, 2)).float().mean()
    assert skipped == pytest.approx(0.25, abs=0.03)  # both branches of a block dropped: 0.5 * 0.5
    torch.testing.assert_close(block.eval()(x)[:1], full)
    attention = block.attn(block.norm_1(x[:1]))
    assert block.train()._dropped(attention.expand(4000, 3, 16)).mean(0).sub(attention[0]).abs().max() < 0.1


def test_stochastic_depth_grows_to_the_last_block() -> None:
    trunk = Transformer(TowerSizes(16, 4, 2, drop_path=0.3))
    assert [block.drop_path for block in trunk.blocks] == pytest.approx([0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize(("bias_kv", "causal"), [(False, False), (True, False), (False, True), (True, True)])
def test_the_first_token_alone_is_the_first_of_all(bias_kv: bool, causal: bool) -> None:
    torch.manual_seed(0)
    trunk = Transformer(TowerSizes(32, 3, 4), bias_kv=bias_kv, causal=causal)
    for parameter in trunk.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 7, 32)
    alone = trunk(x, first_only=True)
    assert alone.shape == (2, 1, 32)
    torch.testing.assert_close(alone, trunk(x)[:, :1], atol=1e-5, rtol=1e-5)


def test_quick_gelu_and_epsilon_reach_every_block() -> None:
    torch.manual_seed(0)
    x = 0.01 * torch.randn(1, 5, 16)  # so small that the epsilon of a LayerNorm counts
    trunks = [Transformer(TowerSizes(16, 2, 2)) for _ in range(2)]
    quick = Transformer(TowerSizes(16, 2, 2, layer_norm_eps=1e-3, activation="quick_gelu"))
    for trunk in (trunks[1], quick):
        trunk.load_state_dict(trunks[0].state_dict())
    torch.testing.assert_close(trunks[1](x), trunks[0](x))
    assert (quick(x) - trunks[0](x)).abs().max() > 1e-3
    h = torch.linspace(-3, 3, 16)
    mlp = quick.blocks[0].mlp
    inner = mlp.fc1(h)
    torch.testing.assert_close(mlp(h), mlp.fc2(inner / (1 + torch.exp(-1.702 * inner))))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 30}, "width 30 is not a multiple of 4 heads"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps is 0.0; it must be over 0"),
        ({"layer_norm_eps": "1e-6"}, "layer_norm_eps is '1e-6'"),
        ({"activation": "relu"}, "activation is 'relu'; known: gelu, quick_gelu"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
    ],
)
def test_sizes_that_no_model_has_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TowerSizes(**{"width": 32, "blocks": 1, "heads": 4, **wrong})
