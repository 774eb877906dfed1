"""Linear layers whose weights lie in the order in which a CPU multiplies them.

oneDNN multiplies blocks of a size that fits the CPU's registers. A plain weight is cut into these blocks at every call
(bfloat16), or goes to another library that knows nothing of blocks (float32); a packed one is cut once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.encoders import PatchEncoder, TextEncoder
from models.imagebind import ImageBind

_ROWS = 256
"""Tokens that one call is expected to have; the packed weights serve any number."""


class PackedLinear(nn.Module):
    """Packed form of `linear`, on a CPU and without gradients.

    The packed weight has no plain memory, and so no place in a state dict, a pickle or a copy of the module.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return out


def can_pack(dtype: torch.dtype) -> bool:
    """Return whether this CPU and this PyTorch multiply packed weights of `dtype`."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_onednn or not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


@torch.no_grad()
def pack(model: ImageBind) -> None:
    """Replace the linear layers of all blocks, one by one: memory grows by no more than one of them.

    The last block keeps its query, key and value, parts of which it multiplies when only one token is read.
    """
    for encoder in model.encoders.values():
        assert isinstance(encoder, PatchEncoder | TextEncoder)
        last = encoder.trunk.blocks[-1]
        for block in encoder.trunk.blocks:
            for name in ("attn.qkv", "attn.out", "mlp.fc1", "mlp.fc2"):
                linear = block.get_submodule(name)
                if isinstance(linear, nn.Linear) and (block is not last or name != "attn.qkv"):
                    block.set_submodule(name, PackedLinear(linear))
