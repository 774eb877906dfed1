"""Images as a frozen tower has them, embedded once for all steps."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.progress import Progress
from models.datasets.pairs import Examples
from models.datasets.rows_file import RowsFile
from models.imagebind import ImageBind


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedImages:
    """All images as the frozen tower has them: vectors [N, D], and patches float16 [N, 256, D], which lie on the disk,
    if pairs are about one thing.
    """

    vectors: Tensor
    patches: Tensor | None


@torch.no_grad()
def embed_images(
    model: ImageBind, examples: Examples, scratch: Path, progress: Progress, batch: int = 64
) -> EmbeddedImages:
    """Embed all images by the frozen image tower; their patches, which lie in the folder `scratch`, only
    where a sound may be of one of them.
    """
    model.eval()
    dense = any(about.labelled and about.heard for about in examples.about)
    vectors = []
    with closing(RowsFile(scratch)) as patches:
        for rows in np.array_split(np.arange(len(examples)), -(-len(examples) // batch)):
            with torch.autocast("cpu", torch.bfloat16):
                found = model.embed({"vision": examples.batch("vision", rows)}, patches=dense)
            vectors.append(found.vectors["vision"])
            if found.patches is not None:
                for image in found.patches.flatten(1, 2).half():
                    patches.append(image)
            progress("images embedded", int(rows[-1]) + 1, len(examples))
        return EmbeddedImages(torch.cat(vectors), patches.rows() if dense else None)
