"""The pointing game (Zhang 2016): does the best matching patch of an image lie on the thing that is meant?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from models.datasets.dataset import Box
from models.extent import VISION_PATCH_PX


def peaks(patches: Tensor, vectors: Tensor) -> list[tuple[float, float]]:
    """Middle (x, y), in pixels of the model's crop, of each image's patch nearest to the vector of the same row.

    `patches` is [N, rows, columns, D], `vectors` [N, D].
    """
    columns = patches.shape[2]
    best = torch.einsum("nrcd,nd->nrc", patches.float(), vectors.float()).flatten(1).argmax(dim=1).tolist()
    return [((i % columns + 0.5) * VISION_PATCH_PX, (i // columns + 0.5) * VISION_PATCH_PX) for i in best]


def hit_rate(points: Iterable[tuple[float, float]], boxes: Sequence[Sequence[Box]]) -> float:
    """Share of points that lie inside one of the boxes of the same row; NaN when there are none."""
    hits = [
        any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in held)
        for (x, y), held in zip(points, boxes, strict=True)
    ]
    return sum(hits) / len(hits) if hits else float("nan")
