"""Losses of image-paired contrastive training.

`info_nce` is ImageBind's (Girdhar 2023, equation 1, with its mirror image). A vector for the whole image does not say
where a thing is: `pooled_similarity` gives every pair the similarity of its best matching patches instead, so that the
same loss also teaches patches which of them a sound or a caption is about (multiple instances: Miech 2020,
"End-to-End Learning of Visual Representations from Uncurated Instructional Videos"; for sound: Hamilton 2024, DenseAV).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(similarity: Tensor, logit_scale: Tensor | float, unpaired: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE of B pairs, a scalar.

    `similarity` [B, B] holds cosines: row i is image i against the other modality of every pair j; pairs lie on the
    diagonal. `logit_scale` is one over the temperature. `unpaired` [M, B] are the rows of further images that show
    none of what the pairs are about: more negatives for the other modality, and nothing else.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"info_nce: similarity has shape {tuple(similarity.shape)}, not [B, B]")
    logits = similarity.float() * logit_scale
    pairs = torch.arange(len(logits), device=logits.device)
    images = logits if unpaired is None else torch.cat([logits, unpaired.float() * logit_scale])  # [B + M, B]
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(images.T, pairs)) / 2


def pooled_similarity(patches: Tensor, vectors: Tensor, sharpness: float) -> Tensor:
    """Similarity [B, N] of B images to N vectors, as that of the patches which match best.

    `patches` [B, P, D] and `vectors` [N, D] are unit vectors. Returns log(mean(exp(sharpness * cosine))) / sharpness
    over the patches: the mean cosine at sharpness 0+, the best patch's alone as sharpness grows.
    """
    cosines = torch.einsum("bpd,nd->bnp", patches, vectors)  # [B, N, P]
    mean = torch.logsumexp(cosines.float() * sharpness, dim=-1) - torch.log(torch.tensor(float(patches.shape[1])))
    return mean / sharpness
