"""Contrast over the pairs of several processes, each of which encodes its own.

Every process compares its own vectors with those of all, and gradients flow back through the gathering, so that the
mean of all losses has the value and the gradient of one process with all the pairs. Nothing of size pairs x pairs is
computed anywhere: a process holds its own rows of it (OpenCLIP calls this local loss with gathered gradients).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
import torch.nn.functional as F
from torch import Tensor, nn

from models.training.loss import info_nce

Processes = dist.ProcessGroup | None
"""Processes that train together: a group, or None for this one alone."""


def gathered(vectors: Tensor, processes: Processes) -> Tensor:
    """Return the rows of all processes, [R B, D], in the order of their ranks; every process must give B rows."""
    if processes is None:
        return vectors
    rows = differentiable.all_gather(vectors.contiguous(), group=processes)  # type: ignore[no-untyped-call]
    return torch.cat(rows)


def contrast(images: Tensor, others: Tensor, logit_scale: Tensor | float, processes: Processes = None) -> Tensor:
    """Symmetric InfoNCE of the pairs of all processes, a scalar: the part of it that this process computes.

    `images` and `others` [B, D] are unit vectors of this one's pairs. `backward` of it, then `average_gradients`,
    give the gradients of `info_nce` on all pairs.
    """
    if processes is None:
        return info_nce(images @ others.T, logit_scale)
    own = dist.get_rank(processes) * len(images) + torch.arange(len(images), device=images.device)
    to_others = images.float() @ gathered(others, processes).float().T * logit_scale  # [B, R B]
    to_images = others.float() @ gathered(images, processes).float().T * logit_scale
    return (F.cross_entropy(to_others, own) + F.cross_entropy(to_images, own)) / 2


def average_gradients(parameters: Iterable[nn.Parameter], processes: Processes) -> None:
    """Set every gradient to its mean over the processes, in one exchange. A parameter has one in all or in none."""
    if processes is None:
        return
    found = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not found:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in found])
    dist.all_reduce(flat, group=processes)
    flat /= dist.get_world_size(processes)
    means = torch.split(flat, [gradient.numel() for gradient in found])
    for gradient, mean in zip(found, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
