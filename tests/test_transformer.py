"""Attention against PyTorch's own module; stochastic depth against its statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.transformer import Attention, Block, TowerSizes, Transformer


@pytest.mark.parametrize(("bias_kv", "causal"), [(False, False), (True, False), (False, True)])
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
    block = Block(16, 2, 0.5, bias_kv=False, causal=False)
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


def test_width_must_divide_into_heads() -> None:
    with pytest.raises(ValueError, match="width 30 is not a multiple of 4 heads"):
        TowerSizes(30, 1, 4)
