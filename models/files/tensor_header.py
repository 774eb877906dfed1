"""The header of a safetensors file: its metadata, and where its tensors lie. Imports no torch.

The format (https://huggingface.co/docs/safetensors): 8 bytes, the length of the header, little-endian; the header, JSON
from a tensor's name to its dtype, shape and place; the values, little-endian, tensor after tensor without gaps.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

HEADER_MAX: Final = 8_000_000
"""Longer headers are refused: that of ImageBind-Huge has 0.2 MB."""
HASHED_BYTES: Final = 1 << 22
DTYPE_WORDS: Final[Mapping[str, str]] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""The format's words for the dtypes that are read here, and torch's."""
_ITEM_BYTES: Final = {"F32": 4, "BF16": 2, "F16": 2}

HASH: Final = "sha256"
"""Metadata key: SHA-256 of the whole file as it was with NO_HASH in place of these 64 digits."""
NO_HASH: Final = "0" * 64


class TensorFileError(ValueError):
    """The file is cut, damaged, or no safetensors file."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Place of a tensor: bytes `begin` to `end` from the file's start."""

    code: str
    """The format's word for the dtype, of which DTYPE_WORDS has those that are read here."""
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a file, checked."""

    text: bytes
    """As it stands in the file."""
    metadata: dict[str, str]
    entries: dict[str, TensorEntry]


def read_header(file: BinaryIO) -> Header:
    """Read the header of a file that is open at its start. Raises TensorFileError and OSError."""
    text = _read_text(file)
    metadata, entries = _parse(text, os.fstat(file.fileno()).st_size)
    return Header(text, metadata, entries)


def digest(path: Path) -> str:
    """The hash of a file, to compare with the HASH that it stores. Raises TensorFileError and OSError."""
    with path.open("rb") as file:
        header = read_header(file)
        found = hashlib.sha256(len(header.text).to_bytes(8, "little"))
        found.update(header.text.replace(_hash_field(header.metadata.get(HASH, "")), _hash_field(NO_HASH), 1))
        while block := file.read(HASHED_BYTES):
            found.update(block)
    return found.hexdigest()


def _hash_field(digits: str) -> bytes:
    return f'"{HASH}":"{digits}"'.encode()


def _read_text(file: BinaryIO) -> bytes:
    length = int.from_bytes(file.read(8), "little")
    if length > HEADER_MAX:
        raise TensorFileError(f"its header would have {length} bytes, and {HEADER_MAX} are the most")
    header = file.read(length)
    if len(header) < length or not header:
        raise TensorFileError("it ends within its header")
    return header


def _parse(header: bytes, file_size: int) -> tuple[dict[str, str], dict[str, TensorEntry]]:
    """Metadata and entries; raises TensorFileError unless the tensors fill the file exactly."""
    try:
        tree = json.loads(header)
        metadata = tree.pop("__metadata__", {})
        if any(not isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata is not text")
        if names := [name for name in tree if not name.isprintable()]:
            raise ValueError(f"a tensor is called {names[0]!r}")
        entries = {name: _entry(fields, 8 + len(header)) for name, fields in tree.items()}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise TensorFileError(f"its header cannot be read: {' '.join(str(error).split())[:100]}") from None
    end = 8 + len(header)
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != end:
            raise TensorFileError(f"{name} begins at byte {entry.begin}, and the tensor before it ends at {end}")
        end = entry.end
    if end != file_size:
        raise TensorFileError(f"it has {file_size} bytes, and its header describes {end}")
    return metadata, entries


def _entry(fields: Mapping[str, Any], start: int) -> TensorEntry:
    code, shape, (begin, end) = fields["dtype"], tuple(fields["shape"]), fields["data_offsets"]
    if not isinstance(code, str) or any(type(n) is not int or n < 0 for n in (*shape, begin, end)) or end < begin:
        raise ValueError(f"a tensor of {code}, shape {fields['shape']}, bytes {begin} to {end}")
    if code in _ITEM_BYTES and math.prod(shape) * _ITEM_BYTES[code] != end - begin:
        raise ValueError(f"a tensor of {code} and shape {fields['shape']} has {end - begin} bytes")
    return TensorEntry(code, shape, start + begin, start + end)
