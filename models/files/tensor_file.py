"""Safetensors files, a piece of a tensor at a time: nothing is mapped, and no file is ever whole in memory.

The safetensors package maps what it reads. Mapped pages count as memory of the process, and a mapped file that somebody
cuts short kills the process. Here tensors are read with plain reads into memory of their own, and converted on the way.

`tensor_header` says how such a file begins.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import torch
from torch import Tensor

from models.files.tensor_header import DTYPE_WORDS, HASH, NO_HASH, TensorFileError, read_header

PIECE_VALUES: Final = 2_000_000
"""Values that are converted at once: bounds the memory beside the tensor itself to some 16 MB."""
DTYPES: Final[Mapping[str, torch.dtype]] = {code: getattr(torch, word) for code, word in DTYPE_WORDS.items()}
_CODES: Final = {dtype: code for code, dtype in DTYPES.items()}


class NotFiniteError(ValueError):
    """A tensor holds NaN or infinity, or does so once it is converted."""

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        super().__init__(f"{name} holds NaN or infinite values as {str(dtype).removeprefix('torch.')}")
        self.name = name


class TensorFile:
    """An open file: its metadata and entries are read and checked, its tensors are read when asked for.

    Raises TensorFileError and OSError.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        try:
            header = read_header(self._file)
        except BaseException:
            self._file.close()
            raise
        self.metadata, self.entries = header.metadata, header.entries

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, name: str, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
        """A tensor as `dtype` on `device`, in memory of its own; raises NotFiniteError too."""
        entry = self.entries[name]
        if entry.code not in DTYPES:
            raise TensorFileError(f"{name} has dtype {entry.code}; it must be one of {', '.join(DTYPES)}")
        stored = DTYPES[entry.code]
        tensor = torch.empty(entry.shape, dtype=dtype, device=device)
        values = tensor.view(-1)
        buffer = torch.empty(min(PIECE_VALUES, values.numel()), dtype=stored)
        self._file.seek(entry.begin)
        for piece in _pieces(values):
            read = buffer[: piece.numel()]
            self._fill(_bytes_of(read))
            piece.copy_(_finite(read.to(dtype), name))
        return tensor

    def _fill(self, target: memoryview) -> None:
        while target:
            count = self._file.readinto(target)
            if not count:
                raise TensorFileError("it was cut short while it was read")
            target = target[count:]


def write(
    path: Path,
    shapes: Mapping[str, torch.Size],
    read: Callable[[str], Tensor],
    dtype: torch.dtype,
    metadata: Mapping[str, str],
) -> None:
    """Write a new file of `dtype` tensors, which `read` gives one after the other, and make it durable.

    Scalars are float32 whatever `dtype` is: bfloat16 would change a logit scale by a percent, to save two bytes.
    The metadata gets HASH, which `digest` computes anew. After an error the file is not valid. Raises
    TypeError for metadata that is not text, NotFiniteError, OSError.
    """
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise TypeError(f"metadata {key} is {value!r}; metadata is text")
    shapes = dict(sorted(shapes.items(), key=lambda item: len(item[1]) > 0))  # scalars first, where they are aligned
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for block in _blocks(shapes, read, dtype, metadata):
            file.write(block)
            digest.update(block)
        file.seek(0)
        file.write(_header(shapes, dtype, {**metadata, HASH: digest.hexdigest()}))
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o644)  # the robot may run as another user than the one who wrote the file


def _blocks(
    shapes: Mapping[str, torch.Size], read: Callable[[str], Tensor], dtype: torch.dtype, metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    yield _header(shapes, dtype, {**metadata, HASH: NO_HASH})
    for name, shape in shapes.items():
        for piece in _pieces(read(name).detach().reshape(-1)):
            yield _bytes_of(_finite(piece.to("cpu", _stored_as(shape, dtype)), name).contiguous())


def _header(shapes: Mapping[str, torch.Size], dtype: torch.dtype, metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    begin = 0
    for name, shape in shapes.items():
        stored = _stored_as(shape, dtype)
        end = begin + math.prod(shape) * stored.itemsize
        header[name] = {"dtype": _CODES[stored], "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the values begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def _stored_as(shape: torch.Size, dtype: torch.dtype) -> torch.dtype:
    return dtype if shape else torch.float32


def _pieces(values: Tensor) -> Iterator[Tensor]:
    for begin in range(0, values.numel(), PIECE_VALUES):
        yield values[begin : begin + PIECE_VALUES]


def _finite(piece: Tensor, name: str) -> Tensor:
    if piece.numel():
        least, most = piece.aminmax()  # NaN when any value is; `isfinite` takes 15 times as long
        if not (least.isfinite() and most.isfinite()):
            raise NotFiniteError(name, piece.dtype)
    return piece


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.view(torch.uint8).numpy().data
