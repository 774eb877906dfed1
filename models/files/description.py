"""What weights say of themselves: metadata, modalities, hash. Reads headers alone, and imports no torch.

Weights are one safetensors file, or a folder with a file per modality, `vision.safetensors` and so on, so that only
what is enabled is read. The metadata of a file holds the format, the sizes as JSON, the modalities, the dtype, a hash,
and whatever the writer added (what it was trained on, licence, ...).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from common.errors import UserFault
from models.files import tensor_header
from models.files.tensor_header import DTYPE_WORDS, HASH, Header, TensorFileError, read_header
from models.modalities import MODALITIES, Modality

FORMAT: Final = "sensebind-imagebind-1"
SUFFIX: Final = ".safetensors"

_OF_ONE_MODEL: Final = ("sizes", "model", "source_sha256")
"""Metadata in which the files of a folder must agree: towers of different models share no space."""


class CheckpointError(UserFault):
    """A weights file or state dict cannot be used; one line: which, what is wrong, what to do."""


def metadata(path: Path) -> dict[str, str]:
    """Return the metadata beside the weights, without reading any tensor; of a folder, those that all its files share.

    Raises CheckpointError as `load` does.
    """
    files = files_of(path)
    return {**shared_metadata(files.values()), "modalities": ",".join(files)}


def content_hash(path: Path) -> str:
    """Return the first 12 hex digits of a SHA-256 that identifies the weights, for status and logs.

    That of a file is over its content; that of a folder over the hashes that its files store, so that gigabytes are not
    read at every start (`verify` says whether these hold). Raises CheckpointError.
    """
    if path.is_dir():
        hashes = [f"{modality} {_stored_hash(file)}" for modality, file in files_of(path).items()]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:12]
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()[:12]
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def verify(path: Path) -> None:
    """Read every byte and compare with the stored hashes; raises CheckpointError naming the first damaged file."""
    for file in dict.fromkeys(files_of(path).values()):
        stored = _stored_hash(file)
        with faults_of(file):
            found = tensor_header.digest(file)
        if found != stored:
            raise CheckpointError(
                f"{file}: damaged, its SHA-256 is {found} and was {stored}; fetch or import the weights again"
            )


def files_of(path: Path) -> dict[Modality, Path]:
    """Modality -> the file that holds it, in the order of MODALITIES. Raises CheckpointError."""
    if path.is_dir():
        files = {m: path / f"{m}{SUFFIX}" for m in MODALITIES if (path / f"{m}{SUFFIX}").is_file()}
        if not files:
            raise CheckpointError(f"{path}: holds no weights file such as vision{SUFFIX}; fetch or import them first")
        return files
    held = _file_metadata(path).get("modalities", "").split(",")
    if not set(held) & set(MODALITIES):
        raise CheckpointError(f"{path}: its metadata names no modality; fetch or train the weights again")
    return {m: path for m in MODALITIES if m in held}


def _file_metadata(path: Path) -> dict[str, str]:
    header = _header(path)
    stored, codes = header.metadata, {entry.code for entry in header.entries.values()}
    if stored.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a sensebind weights file (format {stored.get('format')!r}, not {FORMAT!r})")
    dtypes = sorted(DTYPE_WORDS[code] for code in codes if code in DTYPE_WORDS)
    # Keys that files from `models.training.train` lack, or spell otherwise.
    implied = {"dtype": ",".join(dtypes)} | ({"licence": stored["license"]} if "license" in stored else {})
    return implied | stored


def shared_metadata(files: Iterable[Path]) -> dict[str, str]:
    """Return the metadata that all files share. Raises CheckpointError when they are not towers of one model."""
    (first, shared), *others = [(file, _file_metadata(file)) for file in dict.fromkeys(files)]
    for file, stored in others:
        for key in _OF_ONE_MODEL:
            if stored.get(key) != shared.get(key):
                raise CheckpointError(
                    f"{file}: is of another model than {first.name} ({key} differs); import both anew"
                )
    return {key: value for key, value in shared.items() if all(stored.get(key) == value for _, stored in others)}


def _stored_hash(path: Path) -> str:
    stored = _file_metadata(path)
    if HASH not in stored:
        raise CheckpointError(f"{path}: stores no hash to compare with; it was written by an older version")
    return stored[HASH]


@contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """Make a CheckpointError that names the file of what is wrong with it."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file; fetch or train the weights first")
    try:
        yield
    except TensorFileError as error:
        raise CheckpointError(f"{path}: truncated or damaged ({error}); fetch or train the weights again") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def _header(path: Path) -> Header:
    with faults_of(path), path.open("rb") as file:
        return read_header(file)
