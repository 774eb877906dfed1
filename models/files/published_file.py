"""The published `.pth`: a zip of raw tensors with a pickle that says where they lie. Checked, mapped, never executed.

A mapped page counts as memory of the process once it is read, so the file is mapped anew whenever MAPPED_BYTES of it
have been read: a tower of any size is converted in the same memory.
"""

from __future__ import annotations

import os
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from models.files import checkpoint, description
from models.files.description import CheckpointError
from models.files.tensor_file import NotFiniteError
from models.imagebind import Sizes
from models.modalities import MODALITIES

Progress = Callable[[int, int], None]
"""Told bytes done and bytes in all."""

MAPPED_BYTES: Final = 1 << 27
PICKLE_MAX: Final = 1 << 24
"""A longer pickle is refused: that of ImageBind-Huge's 1311 tensors has a fifth of a megabyte."""
_BLOCK_BYTES: Final = 1 << 20

UNPICKLING_FAULTS: Final = (
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    MemoryError,
    struct.error,
)
"""Errors of torch.load for a pickle that is damaged or made up, beside OSError."""

_ZIP_FAULTS: Final = (zipfile.BadZipFile, RuntimeError, ValueError, LookupError, EOFError, struct.error)
"""Errors of zipfile for the same, beside OSError."""


class PublishedFileError(CheckpointError):
    """The file is not the published model; one line: which file, what is wrong, what to do."""


class PublishedFile:
    """The tensors of a published file, under our names; only some of the file is mapped and counted at any time.

    Raises PublishedFileError.
    """

    def __init__(self, path: Path, sizes: Sizes) -> None:
        _check_archive(path)
        self._path = path
        self._version = _version(path)
        self._tensors = _mapped(path)
        self._read_bytes = 0
        try:
            self._names = checkpoint.check_published(self._tensors, sizes)
        except CheckpointError as error:
            raise PublishedFileError(f"{path}: {error}") from None

    def read(self, name: str) -> Tensor:
        """A tensor, on mapped memory: use it before the next one is read, and let it go."""
        if self._read_bytes > MAPPED_BYTES:
            self._tensors = {}
            if _version(self._path) != self._version:
                raise PublishedFileError(f"{self._path}: was changed while it was read; import it again")
            self._tensors = _mapped(self._path)
            self._read_bytes = 0
        tensor = self._tensors[self._names[name]]
        self._read_bytes += tensor.nbytes
        return tensor


def convert(
    path: Path,
    sizes: Sizes,
    folder: Path,
    dtype: torch.dtype,
    metadata: Mapping[str, str],
    progress: Progress | None = None,
) -> None:
    """Write one safetensors file of `dtype` per modality into `folder`, tensor by tensor.

    Raises PublishedFileError, also for values that are not finite, and OSError.
    """
    file = PublishedFile(path, sizes)
    total = stored_bytes(sizes, dtype)
    done = 0

    def read(name: str) -> Tensor:
        nonlocal done
        tensor = file.read(name)
        done += tensor.numel() * dtype.itemsize
        if progress is not None:
            progress(done, total)
        return tensor

    for modality in MODALITIES:
        target = folder / f"{modality}{description.SUFFIX}"
        try:
            checkpoint.write(target, sizes, [modality], read, dtype, metadata)
        except NotFiniteError as error:
            fault = NotFiniteError(checkpoint.published_name(error.name), dtype)
            raise PublishedFileError(f"{path}: {fault}; fetch it again, or choose another dtype") from None


def check_parts(path: Path, progress: Progress | None = None) -> None:
    """Read every part and compare it with the checksum that the file has for it; raises PublishedFileError.

    Without a known hash, only this finds a part of a download that a loss of power left empty.
    """
    _check_archive(path)
    total = path.stat().st_size
    done = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as part:
                    while block := part.read(_BLOCK_BYTES):
                        done += len(block)
                        if progress is not None:
                            progress(done, total)
        if progress is not None:
            progress(total, total)  # names and padding are not parts
    except _ZIP_FAULTS as error:
        raise PublishedFileError(f"{path}: damaged ({_one_line(error)}); fetch it again") from None
    except OSError as error:
        raise PublishedFileError(f"{path}: cannot be read ({error.strerror})") from None


def stored_bytes(sizes: Sizes, dtype: torch.dtype) -> int:
    """Return the bytes of all towers on disk."""
    return sum(shape.numel() for shape in checkpoint.tensor_shapes(sizes).values()) * dtype.itemsize


def _check_archive(path: Path) -> None:
    """Raise PublishedFileError unless this is a zip as torch.save writes it, with nothing to unpack or execute."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if start != b"PK\x03\x04":
            raise PublishedFileError(
                f"{path}: is not in the zip format of torch.save (PyTorch 1.6 and later); only that is read"
            )
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except _ZIP_FAULTS as error:
        raise PublishedFileError(f"{path}: truncated or damaged ({_one_line(error)}); fetch it again") from None
    except OSError as error:
        raise PublishedFileError(f"{path}: cannot be read ({error.strerror})") from None
    pickles = [member for member in members if member.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or any(member.filename.endswith("/constants.pkl") for member in members):
        raise PublishedFileError(f"{path}: is not a state dict that torch.save wrote; only that is read")
    if pickles[0].file_size > PICKLE_MAX or any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise PublishedFileError(f"{path}: refused, its parts are compressed or its pickle is too long to be a model's")


def _mapped(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about a made-up pickle: it ends in one of the faults
            state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except UNPICKLING_FAULTS as error:
        if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise PublishedFileError(
                f"{path}: refused, its pickle asks for {asked[1]}, and only tensors are read"
            ) from None
        raise PublishedFileError(f"{path}: damaged, its pickle cannot be read ({_one_line(error)})") from None
    except OSError as error:
        raise PublishedFileError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(state, dict):
        raise PublishedFileError(f"{path}: holds a {type(state).__name__}, not a state dict")
    for name, value in state.items():
        if not isinstance(name, str) or not name.isprintable() or not isinstance(value, Tensor):
            raise PublishedFileError(f"{path}: is not a state dict: it has {name!r:.60}, a {type(value).__name__}")
    return dict(state)


def _version(path: Path) -> tuple[int, int, int]:
    """Differs once the file is replaced or written to. Raises PublishedFileError."""
    try:
        stat = os.stat(path)
    except OSError as error:
        raise PublishedFileError(f"{path}: cannot be read ({error.strerror})") from None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _one_line(error: BaseException) -> str:
    """Return the error as one line, without PyTorch's advice to load the file in spite of it."""
    _, _, reason = str(error).rpartition("WeightsUnpickler error: ")
    return " ".join(reason.split())[:120] or type(error).__name__
