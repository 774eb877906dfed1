"""The published checkpoint: up to a mark the pickle, then the values of its tensors, in a zip as torch.save's."""

from __future__ import annotations

import io
import zipfile

import torch

from fuzz import scratch
from fuzz.judging import check_told
from models.files.published_file import PublishedFile, PublishedFileError, check_parts
from models.imagebind import Sizes
from models.transformer import TowerSizes

MARK = b"\x1f\x1e\x1d"
TOKENS = (
    MARK,
    b"cos\nsystem\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"\x85R",
    b".",
    b"}",
    b"\x80\x02",
    b"storage",
)
_SIZES = Sizes(16, *[TowerSizes(8, 1, 2)] * 6)


def one(data: bytes) -> None:
    """Open it as the published model, and check its parts."""
    code, _, values = data.partition(MARK)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", code)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", values)
        archive.writestr("archive/version", "3\n")
    path = scratch.file("x.pth", zipped.getvalue())
    for read in (lambda: PublishedFile(path, _SIZES), lambda: check_parts(path)):
        try:
            read()
        except PublishedFileError as error:
            check_told(error)


def seeds() -> list[bytes]:
    """The pickle of a state dict of two tensors."""
    written = io.BytesIO()
    torch.save({"a": torch.zeros(2), "b.weight": torch.ones(2, 2)}, written)
    with zipfile.ZipFile(written) as archive:
        return [archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl"))) + MARK + bytes(24)]
