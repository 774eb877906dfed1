#!/bin/sh
# ImageBind's audio, depth, thermal and IMU trunks are nn.MultiheadAttention with add_bias_kv: one learned key and value more,
# which every query may attend to. Made causal (a streaming encoder), with the very mask that generate_square_subsequent_mask
# gives and the true hint is_causal=True, torch 2.11.0 answers in two ways: with need_weights=True the learned key and value
# are seen by all queries, as they are without the hint; with need_weights=False (the fast way, and the one to train with)
# NO query sees them: their values change nothing, and they get a gradient of zero for ever. No warning, no error.
# add_zero_attn is lost in the same way. Why: with the hint the mask is dropped and the kernel's own causal mask is used, whose
# diagonal begins at the first key, so that the key that was appended at the end lies in every query's future.
# What to do: leave is_causal out and pass the mask.
#
# Needs python3 (3.10+) with venv, a package registry, and about 6 GB in the temporary folder (torch as it is published).
# Exits 0 when it behaves so, 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import sys

import torch
from torch import nn

torch.manual_seed(0)
B, L, D = 2, 5, 16
x = torch.randn(B, L, D)
mask = nn.Transformer.generate_square_subsequent_mask(L)


def layer(**more: bool) -> nn.MultiheadAttention:
    made = nn.MultiheadAttention(D, 2, batch_first=True, **more)
    if made.bias_k is not None:
        nn.init.normal_(made.bias_k)
        nn.init.normal_(made.bias_v)
    return made


def run(attention: nn.MultiheadAttention, weights: bool, hint: bool) -> torch.Tensor:
    return attention(x, x, x, attn_mask=mask, need_weights=weights, is_causal=hint)[0]


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()


print("torch", torch.__version__)
same = True
for more in ({}, {"add_bias_kv": True}, {"add_zero_attn": True}):
    attention = layer(**more)
    with torch.no_grad():
        plain = run(attention, weights=False, hint=False)
        slow = difference(plain, run(attention, weights=True, hint=True))
        fast = difference(plain, run(attention, weights=False, hint=True))
    print(f"{more or 'neither'}: with the hint the output moves by {slow:.1e} (need_weights=True), {fast:.1e} (False)")
    same = same and slow < 1e-5 and ((fast > 0.05) if more else (fast < 1e-5))

attention = layer(add_bias_kv=True)
for weights, hint in ((False, False), (True, True), (False, True)):
    attention.zero_grad()
    run(attention, weights, hint).square().sum().backward()
    found = attention.bias_v.grad
    gradient = 0.0 if found is None else found.abs().max().item()
    print(f"need_weights={weights}, is_causal={hint}: greatest gradient of bias_v {gradient:.3g}")
    same = same and (gradient == 0.0) == (hint and not weights)
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
