"""Our weights files: up to the first NUL byte the header, its length made right, then values, eight times."""

from __future__ import annotations

import json

import torch

from fuzz import scratch
from fuzz.judging import check_told
from models.files import checkpoint, description, tensor_header
from models.files.description import CheckpointError
from models.files.tensor_file import DTYPES, NotFiniteError, TensorFile
from models.files.tensor_header import TensorFileError

TOKENS = (
    b'"F32"',
    b'"BF16"',
    b'"U8"',
    b'"shape":[',
    b'"data_offsets":[',
    b"1" + b"0" * 30,
    b"[" * 900,
    b"-1",
    b"null",
    b"[0,9223372036854775807]",
)
MOST_BYTES = 1 << 16


def one(data: bytes) -> None:
    """Read the header, every tensor, and the file as a model."""
    header, _, values = data.partition(b"\0")
    path = scratch.file("x.safetensors", len(header).to_bytes(8, "little") + header + (values * 8)[:MOST_BYTES])
    try:
        with TensorFile(path) as file:
            for name, entry in file.entries.items():
                try:
                    tensor = file.read(name, torch.float32)
                except NotFiniteError:
                    continue
                assert tuple(tensor.shape) == entry.shape
                assert entry.code in DTYPES
        tensor_header.digest(path)
    except TensorFileError:
        pass
    try:
        description.metadata(path)
        checkpoint.load(path)
    except CheckpointError as error:
        check_told(error)


def seeds() -> list[bytes]:
    """Two tensors, with metadata of a model and without."""
    header = {
        "__metadata__": {"format": description.FORMAT, "modalities": "imu", "sha256": "0" * 64, "sizes": _SIZES},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [], "data_offsets": [16, 18]},
    }
    whole = json.dumps(header, separators=(",", ":")).encode() + b"\0" + b"\0" * 18
    bare = json.dumps({"x": {"dtype": "F16", "shape": [3], "data_offsets": [0, 6]}}).encode() + b"\0" + bytes(6)
    return [whole, bare]


_SIZES = json.dumps({"embed_dim": 16, **{m: {"width": 8, "blocks": 1, "heads": 2} for m in ("vision", "imu")}})
